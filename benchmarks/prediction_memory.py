"""How much memory does `kdcore predict` need at most, and does it grow with the raster?

    OMP_NUM_THREADS=1 python benchmarks/prediction_memory.py [CHECKPOINT] [--save]        # about six minutes on two cores

Two rasters of three bands and 8 bits: one of 100 megapixels, full of imagery, and one of 4.3 gigapixels (65536 x 65536) whose file
holds only some blocks; the rest is nodata. `kdcore predict` maps each, with polygons, in a process of its own; its largest resident
memory is asked of Linux while it runs. Imagery is noise that is smooth over some pixels, and classes come
from the example's student, or from another checkpoint.

Limits: the large raster takes at most 1.1 times the memory of the small one, and at most 1.5 GiB.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from measuring import megabytes, parser, publish, table, verdict
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy import ndimage

from kdcore.models.checkpoint import load_network, save_network

RATIO, LIMIT = 1.1, 1.5  # of both; GiB
STUDENT = Path(__file__).parents[1] / "kdcore/example/runs/distilled-s0/checkpoints/best.safetensors"
PIECE = 2048
RASTERS = {"small": (10_240, 1), "large": (65_536, 12)}  # side in pixels; one piece of so many x so many is there
STAGES = {
    "%": "mapping",
    "writing prob": "probabilities",
    "writing classes": "classes",
    "writing poly": "polygons",
}
KDCORE = [sys.executable, "-c", "from kdcore.cli import main; main()"]


def imagery(bands: int) -> np.ndarray:
    """A piece of imagery, (bands, 2048, 2048)."""
    rng = np.random.default_rng(0)
    fields = np.stack([ndimage.gaussian_filter(rng.normal(size=(PIECE, PIECE)), 5, mode="wrap") for _ in range(bands)])
    fields /= fields.std()
    return np.clip(110 + 40 * fields + rng.normal(0, 8, fields.shape), 1, 255).astype(np.uint8)


def write(path: Path, side: int, every: int, bands: int) -> float:
    """Write a raster in which one piece of `every` x `every` holds imagery; gives megapixels of imagery."""
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": bands, "dtype": "uint8", "nodata": 0, "crs": "EPSG:32645",
        "transform": from_origin(354_000, 3_057_000, 0.3, 0.3), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", "zlevel": 1, "sparse_ok": True, "bigtiff": "yes", "interleave": "pixel",
    }  # fmt: skip
    piece, written = imagery(bands), 0
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, side, every * PIECE):
            for column in range(0, side, every * PIECE):
                height, width = min(PIECE, side - row), min(PIECE, side - column)
                dataset.write(piece[:, :height, :width], window=Window(column, row, width, height))
                written += height * width
    return written / 1e6


def watch(arguments: list[str], log: Path) -> dict[str, Any]:
    """Run a command; gives GiB at most, in all and up to the end of each stage, and seconds.

    Raises:
        SystemExit: the command failed.
    """
    started = time.perf_counter()
    peak, stage = 0.0, "start"
    stages: dict[str, float] = {}
    with log.open("w") as file:
        process = subprocess.Popen([*KDCORE, *arguments], stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            said = log.read_text()
            stage = max([(0, "start"), *((said.rfind(words), name) for words, name in STAGES.items())])[1]
            with suppress(OSError, KeyError):  # it has just ended
                peak = max(peak, megabytes(process.pid)[1] * 1e6 / 2**30)
            stages[stage] = peak
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"kdcore {' '.join(arguments)} failed:\n{log.read_text()[-3000:]}")
    return {"gib": peak, "seconds": time.perf_counter() - started, "stages": stages}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", nargs="?", type=Path, default=STUDENT)
    arguments.add_argument("--only", choices=RASTERS)
    chosen = arguments.parse_args()
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network, info = load_network(chosen.checkpoint)
        save_network(folder / "network.safetensors", network, info.model_copy(update={"metres_per_pixel": None}))
        for raster, (side, every) in RASTERS.items():
            if chosen.only not in (None, raster):
                continue
            full = write(folder / f"{raster}.tif", side, every, info.bands)
            command = ["predict", str(folder / "network.safetensors"), str(folder / f"{raster}.tif")]
            one = watch([*command, "--out", str(folder / raster), "--device", "cpu"], folder / f"{raster}.txt")
            found[raster] = one
            stages = ", ".join(f"{stage} {gib:.2f}" for stage, gib in one["stages"].items())
            rows.append(
                (
                    raster,
                    f"{side**2 / 1e6:,.0f}",
                    f"{full:.0f}",
                    f"{one['gib']:.2f}",
                    verdict(one["gib"], LIMIT),
                    stages,
                    f"{one['seconds']:.0f}",
                )
            )
            print(*rows[-1], file=sys.stderr, flush=True)
            for path in (folder / raster).iterdir():
                print(f"  {path.name}: {path.stat().st_size / 1e6:.0f} MB", file=sys.stderr)
                path.unlink()
    body = table(
        (
            "",
            "megapixels",
            "of them with imagery",
            "largest memory, GiB",
            f"limit {LIMIT:g}",
            "up to the end of each stage",
            "seconds",
        ),
        rows,
    )
    if len(found) == len(RASTERS):
        ratio = found["large"]["gib"] / found["small"]["gib"]
        body += f"\n\nThe large raster takes {ratio:.3f} times the memory of the small one; limit {RATIO}: {verdict(ratio, RATIO)}."
    publish("prediction_memory", "Memory of mapping a raster", body, chosen.save)


if __name__ == "__main__":
    main()
