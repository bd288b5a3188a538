"""Rasters: broken, huge, misnamed, at no place, with files beside them that lead elsewhere."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.corpus.place import Case, Place, Right

SHORT, LONG, DOUBLE, ASCII = 3, 4, 12, 2
FORMATS = {SHORT: "H", LONG: "I", DOUBLE: "d"}
Tags = dict[int, tuple[int, list[float]] | tuple[int, bytes]]


def tiff(tags: Tags, after: bytes = b"", next_ifd: int = 0, count: int | None = None) -> bytes:
    """A little-endian TIFF of one directory at byte 8: tags in order, then their long values, then `after`.

    An offset of -1 in a tag of strips stands for where `after` begins.
    """
    directory = 8 + 2 + 12 * len(tags) + 4
    packed, long_values = [], b""
    sizes = {tag: struct.calcsize(f"<{len(values)}{FORMATS[kind]}") if kind != ASCII else len(values) for tag, (kind, values) in tags.items()}  # fmt: skip
    data_at = directory + sum(size for size in sizes.values() if size > 4)
    for tag, (kind, values) in sorted(tags.items()):
        real = values if kind == ASCII else struct.pack(f"<{len(values)}{FORMATS[kind]}", *[data_at if v == -1 else int(v) if kind != DOUBLE else v for v in values])  # fmt: skip
        if len(real) > 4:
            field = struct.pack("<I", directory + len(long_values))
            long_values += real
        else:
            field = real.ljust(4, b"\0")
        packed.append(struct.pack("<HHI", tag, kind, len(values)) + field)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags) if count is None else count)
    return head + b"".join(packed) + struct.pack("<I", next_ifd) + long_values + after


def gray(**changes: tuple[int, list[float]]) -> bytes:
    """An 8-bit TIFF of 64 x 64 pixels in one strip, some tags replaced (names as in `TAGS`)."""
    tags: Tags = {256: (LONG, [64]), 257: (LONG, [64]), 258: (SHORT, [8]), 259: (SHORT, [1]), 262: (SHORT, [1]), 273: (LONG, [-1]), 277: (SHORT, [1]), 278: (LONG, [64]), 279: (LONG, [4096])}  # fmt: skip
    for name, value in changes.items():
        if value[1] == []:
            del tags[TAGS[name]]
        else:
            tags[TAGS[name]] = value
    return tiff(tags, bytes(np.random.default_rng(0).integers(0, 3, 4096, dtype=np.uint8)))


TAGS = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offsets": 273, "samples": 277, "rows": 278, "counts": 279, "planar": 284, "predictor": 317, "tile_width": 322, "tile_height": 323, "tile_offsets": 324, "tile_counts": 325, "sub": 330, "format": 339}  # fmt: skip


def loop(to: int) -> bytes:
    """A directory whose next one is at byte `to`."""
    return gray()[:118] + struct.pack("<I", to) + gray()[122:]


def places(place: Place) -> list[int]:
    """Where the structures of `mask.tif` lie: after the header, inside and after the directory, inside the pixels."""
    data = (place.base / "mask.tif").read_bytes()
    (ifd,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack("<H", data[ifd : ifd + 2])
    return [0, 2, 4, 7, 8, ifd + 1, ifd + 2 + 6, ifd + 2 + 12 * (entries // 2), ifd + 2 + 12 * entries, len(data) // 2, len(data) - 1000]  # fmt: skip


def cut(index: int) -> Callable[[Place], list[str | Path]]:
    return lambda place: [place.write("x.tif", (place.base / "mask.tif").read_bytes()[: places(place)[index]])]


def file(data: bytes, name: str = "x.tif") -> Callable[[Place], list[str | Path]]:
    return lambda place: [place.write(name, data)]


def flipped(seed: int) -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        data = bytearray((place.base / "mask.tif").read_bytes())
        rng = np.random.default_rng(seed)
        for at in rng.integers(0, 700, 20):
            data[at] ^= int(rng.integers(1, 256))
        return [place.write("x.tif", bytes(data))]

    return make


def written(**options: object) -> Callable[[Place], list[str | Path]]:
    """A raster by rasterio with the options of `tests.conftest.write_raster`; `shape` and `dtype` of zeros."""

    def make(place: Place) -> list[str | Path]:
        from tests.conftest import write_raster

        values = dict(options)
        shape, dtype = values.pop("shape", (64, 64)), values.pop("dtype", np.uint8)
        return [write_raster(place.folder / "x.tif", np.zeros(shape, dtype), **values)]

    return make


def sparse(width: int, height: int, bands: int = 1, dtype: str = "uint8") -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        import rasterio
        from affine import Affine

        path, side = place.folder / "x.tif", 512 if width < 500_000 else 16_384
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=dtype, tiled=True, blockxsize=side, blockysize=side, sparse_ok=True, BIGTIFF="YES", crs="EPSG:32633", transform=Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
        ):  # fmt: skip
            pass
        return [path]

    return make


def bomb(place: Place) -> list[str | Path]:
    """A mask of 20,000 x 20,000 zeros, deflated to a few hundred kilobytes."""
    import rasterio

    path = place.folder / "x.tif"
    row = np.zeros((1, 2000, 20_000), np.uint8)
    with rasterio.open(path, "w", driver="GTiff", width=20_000, height=20_000, count=1, dtype="uint8", compress="deflate", tiled=True, blockxsize=2048, blockysize=2048) as made:  # fmt: skip
        for top in range(0, 20_000, 2000):
            made.write(row, window=((top, top + 2000), (0, 20_000)))
    return [path]


def png(width: int, height: int, data: bytes | None = None, colour: int = 0) -> bytes:
    """A PNG that declares a size; its pixels are zeros unless given."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = zlib.compress(b"\0" * (min(height, 3000) * (width + 1))) if data is None else data
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jp2(place: Place, width: int | None = None) -> bytes:
    """A small JPEG 2000 file, whose header may declare another width."""
    import rasterio

    path = place.out / "made.jp2"
    with rasterio.open(path, "w", driver="JP2OpenJPEG", width=64, height=64, count=1, dtype="uint8") as made:
        made.write(np.zeros((1, 64, 64), np.uint8))
    data = path.read_bytes()
    for extra in place.out.glob("made.*"):
        extra.unlink()
    if width is None:
        return data
    at = data.index(b"\xff\x4f\xff\x51") + 8  # SOC, SIZ, Lsiz, Rsiz; then Xsiz, Ysiz
    box = data.index(b"ihdr") + 4
    data = data[:box] + struct.pack(">II", width, width) + data[box + 8 :]
    data = data[:at] + struct.pack(">II", width, width) + data[at + 8 :]
    return data[: at + 16] + struct.pack(">II", width, width) + data[at + 24 :]


