"""Files that kdcore does not read: which they are, and the one command that turns them into files that it does.

Formats that point to further files (VRT) are not opened at all: such a file may name any other file of this machine.
"""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdcore.data.folder_tree import PARTS, parent, suffix_of
from kdcore.reading import read_start

SIDE_FILES = (
    ".xml",
    ".tfw",
    ".tifw",
    ".jgw",
    ".jpgw",
    ".pgw",
    ".pngw",
    ".wld",
    ".prj",
    ".cpg",
    ".qpj",
    ".qix",
    ".shx",
    ".dbf",
    ".ovr",
    ".msk",
)
RASTERS = {
    ".img": "an Erdas or ENVI image",
    ".dat": "an ENVI image",
    ".bsq": "a raw image",
    ".bil": "a raw image",
    ".bip": "a raw image",
    ".webp": "a WebP picture",
    ".gif": "a GIF picture",
    ".bmp": "a BMP picture",
    ".asc": "an ASCII grid",
    ".vrt": "a VRT, which points to other files",
    ".ecw": "an ECW image",
    ".sid": "a MrSID image",
    ".rst": "an Idrisi image",
    ".grd": "a grid",
    ".pix": "a PCIDSK image",
    ".ntf": "a NITF image",
}
CUBES = (".nc", ".nc4", ".hdf", ".h5", ".hdf5", ".he5", ".grib", ".grb", ".grib2", ".zarr")
VECTORS = {".kml": "KML", ".gml": "GML", ".gpx": "GPX", ".tab": "MapInfo", ".mif": "MapInfo", ".dxf": "DXF"}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")

PLAIN = re.compile(r"[\w ./+,=@~-]*")  # what may stand in a command that a person pastes into a shell

ARRAYS = """python -c "import numpy, rasterio, pathlib
for f in pathlib.Path('{folder}').glob('*.npy'):
    a = numpy.load(f); a = a if a.ndim == 3 else a[None]  # bands first
    with rasterio.open(f.with_suffix('.tif'), 'w', driver='GTiff', count=a.shape[0], height=a.shape[1], width=a.shape[2], dtype=a.dtype) as t: t.write(a)\""""
TABLES = """python -c "import geopandas, pathlib
for f in pathlib.Path('{folder}').glob('*{suffix}'): geopandas.read_file(f).to_file(f.with_suffix('.gpkg'))\""""
COCO = """python -c "import json, pathlib; from PIL import Image, ImageDraw
d = json.load(open('{file}')); pathlib.Path('masks').mkdir(exist_ok=True)
for i in d['images']:
    m = Image.new('L', (i['width'], i['height']))
    for a in d['annotations']:
        if a['image_id'] == i['id']: [ImageDraw.Draw(m).polygon(s, fill=a['category_id']) for s in a['segmentation']]
    m.save(pathlib.Path('masks', pathlib.Path(i['file_name']).stem + '.png'))\""""
YOLO = """python -c "import pathlib, rasterio; from PIL import Image, ImageDraw
pathlib.Path('masks').mkdir(exist_ok=True)
for f in pathlib.Path('{folder}').glob('*.txt'):
    r = rasterio.open(next(p for p in pathlib.Path('{images}').glob(f.stem + '.*') if p.suffix != '.txt')); m = Image.new('L', (r.width, r.height))
    for c, *v in map(str.split, open(f)):
        v = list(map(float, v)); ImageDraw.Draw(m).polygon([(x * r.width, y * r.height) for x, y in zip(v[::2], v[1::2])], fill=1 + int(c))
    m.save(pathlib.Path('masks', f.stem + '.png'))\""""


