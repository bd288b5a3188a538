"""One way of mapping a raster, in a process of its own: `prediction.py` starts this with the Python that has the library.

    python benchmarks/prediction_contenders.py NAME NETWORK.safetensors RASTER.tif OUT_FOLDER [--count] [--plain-scaling]

Prints one line of JSON: seconds of mapping and writing (imports and opening the network left out), the largest memory before that and
in all, where the map of classes is, and with `--count` how often the network looked at how many pixels, and at how many different tiles.
"""

import argparse
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from measuring import megabytes
from rasterio.windows import Window
from torch import nn

from kdcore.inference.engines import TorchEngine, open_engine
from kdcore.inference.mapping import MappingOptions
from kdcore.inference.merging import merge
from kdcore.inference.parts import make_mapper, make_parts, plan_prediction
from kdcore.inference.prediction import PolygonOptions, Prediction, begin
from kdcore.inference.source import open_source
from kdcore.models.checkpoint import load_network

TILE, HALO = 512, 32
STRIDE = TILE - 2 * HALO


class Counter:
    """What a network was asked."""

    def __init__(self, network: nn.Module) -> None:
        self.passes, self.pixels = 0, 0
        self.seen: set[int] = set()
        network.register_forward_pre_hook(self)

    def __call__(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        """Before each pass."""
        for tile in inputs[0]:
            self.passes += 1
            self.pixels += tile.shape[-1] * tile.shape[-2]
            self.seen.add(zlib.crc32(tile.contiguous().numpy().tobytes()))


def open_for_others(path: Path) -> nn.Module:
    """The network as the other libraries get it, in the order of memory that our own engine uses, too."""
    return load_network(path)[0].eval().to(memory_format=torch.channels_last)


def decide(logits: np.ndarray) -> np.ndarray:
    """(K, H, W) logits -> (H, W) classes."""
    return (logits[0] > 0 if len(logits) == 1 else logits.argmax(0)).astype(np.uint8)


def write_classes(raster: Path, out: Path, classes: np.ndarray) -> None:
    with rasterio.open(raster) as dataset:
        profile = dataset.profile
    profile |= {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "compress": "deflate"}
    profile.pop("photometric", None)
    with rasterio.open(out, "w", **profile) as dataset:
        dataset.write(classes, 1)


def ours(network: Path, raster: Path, out: Path, count: bool, plain: bool) -> tuple[Callable[[], dict], object]:
    """What `kdcore predict` does, without polygons."""
    engine = open_engine(network, device="cpu")
    assert isinstance(engine, TorchEngine)

    def work() -> dict:
        started = time.perf_counter()
        prediction = Prediction(out, "map")
        source = open_source(raster, engine.info)
        options = MappingOptions(tile=TILE, halo=HALO)
        plan = plan_prediction(raster, source, [network], engine, options, PolygonOptions(format="none"))
        begin(prediction, plan)
        make_parts(prediction, plan, source, engine)
        mapped = time.perf_counter() - started
        merge(prediction)
        return {"mapped": mapped, "classes": str(prediction.map("classes"))}

    return work, engine.network


def bare(network: Path, raster: Path, out: Path, count: bool, plain: bool) -> tuple[Callable[[], dict], object]:
    """The same engine on the same tiles; only its own time counts. Nothing is written."""
    engine = open_engine(network, device="cpu")

    def work() -> dict:
        mapper = make_mapper(open_source(raster, engine.info), engine, MappingOptions(tile=TILE, halo=HALO))
        seconds = 0.0
        for row in range(mapper.grid.rows.count):
            for column in range(mapper.grid.columns.count):
                image = mapper.read(mapper.grid.tile(row, column)).image
                started = time.perf_counter()
                engine(image[None])
                seconds += time.perf_counter() - started
        return {"mapped": seconds, "seconds": seconds}

    return work, engine.network


def whole(network: Path, raster: Path, out: Path, count: bool, plain: bool) -> tuple[Callable[[], dict], object]:
    """One pass over the whole raster."""
    engine = open_engine(network, device="cpu")

    def work() -> dict:
        with rasterio.open(raster) as dataset:
            image = dataset.read()
        below, right = -image.shape[1] % 32, -image.shape[2] % 32
        padded = np.pad(image, ((0, 0), (0, below), (0, right)), mode="edge")
        found = engine(padded[None])[0][:, : image.shape[1], : image.shape[2]]
        classes = found[0] >= 0.5 if len(found) == 1 else found.argmax(0)
        write_classes(raster, out / "whole.tif", classes.astype(np.uint8))
        return {"classes": str(out / "whole.tif")}

    return work, engine.network


def torchgeo(network: Path, raster: Path, out: Path, count: bool, plain: bool) -> tuple[Callable[[], dict], object]:
    """`RasterDataset` with `GridGeoSampler` in a `DataLoader`, as its documentation has them.

    Putting the chips together is left to the user there; here the halo of each is cut away, as in ours.
    """
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    model = open_for_others(network)

    @torch.inference_mode()
    def work() -> dict:
        dataset = RasterDataset(str(raster))
        sampler = GridGeoSampler(dataset, size=TILE, stride=STRIDE)
        with rasterio.open(raster) as opened:
            height, width, to_pixels = opened.height, opened.width, ~opened.transform
        classes = np.full((height, width), 255, dtype=np.uint8)
        queries = iter(sampler)
        for sample in DataLoader(dataset, batch_size=1, sampler=sampler, collate_fn=stack_samples):
            x, y, _ = next(queries)
            found = decide(model(sample["image"].float())[0].numpy())
            left, top = (round(value) for value in to_pixels @ (x.start, y.stop))
            rows = max(top, 0 if top <= 0 else top + HALO), min(height, bottom_of(top, height))
            columns = max(left, 0 if left <= 0 else left + HALO), min(width, bottom_of(left, width))
            classes[slice(*rows), slice(*columns)] = found[
                rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
            ]
        write_classes(raster, out / "torchgeo.tif", classes)
        return {"classes": str(out / "torchgeo.tif")}

    return work, model


def bottom_of(start: int, length: int) -> int:
    """Behind the last pixel that a chip answers for: its halo is cut away but at the raster's end."""
    return length if start + TILE >= length else start + TILE - HALO


def geoai(network: Path, raster: Path, out: Path, count: bool, plain: bool) -> tuple[Callable[[], dict], object]:
    """`predict_geotiff` with the same tiles and the same overlap as ours."""
    return geoai_with(network, raster, out, plain, TILE, 2 * HALO)


def geoai_default(
    network: Path, raster: Path, out: Path, count: bool, plain: bool
) -> tuple[Callable[[], dict], object]:
    """`predict_geotiff` with the tiles and overlap that it has by itself."""
    return geoai_with(network, raster, out, plain, 256, 64)


def geoai_with(
    network: Path, raster: Path, out: Path, plain: bool, tile: int, overlap: int
) -> tuple[Callable[[], dict], object]:
    from geoai.inference import predict_geotiff

    model = open_for_others(network)
    logits = load_network(network)[1].logits

    def work() -> dict:
        predict_geotiff(
            model, str(raster), str(out / "geoai.tif"), tile_size=tile, overlap=overlap, num_classes=logits,
            output_dtype="uint8", output_nodata=255, device="cpu", verbose=False, postprocess_fn=lambda found: decide(found)[None],
            preprocess_fn=None if plain else lambda values: values.astype(np.float32),
        )  # fmt: skip
        return {"classes": str(out / "geoai.tif")}

    return work, model


CONTENDERS = {
    "ours": ours, "bare": bare, "whole": whole, "torchgeo": torchgeo, "geoai": geoai, "geoai-default": geoai_default,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("paths", nargs=3, type=Path)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--plain-scaling", action="store_true", help="leave the scaling of values to geoai")
    chosen = parser.parse_args()
    chosen.paths[2].mkdir(parents=True, exist_ok=True)
    work, network = CONTENDERS[chosen.name](*chosen.paths, chosen.count, chosen.plain_scaling)
    counter = Counter(network) if chosen.count else None  # type: ignore[arg-type]
    with rasterio.open(chosen.paths[1]) as dataset:
        dataset.read(window=Window(0, 0, 512, 512))
    before = megabytes(os.getpid())[1]
    started = time.perf_counter()
    found = work()
    values = {
        "seconds": time.perf_counter() - started,
        "before_mb": before,
        "peak_mb": megabytes(os.getpid())[1],
    } | found
    if counter:
        values |= {"passes": counter.passes, "distinct": len(counter.seen), "pixels_seen": counter.pixels}
    print(json.dumps(values))


if __name__ == "__main__":
    main()