def beside(end: str, text: str | bytes, of: str = "image.tif") -> Callable[[Place], list[str | Path]]:
    """A sound raster with a file beside it; ADDRESS in the text is the listening port."""

    def make(place: Place) -> list[str | Path]:
        path = place.copy(of, "x.tif")
        data = text if isinstance(text, bytes) else text.replace("ADDRESS", place.address).encode()
        place.write(f"x{end}", data)
        return [path]

    return make


VRT = '<VRTDataset rasterXSize="96" rasterYSize="96"><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>/vsicurl/ADDRESS/a.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'  # fmt: skip
OVERVIEWS = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/ADDRESS/o.ovr</MDI></Metadata></PAMDataset>'  # fmt: skip


def device(target: str) -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        path = place.folder / "x.tif"
        if target == "fifo":
            os.mkfifo(path)
        elif target == "folder":
            path.mkdir()
        elif target == "itself":
            path.symlink_to(path)
        elif target == "nowhere":
            path.symlink_to(place.folder / "gone.tif")
        else:
            path.symlink_to(target)
        return [path]

    return make


def called(name: str | bytes) -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        text = os.fsdecode(name)
        path = place.folder / text
        path.write_bytes((place.base / "image.tif").read_bytes())
        return [path]

    return make


def folder_of(name: str | bytes) -> Callable[[Place], list[str | Path]]:
    """A folder of images and masks, one of which bears the name."""

    def make(place: Place) -> list[str | Path]:
        root = place.copy("collection", "c")
        (root / "collection.yaml").unlink()
        text = os.fsdecode(name)
        for kind in ("images", "masks"):
            (root / kind / text).write_bytes((root / kind / "a.tif").read_bytes())
            (root / kind / "a.tif").unlink()
        return [root]

    return make


