"""Engines whose answers are known, and how a raster is predicted with them."""

from pathlib import Path

import geopandas
import numpy as np

from kdcore.inference.mapping import MappingOptions
from kdcore.inference.merging import merge
from kdcore.inference.parts import make_parts, plan_prediction
from kdcore.inference.prediction import PolygonOptions, Prediction, begin
from kdcore.inference.source import open_source
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.settings import NetworkSettings


class Known:
    """Calls a function of the imagery (N, bands, H, W) for its probabilities, and remembers what it was shown."""

    name, device = "torch", "a test"

    def __init__(self, function, bands=1, classes=("land", "building"), tile=None, batch=1, dtype="uint8", metres=None):
        self.function, self.tile, self.batch = function, tile, batch
        self.info = CheckpointInfo(
            network=NetworkSettings(),
            bands=bands,
            band_numbers=tuple(range(1, bands + 1)),
            classes=classes,
            dtype=dtype,
            metres_per_pixel=metres,
        )
        self.fill = np.full(bands, 100, dtype=np.float32)
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        return np.asarray(self.function(images), dtype=np.float32)


def first_band(images):
    """Probability = the first band / 254: what is written must be the raster itself."""
    return images[:, :1] / 254


def stopping_after(tiles):
    """An engine that is interrupted after so many tiles."""

    def look(images):
        nonlocal tiles
        tiles -= 1
        if tiles < 0:
            raise KeyboardInterrupt
        return first_band(images)

    return Known(look)


def predict(
    raster: Path,
    out: Path,
    engine,
    overwrite=False,
    polygons="none",
    source=None,
    progress=lambda done, total: None,
    **options,
) -> Prediction:
    """Predict a raster as the command does."""
    model = out.parent / "model.bin"
    model.write_bytes(b"weights")
    source_options = source or {}
    opened = open_source(raster, engine.info, **source_options)
    prediction = Prediction(out, raster.stem)
    plan = plan_prediction(raster, opened, [model], engine, MappingOptions(**options), PolygonOptions(format=polygons))
    if not begin(prediction, plan, overwrite) and make_parts(prediction, plan, opened, engine, progress):
        merge(prediction)
    return prediction


def same_maps(one, other, name):
    """Whether two folders hold the same maps of a raster, byte for byte, and the same objects."""
    for kind in ("probabilities", "classes"):
        assert (one / f"{name}.{kind}.tif").read_bytes() == (other / f"{name}.{kind}.tif").read_bytes()
    objects = [geopandas.read_file(folder / f"{name}.gpkg") for folder in (one, other)]
    assert objects[0].equals(objects[1])
    return True