def explain_unread(
    root: Path, names: Sequence[str], readable: Sequence[str], images: str
) -> tuple[list[str], list[str]]:
    """What to say about files that are neither rasters nor vector files that can be read.

    Args:
        root: the folder.
        names: paths of these files inside it.
        readable: paths of those that are read.
        images: the folder of the images, for commands that need their sizes.

    Returns:
        Sentences with a command each, for files that seem to be imagery or labels; and notes on the rest.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        groups.setdefault((parent(name), suffix_of(name)), []).append(name)
    headers = {name.lower() for name in names if suffix_of(name) == ".hdr"}
    stems = {Path(name).stem for name in readable}
    problems, rest = [], Counter[str]()
    for (folder, suffix), files in groups.items():
        what = explain_group(root, folder, suffix, files, images, stems)
        if what is not None:
            problems.append(f"{some_files(files)}: {what}")
        elif (
            suffix not in SIDE_FILES
            and not all(Path(name).stem.lower() in PARTS for name in files)
            and not any(name.lower() in headers for name in files)
        ):
            rest[f"{folder}/" if folder else "the folder itself"] += len(files)
    notes = [
        f"{folder}: {count} other file{'s are' if count > 1 else ' is'} not used." for folder, count in rest.items()
    ]
    return problems, notes


def explain_group(root: Path, folder: str, suffix: str, files: list[str], images: str, stems: set[str]) -> str | None:
    """What files of one folder and suffix are, and the command that converts them; None where they are nothing of ours."""
    first = files[0]
    target = first.rpartition(".")[0]
    if not PLAIN.fullmatch(f"{folder}{first if suffix in CUBES or suffix == '.json' else ''}{images}"):
        first_known = suffix in (*RASTERS, *CUBES, *VECTORS, ".npy", ".npz")
        return (
            "is not read, and its path has signs that a shell would take for commands. Rename it, and inspect again."
            if first_known
            else None
        )
    if suffix in RASTERS:
        command = (
            f"rio convert {shlex.quote(first)} {shlex.quote(target + '.tif')}"
            if len(files) == 1
            else loop(folder, suffix)
        )
        return f"{RASTERS[suffix]}, is not read. Convert it in {root}: {command}"
    if suffix in CUBES:
        return f"holds several grids and is not read. Convert the one that is meant, in {root}: rio convert 'netcdf:{first}:VARIABLE' '{target}.tif'"
    if suffix in VECTORS:
        command = TABLES.format(folder=folder or ".", suffix=suffix)
        return f"{VECTORS[suffix]} is not read. Convert it in {root}: {command}"
    if suffix in (".npy", ".npz"):
        return f"NumPy arrays are not read. Convert them in {root}: {ARRAYS.format(folder=folder or '.')}"
    if suffix in ARCHIVES:
        return "is an archive. Unpack it, and inspect again."
    if suffix == ".json":
        return explain_json(root, first)
    if suffix == ".txt" and sum(Path(name).stem in stems for name in files) > len(files) / 2:
        return explain_yolo(root, folder, first, images)
    return None


def loop(folder: str, suffix: str) -> str:
    """A shell's loop that converts all rasters of a folder."""
    place = f"{shlex.quote(folder)}/" if folder else ""
    return f'for f in {place}*{suffix}; do rio convert "$f" "${{f%{suffix}}}.tif"; done'


def explain_json(root: Path, name: str) -> str | None:
    """Labels in JSON that is no GeoJSON: COCO and LabelMe."""
    start = read_start(root / name, 1 << 20)
    if b'"annotations"' in start and b'"images"' in start:
        return f"is a COCO file, whose polygons are in pixels. Turn it into masks, in {root}: {COCO.format(file=name)}"
    if b'"shapes"' in start and b'"imagePath"' in start:
        return "is a LabelMe file, whose polygons are in pixels. Turn each into a mask with LabelMe's own labelme_export_json."
    return None


def explain_yolo(root: Path, folder: str, name: str, images: str) -> str | None:
    """Text files beside images: outlines or boxes of YOLO."""
    try:
        lines = read_start(root / name, 1 << 20).decode(errors="replace").splitlines()[:1000]
        numbers = [[float(value) for value in line.split()] for line in lines if line.strip()]
    except ValueError:
        return None
    if not numbers or not all(len(line) >= 5 and line[0].is_integer() for line in numbers):
        return None
    if all(len(line) == 5 for line in numbers):
        return "YOLO boxes say where objects are, not which pixels; segmentation needs outlines or masks."
    return f"YOLO outlines are in shares of the image. Turn them into masks, in {root}: {YOLO.format(folder=folder, images=images)}"


def some_files(names: Sequence[str]) -> str:
    """One file by its name, several by their number."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