def damaged_folder(which: str, change: Callable[[Place, bytes], bytes | None]) -> Callable[[Place], list[str | Path]]:
    """The sound collection with one file changed."""

    def make(place: Place) -> list[str | Path]:
        root = place.copy("collection", "c")
        data = change(place, (root / which).read_bytes())
        if data is not None:
            place.write(f"c/{which}", data)
        return [root]

    return make


def linked_folders(place: Place) -> list[str | Path]:
    root = place.copy("collection", "c")
    (root / "collection.yaml").unlink()
    (root / "images" / "round").symlink_to(root)
    (root / "back").symlink_to(root / "images")
    return [root]


def deep_folders(place: Place) -> list[str | Path]:
    path = place.folder / "c"
    for _ in range(200):
        path = path / "images"
    path.mkdir(parents=True)
    return [place.folder / "c"]


def forbidden(place: Place) -> list[str | Path]:
    root = place.copy("collection", "c")
    (root / "collection.yaml").unlink()
    (root / "images").chmod(0)
    return [root]


def forbidden_file(place: Place) -> list[str | Path]:
    path = place.copy("image.tif", "x.tif")
    path.chmod(0)
    return [path]


def many_bands(bands: int) -> bytes:
    return gray(samples=(SHORT, [bands]), planar=(SHORT, [1]), width=(LONG, [1]), height=(LONG, [1]), rows=(LONG, [1]))


MARS = 'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190.0,169.89444722361179]],PRIMEM["Reference_Meridian",0.0],UNIT["Degree",0.0174532925199433]]'  # fmt: skip
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


def inspected(name: str, kind: str, make: Callable[[Place], list[str | Path]], right: Right = "refused", says: str = "", user: bool = False) -> Case:  # fmt: skip
    return Case(
        name,
        "data inspect",
        kind,
        lambda place: [*make(place), "--out", place.out / "proposed.yaml"],
        right,
        says,
        user,
    )


CUT = "rasters cut or damaged"
HUGE = "rasters of no usable size"
LIES = "headers that lie"
BESIDE = "files beside a raster that lead elsewhere"
NAMES = "names of files"
DEVICES = "pipes, devices, links, rights"
WHERE = "rasters at no place"

WRONG_TAGS = {
    "no width": {"width": (LONG, [])},
    "width 0": {"width": (LONG, [0])},
    "width 4294967295": {"width": (LONG, [2**32 - 1])},
    "both sides 4294967295": {"width": (LONG, [2**32 - 1]), "height": (LONG, [2**32 - 1])},
    "both sides 2147483647 in rows of 1": {"width": (LONG, [2**31 - 1]), "height": (LONG, [2**31 - 1]), "rows": (LONG, [1])},
    "height 0": {"height": (LONG, [0])},
    "0 bands": {"samples": (SHORT, [0])},
    "65,535 bands": {"samples": (SHORT, [65535])},
    "7 bits": {"bits": (SHORT, [7])},
    "64 bits of no known kind": {"bits": (SHORT, [64]), "format": (SHORT, [9])},
    "unknown compression": {"compression": (SHORT, [60000])},
    "says LZW, is raw": {"compression": (SHORT, [5])},
    "says deflate, is raw": {"compression": (SHORT, [8])},
    "says JPEG, is raw": {"compression": (SHORT, [7])},
    "strip beyond the end": {"offsets": (LONG, [10**9])},
    "strip in the header": {"counts": (LONG, [2**32 - 1])},
    "strips of 0 bytes": {"counts": (LONG, [0])},
    "rows of 0": {"rows": (LONG, [0])},
    "no offsets": {"offsets": (LONG, []), "counts": (LONG, [])},
    "a tile of a billion pixels": {"tile_width": (LONG, [2**30]), "tile_height": (LONG, [2**30]), "tile_offsets": (LONG, [300]), "tile_counts": (LONG, [10])},
    "tiles of 17 pixels": {"tile_width": (LONG, [17]), "tile_height": (LONG, [17]), "tile_offsets": (LONG, [300]), "tile_counts": (LONG, [10])},
    "predictor 9 with deflate": {"predictor": (SHORT, [9]), "compression": (SHORT, [8])},
}  # fmt: skip
# Raw pixels stay raw: GDAL reads past the bytes that are counted, or takes the image for one of zeros.
WORKS_ALL_THE_SAME = {
    "7 bits",
    "tiles of 17 pixels",
    "strips of 0 bytes",
    "rows of 0",
    "no offsets",
    "strip in the header",
    "65,535 bands",
}

