"""Areas from a sample of points where the truth is known: one example, and how often the intervals hold the truth.

    OMP_NUM_THREADS=1 python benchmarks/area.py --save        # a minute on one core

The bundled example's distilled student maps a district of the demo area, `kdcore area sample` draws points from the map, and their labels are read
off the truth. Then a thousand samples of 400 and of 1,000 points are drawn in the same way.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import rasterio
from measuring import ROOT, parser, publish, table

from kdcore.data.demo import write_demo
from kdcore.data.rasters import open_raster
from kdcore.data.scene import Box
from kdcore.evaluation.area import Sample, allocate
from kdcore.inference.area_sample import class_names, draw, read
from kdcore.inference.ground_area import PixelAreas

STUDENT = ROOT / "kdcore/example/runs/distilled-s0/checkpoints/best.safetensors"
DISTRICT = "outskirts"
POINTS, LEAST, SAMPLES = (400, 1000), 50, 1000


def label(sample: Path, truth: Path, classes: tuple[str, ...]) -> None:
    """Give each point its true class, as a person does in QGIS."""
    points = geopandas.read_file(sample, layer="points")
    with rasterio.open(truth) as dataset:
        values = [value.item() for value in dataset.sample(zip(points.geometry.x, points.geometry.y, strict=True))]
    points["label"] = [classes[value] for value in values]
    pyogrio.write_dataframe(points, sample, driver="GPKG", layer="points")


def coverage(mapped: np.ndarray, truth: np.ndarray, areas: np.ndarray, classes: int, points: int) -> np.ndarray:
    """The share of samples in which the interval of each class holds its true area."""
    rng, sizes = np.random.default_rng(0), np.bincount(mapped, minlength=classes)
    whole = np.bincount(truth, areas, minlength=classes)
    pixels = [np.flatnonzero(mapped == stratum) for stratum in range(classes)]
    held = np.zeros(classes)
    for _ in range(SAMPLES):
        numbers = allocate(sizes.tolist(), points, LEAST)
        at = np.concatenate([rng.choice(own, n, replace=False) for own, n in zip(pixels, numbers, strict=True)])
        for index, found in enumerate(Sample(mapped[at], truth[at], areas[at], sizes, classes).areas_of_classes()):
            low, high = found.interval()
            held[index] += low <= whole[index] <= high
    return held / SAMPLES


def main() -> None:
    given = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = write_demo(folder / "demo").parent
        image, truth_file = demo / f"images/{DISTRICT}.tif", demo / f"masks/{DISTRICT}.tif"
        command = ["predict", str(STUDENT), str(image), "--out", str(folder / "maps"), "--polygons", "none"]
        subprocess.run([sys.executable, "-m", "kdcore", *command], cwd=ROOT, check=True, capture_output=True)
        map_file = folder / f"maps/{DISTRICT}.classes.tif"
        draw(map_file, folder / "s.gpkg", POINTS[0], LEAST, seed=0)
        with open_raster(map_file) as dataset:
            classes, mapped = class_names(dataset), dataset.read(1)
            areas = PixelAreas.of(dataset)(Box(0, 0, dataset.height, dataset.width)) / 1e4
        with rasterio.open(truth_file) as dataset:
            truth = dataset.read(1)
        label(folder / "s.gpkg", truth_file, classes)
        labelled = read(folder / "s.gpkg")
    whole = np.bincount(truth.ravel(), areas.ravel(), minlength=len(classes))
    shares = [
        coverage(mapped.ravel().astype(np.int64), truth.ravel().astype(np.int64), areas.ravel(), len(classes), points)
        for points in POINTS
    ]
    rows = []
    for index, found in enumerate(labelled.sample.areas_of_classes()):
        low, high = found.interval()
        area = f"{found.value:.2f} ({low:.2f} to {high:.2f})"
        held = [f"{100 * share[index]:.1f} %" for share in shares]
        rows.append([classes[index], f"{whole[index]:.2f}", area, f"{labelled.counted[index]:.2f}", *held])
    header = ("hectares", "truth", f"{POINTS[0]} points (95 % interval)", "counted on the map")
    header += tuple(f"intervals that hold the truth, {points:,} points" for points in POINTS)
    publish("area", "Areas from a sample of points", table(header, rows), given.save)


if __name__ == "__main__":
    main()
