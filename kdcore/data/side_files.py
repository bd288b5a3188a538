"""Files beside a raster that GDAL reads with it: only those that hold what they show themselves.

An overview or mask may be a virtual raster, and the metadata of a file, inside it or beside it, may name another file as its
overviews. Either can replace the pixels that are read by those of another file, or of an address.
"""

import os
from itertools import product
from pathlib import Path

import rasterio

from kdcore.bounded import remembered
from kdcore.errors import DataError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PIXELS = (".ovr", ".msk", ".msk.ovr", ".ovr.msk")  # behind the whole name
TEXTS = (".aux.xml", ".aux")  # likewise
BESIDE = (".aux", ".aux.xml", ".imd", ".rpb", ".prj", ".tab", ".wld", ".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".pgw", ".pngw", ".j2w", ".jp2w")  # fmt: skip


def check_side_files(path: Path) -> None:
    """Refuse what lies beside a raster and could be something else than it seems; before the raster is opened.

    Raises:
        DataError: a pipe or device, or an overview or mask that is no TIFF; names the file.
    """
    for side, end in side_files(path):
        if not side.is_file():
            raise DataError(
                f"{side}: is no regular file but would be read together with {path.name}. Remove it or rename it."
            )
        if end in PIXELS and not starts_as_tiff(side):
            raise DataError(
                f"{side}: is no TIFF, so it may show the pixels of other files or addresses in place of those of {path.name}. "
                f"Remove it; `gdaladdo -ro {path.name}` makes overviews anew."
            )


def side_files(path: Path) -> list[tuple[Path, str]]:
    """The files that there are beside a raster, and the end of their names."""
    there = listed(path.parent)
    ends = (*product((path.name,), (*PIXELS, *TEXTS)), *product((path.stem,), BESIDE))
    names = ((base + each, end) for base, end in ends for each in (end, end.upper()))
    return [
        (path.with_name(name), end)
        for name, end in names
        if (there is None or name in there) and path.with_name(name).exists()
    ]


def state(path: Path) -> tuple[int, ...]:
    """What changes when a raster or a file beside it is written anew, so that what was read of it can be kept until then.

    Raises:
        OSError: there is no such file.
    """
    known = [path.stat(), *(side.stat() for side, _ in side_files(path))]
    return tuple(number for one in known for number in (one.st_mtime_ns, one.st_size, one.st_ino))


@remembered(64)
def listed(folder: Path) -> frozenset[str] | None:
    """Names in a folder, which are asked for forty side files of each raster.

    None where the folder may be entered but not listed.
    """
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return None


def starts_as_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    with path.open("rb") as file:
        return file.read(4) in TIFF


def check_overviews(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Refuse a raster whose metadata name another file as its overviews; before any pixel is read.

    Raises:
        DataError: names the other file.
    """
    named = {key.upper(): value for key, value in dataset.tags(ns="OVERVIEWS").items()}  # GDAL takes any case
    elsewhere = named.get("OVERVIEW_FILE")
    if elsewhere is not None:
        raise DataError(
            f"{path}: its metadata name {elsewhere[:200]!r} as its overviews, whose pixels would be shown in place of its own. "
            f"Remove the item OVERVIEW_FILE (it stands in the file or in {path.name}.aux.xml), or write the raster anew with `gdal_translate`."
        )
