"""Files of folders as people have them: small scenes of which everything is known."""

import geopandas
import numpy as np
from PIL import Image
from shapely.geometry import box

from tests.conftest import UTM, write_raster

SIZE = 128


def scene(number: int, share: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels: a bright bar over `share` of the rows, and one row more for each number, so that scenes differ."""
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    labels[: round(SIZE * share) + number] = 1
    noise = np.random.default_rng(number).normal(80, 9, (3, SIZE, SIZE))
    return np.clip(noise + 90 * labels, 1, 254).astype(np.uint8), labels


def pixels(number: int, share: float = 0.25) -> int:
    """Of the bar."""
    return (round(SIZE * share) + number) * SIZE


def put(path, number, what, share=0.25):
    """Write the image or the mask of a scene as a GeoTIFF, or as a picture where the suffix says so."""
    array = scene(number, share)[what == "mask"]
    if path.suffix.lower() in (".tif", ".tiff"):
        return write_raster(path, array, west=500_000 + 1000 * number)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array if array.ndim == 2 else np.moveaxis(array, 0, -1)).save(path)
    return path


def build(root, images, masks, numbers=range(1, 6)):
    """Files of scenes; '{n}' in the patterns is the number."""
    for number in numbers:
        put(root / images.format(n=number), number, "image")
        if masks:
            put(root / masks.format(n=number), number, "mask")
    return root


def bar(number: int):
    """The bar of a scene as a polygon in the scene's CRS."""
    west = 500_000 + 1000 * number
    return box(west, 5_000_000 - 0.5 * (round(SIZE * 0.25) + number), west + 0.5 * SIZE, 5_000_000)


def write_vector(path, numbers, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = geopandas.GeoDataFrame(fields, geometry=[bar(number) for number in numbers], crs=UTM)
    frame.to_crs("EPSG:4326").to_file(path)