CASES: list[Case] = [
    *(inspected(f"cut at structure {index}", CUT, cut(index), says=r"x\.tif") for index in range(11)),
    *(inspected(f"20 bytes of the header changed, {seed}", CUT, flipped(seed), "either") for seed in range(12)),
    *(
        inspected(f"tag: {name}", LIES, file(gray(**changes)), "either" if name in WORKS_ALL_THE_SAME else "refused")
        for name, changes in WRONG_TAGS.items()
    ),
    inspected("a directory that follows itself", LIES, file(loop(8)), "either"),
    inspected("a directory in the middle of nowhere", LIES, file(loop(10**9)), "either"),
    inspected("65,535 tags in 200 bytes", LIES, file(tiff({256: (LONG, [64])}, count=65535))),
    inspected("its first directory is beyond the end", LIES, file(b"II*\0\xff\xff\xff\x7f")),
    inspected("a BigTIFF header only", LIES, file(b"II+\0\x08\0\0\0" + b"\xff" * 8)),
    inspected("big-endian rubbish", LIES, file(b"MM\0*" + bytes(range(256)))),
    inspected("65,535 bands in 1 pixel", HUGE, file(many_bands(65535)), "either"),
    inspected("zeros for a name of TIFF", LIES, file(b"\0" * 5000)),
    inspected("a text called TIFF", LIES, file(b"hello")),
    inspected("a VRT called TIFF", BESIDE, lambda place: [place.write("x.tif", VRT.replace("ADDRESS", place.address))]),
    inspected("a sparse mask of 10 million pixels a side", HUGE, sparse(10_000_000, 10_000_000)),
    inspected("a sparse mask of 400,000 pixels a side", HUGE, sparse(400_000, 400_000)),
    inspected("a sparse mask of 200,000 pixels a side", HUGE, sparse(200_000, 200_000), "works"),
    inspected("a sparse image of 1,000 bands", HUGE, sparse(5_000, 5_000, 1_000, "float32"), "works"),
    inspected("a mask of 400 megapixels of zeros", HUGE, bomb, "works"),
    inspected("a PNG of 2 gigapixels", HUGE, file(png(50_000, 50_000), "x.png"), "either"),
    inspected("a PNG of 2,147,483,647 a side", HUGE, file(png(2**31 - 1, 2**31 - 1, b""), "x.png")),
    inspected("a PNG of size 0", HUGE, file(png(0, 0, b""), "x.png")),
    inspected("a PNG cut in its pixels", CUT, file(png(100, 100, zlib.compress(b"\0" * 10_100)[:10]), "x.png")),
    inspected("a PNG of another compression", CUT, file(png(100, 100, b"rubbish"), "x.png")),
    inspected("a JPEG header only", CUT, file(b"\xff\xd8\xff\xe0\0\x10JFIF\0", "x.jpg")),
    inspected("a JPEG 2000 that declares 4 gigapixels", HUGE, lambda place: [place.write("x.jp2", jp2(place, 65_000))], "either"),
    inspected("a JPEG 2000 that declares 2,000,000,000 a side", HUGE, lambda place: [place.write("x.jp2", jp2(place, 2_000_000_000))]),
    inspected("a JPEG 2000 cut in the middle", CUT, lambda place: [place.write("x.jp2", jp2(place)[:110])]),
    inspected("a sound JPEG 2000", CUT, lambda place: [place.write("x.jp2", jp2(place))], "works"),
    inspected("overviews that are a VRT", BESIDE, beside(".tif.ovr", VRT), says=r"x\.tif\.ovr"),
    inspected("a mask file that is a VRT", BESIDE, beside(".tif.msk", VRT), says=r"x\.tif\.msk"),
    inspected("metadata that name overviews elsewhere", BESIDE, beside(".tif.aux.xml", OVERVIEWS), says="OVERVIEW_FILE"),
    inspected("metadata nested 100,000 deep", BESIDE, beside(".tif.aux.xml", "<PAMDataset>" + "<a>" * 100_000), "either"),
    inspected("metadata whose entities multiply", BESIDE, beside(".tif.aux.xml", '<!DOCTYPE a [<!ENTITY b "' + "x" * 1000 + '">' + "".join(f'<!ENTITY c{n} "{"&b;" * 100}">' for n in range(50)) + "]><PAMDataset>&c1;</PAMDataset>"), "either"),
    inspected("a world file of no numbers", BESIDE, beside(".tfw", "nan\nnan\ninf\nx\n\n\n"), "either"),
    inspected("a world file of 1e308", BESIDE, beside(".tfw", "1e308\n0\n0\n1e308\n1e308\n1e308\n"), "either"),
    inspected("overviews that are a pipe", DEVICES, lambda place: (os.mkfifo(place.folder / "x.tif.ovr"), [place.copy("image.tif", "x.tif")])[1], says="no regular file"),
    inspected("metadata that are an endless device", DEVICES, lambda place: ((place.folder / "x.tif.aux.xml").symlink_to("/dev/zero"), [place.copy("image.tif", "x.tif")])[1], says="no regular file"),
    *(inspected(f"{what} called TIFF", DEVICES, device(target), says=r"x\.tif") for what, target in (("/dev/zero", "/dev/zero"), ("/dev/random", "/dev/random"), ("/dev/null", "/dev/null"), ("a terminal", "/dev/tty"), ("/proc/self/mem", "/proc/self/mem"), ("a pipe", "fifo"), ("a folder", "folder"), ("a link to itself", "itself"), ("a link to nowhere", "nowhere"))),
    inspected("a file without the right to read", DEVICES, forbidden_file, user=True, says=r"x\.tif: you have no right"),
    inspected("a folder without the right to read", DEVICES, forbidden, user=True, says="images: cannot be read"),
    inspected("folders that link to each other", DEVICES, linked_folders, "works"),
    inspected("200 folders inside each other", DEVICES, deep_folders),
    inspected("a name that is not UTF-8", NAMES, called(b"bad\xff\xfe.tif"), says="not written in UTF-8"),
    inspected("a name with a line break", NAMES, called("a\nError: b.tif"), "works"),
    inspected("a name with control characters", NAMES, called("a\x1b[31m\x07b.tif"), "works"),
    inspected("a name that is written from right to left", NAMES, called("a\u202efit.tif"), "works"),
    inspected("a name of markup", NAMES, called("[red]a[" + "b.tif"), "works"),
    inspected("a name like an address", NAMES, called("http:x.tif"), "works"),
    inspected("a name of 250 letters", NAMES, called("n" * 246 + ".tif"), "works"),
    *(inspected(f"a folder with {what}", NAMES, folder_of(name), right) for what, name, right in (
        ("a name that is not UTF-8", b"bad\xff.tif", "refused"), ("a name with a line break", "a\nb.tif", "either"), ("control characters in a name", "a\x1b]0;x\x07.tif", "either"),
        ("a name from right to left", "a\u202efit.tif", "either"), ("a name that is a pattern", "a*[x]?.tif", "either"), ("a name with braces", "a{b}.tif", "either"))),
    inspected("an image without pixels in a collection", CUT, damaged_folder("images/a.tif", lambda place, data: data[:2000])),
    inspected("a mask without pixels in a collection", CUT, damaged_folder("masks/a.tif", lambda place, data: data[: len(data) // 3])),
    inspected("an empty image in a collection", CUT, damaged_folder("images/a.tif", lambda place, data: b"")),
    inspected("a mask that is a VRT in a collection", BESIDE, damaged_folder("masks/a.tif", lambda place, data: VRT.replace("ADDRESS", place.address).encode())),
    inspected("a CRS of Mars", WHERE, written(crs=MARS, west=10.0, north=10.0, resolution=1e-5), "works"),
    inspected("a local CRS", WHERE, written(crs=LOCAL), "works"),
    inspected("pixels of 1e-9 m", WHERE, written(resolution=1e-9)),
    inspected("pixels of 1e9 m", WHERE, written(resolution=1e9)),
    inspected("a place at 1e300", WHERE, written(west=1e300)),
    inspected("a place that is no number", WHERE, written(west=float("nan"))),
    inspected("pixels of size 0", WHERE, written(resolution=0.0), "either"),
    inspected("degrees beyond the poles", WHERE, written(crs="EPSG:4326", west=0.0, north=500.0)),
    inspected("metres in a CRS of degrees", WHERE, written(crs="EPSG:4326", west=5e5, north=5e6)),
    inspected("complex numbers", LIES, written(dtype=np.complex64, crs=None), "refused"),
    inspected("numbers of 64 bits", LIES, written(dtype=np.float64), "refused"),
    inspected("nodata of 1e308 in 8 bits", LIES, written(nodata=None), "works"),
    inspected("an image called with a number of 5,000 digits", NAMES, lambda place: ["9" * 5_000]),
    inspected("no name at all", NAMES, lambda place: [""], "refused"),
    inspected("a zero byte in the name", NAMES, lambda place: ["a\0b.tif"]),
    inspected("an address for a name", NAMES, lambda place: [f"/vsicurl/{place.address}/a.tif"]),
    inspected("a path in an archive", NAMES, lambda place: ["/vsizip/x.zip/a.tif"]),
]  # fmt: skip


def predicted(name: str, kind: str, make: Callable[[Place], list[str | Path]], right: Right = "refused", says: str = "") -> Case:  # fmt: skip
    def with_network(place: Place) -> list[str | Path]:
        return [place.base / "net.safetensors", *make(place), "--out", place.out / "maps", "--tile", "128"]

    return Case(name, "predict", kind, with_network, right, says)


def uploaded(name: str, kind: str, make: Callable[[Place], list[str | Path]], right: Right = "refused") -> Case:
    """The function behind the page's upload; the file's own name goes along."""

    def make_call(place: Place) -> Callable[[], object]:
        from kdcore.inference.uploads import receive
        from kdcore.jobs.workspace import Workspace

        path = Path(make(place)[0])

        def call() -> object:
            with path.open("rb") as contents:
                return receive(Workspace(place.out / "studies"), "town", path.name, contents)

        return call

    return Case(name, "upload", kind, make_call, right)


def pointed(name: str, kind: str, make: Callable[[Place], list[str | Path]], right: Right = "refused") -> Case:
    """The function behind 'a raster on this machine'."""

    def make_call(place: Place) -> Callable[[], object]:
        from kdcore.inference.uploads import point_at
        from kdcore.jobs.workspace import Workspace

        path = Path(make(place)[0])
        return lambda: point_at(Workspace(place.out / "studies"), "town", path)

    return Case(f"on this machine: {name}", "upload", kind, make_call, right)


CASES += [
    *(predicted(f"cut at structure {index}", CUT, cut(index)) for index in (0, 4, 6, 8)),
    predicted("an image whose pixels are cut off", CUT, lambda place: [place.write("x.tif", (place.base / "image.tif").read_bytes()[:3000])], says=r"x\.tif"),
    *(predicted(f"tag: {name}", LIES, file(gray(**WRONG_TAGS[name]))) for name in ("width 4294967295", "both sides 4294967295", "strip beyond the end", "says LZW, is raw", "a tile of a billion pixels", "65,535 bands", "7 bits")),
    predicted("a sparse raster of 10 million pixels a side", HUGE, sparse(10_000_000, 10_000_000, 3)),
    predicted("a VRT called TIFF", BESIDE, lambda place: [place.write("x.tif", VRT.replace("ADDRESS", place.address))]),
    predicted("overviews that are a VRT", BESIDE, beside(".tif.ovr", VRT)),
    *(predicted(f"{what} called TIFF", DEVICES, device(target)) for what, target in (("/dev/zero", "/dev/zero"), ("a pipe", "fifo"), ("a folder", "folder"), ("a link to itself", "itself"))),
    predicted("a name that is not UTF-8", NAMES, called(b"bad\xff.tif"), says="not written in UTF-8"),
    predicted("a name with a line break", NAMES, called("a\nb.tif"), says="Rename it"),
    predicted("a name with control characters", NAMES, called("a\x1b[31mb.tif"), says="Rename it"),
    predicted("a CRS of Mars", WHERE, written(crs=MARS, west=10.0, north=10.0, resolution=1e-5, shape=(3, 64, 64)), "works"),
    predicted("a local CRS", WHERE, written(crs=LOCAL, shape=(3, 64, 64)), "works"),
    predicted("a place at 1e300", WHERE, written(west=1e300, shape=(3, 64, 64))),
    predicted("one band for three", LIES, written()),
    predicted("complex numbers", LIES, written(dtype=np.complex64, shape=(3, 64, 64))),
    predicted("one pixel", HUGE, written(shape=(3, 1, 1)), "works"),
    predicted("floats that are no numbers", LIES, lambda place: [_nan(place)]),
    *(uploaded(f"tag: {name}", LIES, file(gray(**WRONG_TAGS[name]))) for name in ("width 4294967295", "both sides 4294967295", "0 bands", "a tile of a billion pixels")),
    uploaded("a text called TIFF", LIES, file(b"hello")),
    uploaded("nothing", CUT, file(b"")),
    uploaded("a VRT called TIFF", BESIDE, lambda place: [place.write("x.tif", VRT.replace("ADDRESS", place.address))]),
    uploaded("a PNG called TIFF", LIES, file(png(100, 100))),
    uploaded("a sparse raster of 400,000 pixels a side", HUGE, sparse(400_000, 400_000)),
    uploaded("an endless device", DEVICES, device("/dev/zero")),
    uploaded("a name from right to left with control characters", NAMES, called("a\u202e\x1b[31m\n.tif"), "works"),
    uploaded("a directory that follows itself", LIES, file(loop(8)), "either"),
    uploaded("a place at 1e300", WHERE, written(west=1e300, shape=(3, 64, 64)), "either"),
    uploaded("a sound file", LIES, lambda place: [place.copy("image.tif")], "works"),
    *(pointed(what, DEVICES, device(target)) for what, target in (("/dev/zero", "/dev/zero"), ("a pipe", "fifo"), ("a link to itself", "itself"))),
    pointed("a VRT called TIFF", BESIDE, lambda place: [place.write("x.tif", VRT.replace("ADDRESS", place.address))]),
    pointed("overviews elsewhere", BESIDE, beside(".tif.aux.xml", OVERVIEWS)),
    pointed("a zero byte in the name", NAMES, lambda place: ["a\0b.tif"]),
    pointed("a name of 5,000 digits", NAMES, lambda place: ["9" * 5_000]),
]  # fmt: skip


def _nan(place: Place) -> Path:
    from tests.conftest import write_raster

    return write_raster(place.folder / "x.tif", np.full((3, 64, 64), np.nan, np.float32))
