"""A finished study with imagery, truth and maps, made without any training: everything that the map shows is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

from kdcore.data.collection import Collection
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.levels import quantise
from kdcore.evaluation.report import study_report
from kdcore.evaluation.scores import Scores
from kdcore.files import write_json
from kdcore.inference.layers import add_overviews, write_layers
from kdcore.jobs.plan import parse_run
from kdcore.settings import (
    Budget,
    ClassSettings,
    CollectionSettings,
    Recipe,
    SplitSettings,
    StudySettings,
    TeacherSettings,
    save,
)
from tests.odds import odds_at
from tests.synthetic_study import write_run

UTM = "EPSG:32645"
WEST, NORTH, METRES = 354_000.0, 3_057_000.0, 0.5
HEIGHT, WIDTH = 480, 640
RUNS = ("teacher-s0", "alone-s0", "distilled-s0")
COLOURS = ("#999999", "#E69F00", "#56B4E9", "#009E73")


def make_map_study(
    workspace: Path,
    name: str = "town",
    *,
    classes: Sequence[str] = ("land", "building"),
    crs: str | None = UTM,
    native_metres: float | None = None,
    seed: int = 0,
    labels: float = 1.0,
    bands: Sequence[str] = (),
) -> Path:
    """Write a collection of scenes train, validation and `test_area`, and a finished study on it, into a workspace.

    Args:
        workspace: folder of studies.
        name: of the study.
        classes: names of the classes, any text.
        crs: of the scenes; None for scenes without georeference.
        native_metres: ground resolution of scenes without georeference.
        seed: of what is painted.
        labels: share that the students have; below 1 there is a student with all labels.
        bands: names of the bands where they are others than red, green and blue: then the imagery is of 16 bits.
    """
    rng = np.random.default_rng(seed)
    root = workspace / ".areas" / name
    for index, scene in enumerate(("train", "validation", "test_area")):
        painted = paint_labels(rng, len(classes))
        image = paint_image(rng, painted, bands)
        write(root / f"images/{scene}.tif", image, crs, WEST + 2000 * index, names=bands)
        write(root / f"masks/{scene}.tif", painted[None], crs, WEST + 2000 * index)
    save(
        CollectionSettings(
            name=name,
            classes=tuple(
                ClassSettings(name=text, value=index, colour=COLOURS[index]) for index, text in enumerate(classes)
            ),
            native_metres_per_pixel=native_metres,
            split=SplitSettings(train=("train",), validation=("validation",), test=("test_area",)),
        ),
        root / "collection.yaml",
    )
    collection = Collection.open(root)
    study = workspace / name
    budget = Budget(steps=400, validate_every=100)
    settings = StudySettings(
        teacher=TeacherSettings(budget=budget), recipe=Recipe(), budget=budget, seeds=(0,), labels=labels
    )
    save(settings, study / "study.yaml")
    data = {"name": name, "collection": str(root / "collection.yaml"), "hash": collection.content_hash}
    data |= {
        "metres_per_pixel": collection.metres_per_pixel,
        "classes": list(classes),
        "colours": [None] * len(classes),
    }
    write_json(study / "data.json", data)
    scene = collection.scenes[0]
    assert scene.id == "test_area"
    truth = collection.reader.read(scene, scene.box).labels
    runs = (*RUNS, "all-labels-s0") if settings.trains_all_labels else RUNS
    for run, skill in zip(runs, (3.0, 1.6, 2.2, 2.6), strict=False):
        levels = predict(rng, truth, len(classes), skill)
        scores = score(classes, levels, truth)
        write_run(study, parse_run(run)[0], 0, settings, {"test": scores, "validation": scores})
        write(study / f"runs/{run}/maps/test_area.tif", levels, crs, scene.transform.c, nodata=255)
        add_overviews(study / f"runs/{run}/maps/test_area.tif")
    write_layers(study, collection)
    write_json(study / "report.json", study_report(study))
    return study


def score(classes: Sequence[str], levels: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores of a map against its labels."""
    builder = ScoresBuilder(classes, (1,) if len(classes) == 2 else tuple(range(len(classes))), tile=128)
    builder.add_window("test_area", 0, 0, odds_at(levels), labels, 2)
    return builder.build()


def paint_labels(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Rectangles of the classes on the first one, (480, 640) uint8."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for index in range(60):
        row, column = rng.integers(0, HEIGHT - 50), rng.integers(0, WIDTH - 50)
        height, width = rng.integers(12, 50, 2)
        labels[row : row + height, column : column + width] = 1 + index % (classes - 1)
    return labels


def paint_image(rng: np.random.Generator, labels: np.ndarray, bands: Sequence[str] = ()) -> np.ndarray:
    """Colours of the classes with noise, (3, 480, 640) uint8; or smooth noise in (bands, 480, 640) uint16."""
    if bands:
        noise = ndimage.gaussian_filter(rng.normal(size=(len(bands), *labels.shape)), (0, 12, 12))
        return (3000 + 1000 * noise / noise.std()).clip(1, 9000).astype(np.uint16)
    table = np.array([[96, 120, 72], [190, 150, 130], [60, 80, 130], [40, 110, 60]], dtype=float)
    return np.clip(table[labels].transpose(2, 0, 1) + rng.normal(0, 12, (3, *labels.shape)), 0, 255).astype(np.uint8)


def predict(rng: np.random.Generator, labels: np.ndarray, classes: int, skill: float) -> np.ndarray:
    """Levels of a network that sees the truth through smooth noise: (1, H, W) for two classes, else (classes, H, W)."""
    noise = ndimage.gaussian_filter(rng.normal(size=(classes, *labels.shape)), (0, 4, 4))
    logits = skill * (np.arange(classes)[:, None, None] == labels) + 1.5 * noise / noise.std()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    return quantise(probabilities[1:] if classes == 2 else probabilities)


def write(path: Path, array: np.ndarray, crs: str | None, west: float, names: Sequence[str] = (), **options) -> None:
    """Write (bands, H, W) as a tiled GeoTIFF with its upper left corner at `west`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {} if crs is None else {"crs": crs, "transform": from_origin(west, NORTH, METRES, METRES)}
    bands, height, width = array.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": array.dtype}
    with rasterio.open(path, "w", **profile, **place, tiled=True, blockxsize=256, blockysize=256, **options) as file:
        file.write(array)
        if names:
            file.descriptions = tuple(names)


def give_weights(study: Path, classes: Sequence[str] = ("land", "building")) -> None:
    """Small networks for a study's runs, not trained: what they say is arbitrary, but known."""
    from kdcore.models.checkpoint import CheckpointInfo, save_network
    from kdcore.models.networks import build_network
    from tests.conftest import TINY

    maps = 1 if len(classes) == 2 else len(classes)
    for seed, run in enumerate(RUNS):
        network = build_network(TINY, 3, maps, [110.0] * 3, [50.0] * 3, seed=seed)
        info = CheckpointInfo(
            network=TINY, bands=3, band_numbers=(1, 2, 3), classes=tuple(classes), metres_per_pixel=METRES
        )
        save_network(study / f"runs/{run}/checkpoints/best.safetensors", network, info)
