"""Opening files that strangers made: which formats, how large, and where on the ground."""

import warnings
from functools import lru_cache
from pathlib import Path

import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from kdcore.errors import DataError

# Formats that hold pixels themselves. VRT and friends may point anywhere (other files, addresses) and are left out.
MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",  # BigTIFF
    b"MM\0+": "GTiff",
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2")
DTYPES = ("uint8", "uint16", "int16", "float32")
LARGEST_RATIO = 5000  # bytes declared per byte on disk; real imagery, sparse files aside, stays far below

GEOD = Geod(ellps="WGS84")


def open_raster(path: Path, max_declared_gb: float = 100.0) -> rasterio.DatasetReader:
    """Open a raster for reading, recognised by its content and not by its suffix.

    Raises:
        DataError: missing, unreadable, of another format, or declaring far more pixels than its file can hold.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    driver = None
    mend = "Convert it, for example with `gdal_translate -of GTiff`."
    try:
        with path.open("rb") as file:
            start = file.read(8)
        driver = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
        if driver is None:
            raise DataError(f"{path}: is no GeoTIFF, JPEG, PNG or JPEG 2000 image. {mend}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, driver=driver, sharing=False)
    except (RasterioError, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise DataError(f"{path}: looks like {driver or 'an image'} but cannot be read ({reason}). {mend}") from error
    itemsize = max(bytes_per_pixel(name) for name in dataset.dtypes)
    declared = dataset.width * dataset.height * dataset.count * itemsize
    on_disk = max(1, path.stat().st_size)
    if declared > max_declared_gb * 1e9 and declared / on_disk > LARGEST_RATIO:
        shape = f"{dataset.width} x {dataset.height} px x {dataset.count} bands"
        dataset.close()
        raise DataError(
            f"{path}: its header declares {shape} ({declared / 1e9:.0f} GB) but the file has {on_disk / 1e6:.1f} MB; "
            "it is broken or sparse. Make the file anew, or raise `max_declared_gb` in collection.yaml if you trust it."
        )
    return dataset


def bytes_per_pixel(dtype: str) -> int:
    """Bytes of one value of a rasterio dtype name."""
    return {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "float64": 8, "int64": 8, "uint64": 8}.get(dtype, 4)


@lru_cache(maxsize=256)
def degrees_from(crs: str) -> Transformer:
    """From a CRS (WKT) to longitude and latitude; made once for each CRS, because making it takes longer than opening a raster."""
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def ground_resolution(crs: CRS | None, transform: Affine, width: int, height: int) -> tuple[float, float] | None:
    """Metres on the ground of one pixel's width and height, at the raster's centre; None without a CRS.

    Measured on the WGS 84 ellipsoid, so that web-mercator and degree grids give true lengths.
    """
    if crs is None or transform.is_identity:
        return None
    column, row = width / 2, height / 2
    points = [transform @ point for point in ((column, row), (column + 1, row), (column, row + 1))]
    to_degrees = degrees_from(crs.to_wkt())
    longitudes, latitudes = to_degrees.transform([x for x, _ in points], [y for _, y in points])
    across = GEOD.inv(longitudes[0], latitudes[0], longitudes[1], latitudes[1])[2]
    down = GEOD.inv(longitudes[0], latitudes[0], longitudes[2], latitudes[2])[2]
    return float(across), float(down)


def colour_bands(dataset: rasterio.DatasetReader) -> tuple[int, ...]:
    """The bands (from 1) that hold imagery: all but alpha."""
    return tuple(
        band for band, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True) if meaning != ColorInterp.alpha
    )
