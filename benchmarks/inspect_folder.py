"""How long, and in how much memory, does `kdcore data inspect` look at 10,000 images?

    OMP_NUM_THREADS=1 python benchmarks/inspect_folder.py [--images 10000] --save        # about 3 minutes

Two folders of georeferenced 256-px tiles, 32 m apart, three bands of uint8, compressed (LZW): one with a mask for each
image, one with polygons of all in a single GeoPackage. The command runs in a process of its own; its largest resident memory
is what the system counts. The limit is 60 s and 1 GiB.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from affine import Affine
from measuring import parser, publish, table, verdict
from shapely import box

SIZE = 256
COLUMNS = 100
STEP = SIZE / 2 + 32  # metres
SECONDS, GIB = 60, 1.0


def write(path: Path, array: np.ndarray, number: int) -> None:
    """One tile of a grid of tiles, in UTM at half a metre."""
    row, column = divmod(number, COLUMNS)
    west, north = 500_000 + column * STEP, 5_000_000 - row * STEP
    profile = {
        "driver": "GTiff",
        "count": len(array),
        "height": SIZE,
        "width": SIZE,
        "dtype": "uint8",
        "compress": "lzw",
    }
    transform = Affine(0.5, 0, west, 0, -0.5, north)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as dataset:
        dataset.write(array)


def make(root: Path, images: int) -> None:
    """Both folders; all tiles look like one of 50."""
    rng = np.random.default_rng(0)
    shades = []
    for _ in range(50):
        labels = np.kron(rng.random((16, 16)) < 0.2, np.ones((16, 16))).astype(np.uint8)
        shades.append(
            (np.clip(rng.normal(80, 9, (3, SIZE, SIZE)) // 8 * 8 + 90 * labels, 1, 254).astype(np.uint8), labels)
        )
    (root / "vectors").mkdir()
    for name in ("images", "masks"):
        (root / "rasters" / name).mkdir(parents=True)
    shapes = []
    for number in range(images):
        image, labels = shades[number % len(shades)]
        image = image.copy()
        image[:, :2, :2] = np.frombuffer(number.to_bytes(12, "big"), np.uint8).reshape(
            3, 2, 2
        )  # none is another's copy
        write(root / f"rasters/images/tile_{number:05}.tif", image, number)
        write(root / f"rasters/masks/tile_{number:05}.tif", labels[None], number)
        row, column = divmod(number, COLUMNS)
        west, north = 500_000 + column * STEP, 5_000_000 - row * STEP
        shapes.append(box(west + 20, north - 60, west + 70, north - 20))
    (root / "vectors/images").symlink_to(root / "rasters/images")
    geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:32633").to_file(root / "vectors/buildings.gpkg")


def measure(folder: Path) -> tuple[float, float, float]:
    """Seconds of the command by the clock and on processors, and the largest memory of any child so far, in GiB."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [
        sys.executable,
        "-c",
        "from kdcore.cli import main; main()",
        "data",
        "inspect",
        str(folder),
        "--out",
        str(folder / "proposal.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if "No problems found." not in done.stdout:
        raise SystemExit(f"{folder.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, after.ru_maxrss / 2**20


def main() -> None:
    """Measure, print, and write the result where asked."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=10_000)
    given = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.images)
        for name, told in (("rasters", "a mask for each image"), ("vectors", "one GeoPackage for all")):
            seconds, processor, memory = measure(Path(folder) / name)
            limit = verdict(max(seconds / SECONDS, memory / GIB), 1)
            rows.append((told, f"{given.images:,}", f"{seconds:.0f}", f"{processor:.0f}", f"{memory:.2f}", limit))
            print(*rows[-1], flush=True)
    about = f"`kdcore data inspect` on georeferenced tiles of {SIZE} x {SIZE} px, three bands of uint8 with LZW."
    head = (
        "labels",
        "images",
        "seconds",
        "processor seconds",
        "largest memory, GiB",
        f"within {SECONDS} s and {GIB:g} GiB",
    )
    publish("inspect_folder", "Looking at a folder", f"{about}\n\n{table(head, rows)}", given.save)


if __name__ == "__main__":
    main()
