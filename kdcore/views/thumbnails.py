"""Small pictures of whole scenes, for the plan of a split."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from kdcore.data.rasters import open_raster
from kdcore.data.scene import Scene
from kdcore.errors import KdcoreError
from kdcore.settings import CollectionSettings
from kdcore.views.pictures import show_imagery

SIDES = ((12, 256), (60, 128))  # scenes at most, and the longer side of a picture of each in pixels
SMALLEST = 64
MOST_PIXELS = 300_000_000  # that are read for all pictures; scenes behind them have none


def thumbnails(scenes: Sequence[Scene], settings: CollectionSettings) -> list[str | None]:
    """A picture of each scene as an address, at most 256 px wide and tall; None where it would take too long or cannot be read."""
    side = next((side for most, side in SIDES if len(scenes) <= most), SMALLEST)
    found: list[str | None] = []
    left = MOST_PIXELS
    for scene in scenes:
        left -= scene.native_shape[0] * scene.native_shape[1]
        found.append(thumbnail(scene, settings, side) if left >= 0 else None)
    return found


def thumbnail(scene: Scene, settings: CollectionSettings, side: int) -> str | None:
    """A scene as a JPEG inside an address; None where it cannot be read, which is a problem that the look itself tells."""
    bands = list(scene.bands[:3])
    shrink = min(1.0, side / max(scene.height, scene.width))
    shape = (max(1, round(scene.height * shrink)), max(1, round(scene.width * shrink)))
    try:
        with open_raster(scene.image, settings.max_declared_gb) as dataset:
            image = dataset.read(bands, out_shape=(len(bands), *shape), resampling=Resampling.average)
            valid = dataset.dataset_mask(out_shape=shape, resampling=Resampling.nearest) > 0
    except (RasterioError, KdcoreError):
        return None
    if settings.nodata is not None:
        valid &= (image != settings.nodata).any(axis=0)
    if image.dtype.kind == "f":
        valid &= np.isfinite(image).all(axis=0)
    buffer = io.BytesIO()
    Image.fromarray(show_imagery(np.nan_to_num(image), valid)).save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
