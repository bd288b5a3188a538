"""Fixtures: small real files on disk, made anew for each test."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes with spinning threads crawl on two cores
os.environ.pop("COLUMNS", None)  # a process of several that run the tests has it; consoles would keep that width

import numpy as np
import pytest
import rasterio
from affine import Affine
from streamlit.components.v2 import manifest_scanner

from kdcore.settings import (
    Budget,
    ClassSettings,
    CollectionSettings,
    EvaluationSettings,
    Hardware,
    NetworkSettings,
    Recipe,
    RunSettings,
    SplitSettings,
    save,
)

UTM = "EPSG:32633"
TINY = NetworkSettings(encoder="tu-test_resnet", depth=3, decoder_channels=(16, 8, 8))


def write_raster(path: Path, array, crs=UTM, west=500_000.0, north=5_000_000.0, resolution=0.5, **options) -> Path:
    """Write (bands, H, W) or (H, W) as a GeoTIFF."""
    array = np.atleast_3d(array) if array.ndim == 3 else array[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": array.shape[0],
        "height": array.shape[1],
        "width": array.shape[2],
        "dtype": array.dtype,
    }
    if crs is not None:
        profile |= {"crs": crs, "transform": Affine(resolution, 0, west, 0, -resolution, north)}
    colormap = options.pop("colormap", None)
    with rasterio.open(path, "w", **profile, **options) as dataset:
        dataset.write(array)
        if colormap:
            dataset.write_colormap(1, colormap)
    return path


def paint(rng: np.random.Generator, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels: rectangles whose colour tells the class, with noise."""
    labels = np.zeros((size, size), dtype=np.uint8)
    for _ in range(12):
        row, column = rng.integers(0, size - 16, 2)
        height, width = rng.integers(8, size // 3, 2)
        labels[row : row + height, column : column + width] = rng.integers(1, classes)
    labels[:4, : 4 * classes] = np.repeat(np.arange(classes, dtype=np.uint8), 4)  # every class occurs
    colours = [[90, 110, 60], [180, 120, 110], [60, 70, 120], [140, 140, 140], [30, 30, 30], [230, 230, 235]]
    image = np.array(colours[:classes], dtype=np.float64)[labels].transpose(2, 0, 1) + rng.normal(
        0, 12, (3, size, size)
    )
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_collection(root: Path, classes: int = 3, size: int = 128, unlabelled: bool = False, **settings) -> Path:
    """Write a collection of scenes a, b, c, d (train a and b, validation c, test d); gives the path of its YAML."""
    rng = np.random.default_rng(7)
    for index, name in enumerate("abcd"):
        image, labels = paint(rng, size, classes)
        write_raster(root / f"images/{name}.tif", image, west=500_000 + 1000 * index)
        write_raster(root / f"masks/{name}.tif", labels, west=500_000 + 1000 * index)
    if unlabelled:
        write_raster(root / "unlabelled/u.tif", paint(rng, size, classes)[0], west=509_000)
    names = ["land", "building", "water", "road", "shadow", "snow"][:classes]
    values = {
        "name": "small",
        "classes": tuple(ClassSettings(name=name, value=index) for index, name in enumerate(names)),
        "split": SplitSettings(train=("a", "b"), validation=("c",), test=("d",)),
    }
    save(CollectionSettings(**(values | settings)), root / "collection.yaml")
    return root / "collection.yaml"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing is garbage of what is imported and collected: nobody looks for any among it, then or in the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Keep the order of `pytest_collection_modifyitems`; else files with few tests, which are the longest, would come last."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: where several processes share the files, one at the end would leave the others without work."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def nobody_pulls_the_plug() -> Iterator[None]:
    """Processes are killed here, machines are not: files need not reach the disk itself, which is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def installed_packages_are_read_once() -> Iterator[None]:
    """Streamlit reads what all installed packages say of themselves at each `AppTest`, which is most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture
def make_collection(tmp_path: Path) -> Callable[..., Path]:
    """`write_collection` into this test's own folder."""

    def make(folder: str = "collection", **values) -> Path:
        return write_collection(tmp_path / folder, **values)

    return make


QUICK = Budget(steps=6, batch_size=2, crop=64, validate_every=3, save_every=2)
"""A training of seconds."""
SMALL_WINDOWS = EvaluationSettings(tile=32, window=64, halo=32)
"""Windows that fit the small scenes: 16 tiles each."""


def run_settings(collection: Path, arm: str = "alone", **values) -> RunSettings:
    """A run of seconds on a small collection."""
    base = {
        "seed": 0,
        "network": TINY,
        "recipe": Recipe(alpha=0),
        "budget": QUICK,
        "evaluation": SMALL_WINDOWS,
        "hardware": Hardware(device="cpu"),
    }
    return RunSettings(arm=arm, collection=collection, **(base | values))


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory) -> Path:
    """A finished study of two seeds on `collection/` beside it; copy it before changing it."""
    from kdcore.training.study import run_study
    from tests.training.studies import study_settings

    folder = tmp_path_factory.mktemp("tiny") / "study"
    run_study(write_collection(folder.parent / "collection", unlabelled=True), study_settings(), folder)
    return folder


@pytest.fixture(autouse=True)
def same_main_module():
    """Streamlit makes the page that it runs the main module, and new processes would run that page, too."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
