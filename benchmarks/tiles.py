"""How fast the dashboard answers with map tiles: four requests at a time, on a scene of 100 megapixels in UTM.

    OMP_NUM_THREADS=1 python benchmarks/tiles.py

Makes the scene (imagery, truth, two runs' maps) in a temporary folder, starts the routes behind uvicorn as `streamlit run` does,
and asks for random tiles that were never drawn before, from the whole scene down to twice the native resolution. Prints the
median and the 95th percentile of each layer, and the same for tiles that are drawn already.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from measuring import megabytes, parser, publish, table, verdict
from morecantile import tms
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy import ndimage

from kdcore.files import write_text
from kdcore.inference.layer_index import SceneLayers, StudyLayers
from kdcore.inference.layers import add_overviews, native_zoom, optimise
from kdcore.settings import Budget, NetworkSettings, Recipe, RunSettings, StudySettings, save

SIDE = 10_240
PIECE = 2048
PLACE = from_origin(354_000, 3_057_000, 0.3, 0.3)
CRS = "EPSG:32645"
RUNS = ("teacher-s0", "distilled-s0")
LAYERS = {
    "imagery": "imagery",
    "truth": "truth",
    "mask": "mask-teacher-s0",
    "probability": "probability-teacher-s0-1",
    "disagreement": "disagreement-teacher-s0-distilled-s0",
}
TILES, AT_ONCE = 200, 4
LIMIT = 100  # milliseconds
SERVER = """
import uvicorn
from starlette.applications import Starlette
from kdcore.server.routes import map_routes
uvicorn.run(Starlette(routes=map_routes()), port={port}, log_level="error")
"""


def write(path: Path, make, bands: int, nodata: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": bands, "dtype": "uint8", "nodata": nodata}
    profile |= {
        "crs": CRS,
        "transform": PLACE,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "zlevel": 1,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, SIDE, PIECE):
            for column in range(0, SIDE, PIECE):
                dataset.write(make(row, column), window=Window(column, row, PIECE, PIECE))


def make_study(folder: Path) -> SceneLayers:
    """A study of one scene: smooth random fields, compressed as real ones are."""
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(PIECE, PIECE)), 6, mode="wrap")
    field /= field.std()
    level = np.clip(127 + 90 * field + rng.normal(0, 6, field.shape), 0, 254).astype(np.uint8)
    picture = np.clip(110 + 40 * field + rng.normal(0, 14, (3, *field.shape)), 0, 255).astype(np.uint8)
    layers = folder / "layers/large"
    write(layers / "imagery.tif", lambda row, column: np.roll(picture, row // 7, axis=2), 3)
    optimise(layers / "imagery.tif")
    write(
        layers / "truth.tif",
        lambda row, column: (np.roll(level, row // 7, axis=1) > 140).astype(np.uint8)[None],
        1,
        255,
    )
    add_overviews(layers / "truth.tif")
    save(StudySettings(), folder / "study.yaml")
    for shift, run in enumerate(RUNS):
        path = folder / f"runs/{run}/maps/large.tif"
        write(path, lambda row, column, shift=shift: np.roll(level, row // 7 + 3 * shift, axis=1)[None], 1, 255)
        add_overviews(path)
        settings = RunSettings(
            arm="teacher", seed=0, collection=folder, network=NetworkSettings(), recipe=Recipe(alpha=0), budget=Budget()
        )
        save(settings, folder / f"runs/{run}/settings.yaml")
    scene = SceneLayers(
        id="large", name="large", height=SIDE, width=SIDE, part=(0, 0, SIDE, SIDE), georeferenced=True, unit="metres",
        metres_per_pixel=0.3, crs=CRS, transform=tuple(PLACE)[:6], zoom=native_zoom(rasterio.CRS.from_string(CRS), PLACE, SIDE, SIDE),
    )  # fmt: skip
    index = StudyLayers(
        data="0", classes=("land", "building"), colours=("#999999", "#E69F00"), scored=(1,), scenes=(scene,)
    )
    write_text(folder / "layers/layers.json", index.model_dump_json())
    return scene


def random_tiles(scene: SceneLayers, rng: random.Random) -> list[tuple[int, int, int]]:
    """Distinct tiles inside the scene; each zoom as often as a person sees it, so more at large scales."""
    (south, west), (north, east) = scene.bounds
    grid, found = tms.get("WebMercatorQuad"), set()
    while len(found) < TILES:
        zoom = scene.zoom + rng.choice((-5, -4, -3, -2, -1, 0, 0, 1, 1, 2))
        tile = grid.tile(rng.uniform(west, east), rng.uniform(south, north), zoom)
        found.add((zoom, tile.x, tile.y))
    return sorted(found, key=lambda tile: rng.random())


def ask(url: str) -> tuple[float, int]:
    start = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        size = len(answer.read())
    return 1000 * (time.perf_counter() - start), size


def main() -> None:
    arguments = parser(__doc__).parse_args()
    port = 8619
    with tempfile.TemporaryDirectory() as folder:
        scene = make_study(Path(folder) / "big")
        environment = os.environ | {"KDCORE_WORKSPACE": folder}
        server = subprocess.Popen([sys.executable, "-c", SERVER.format(port=port)], env=environment)
        try:
            base = f"http://127.0.0.1:{port}/tiles/big/large"
            for _ in range(300):
                try:
                    ask(f"{base}/imagery/{scene.zoom - 6}/0/0.png")
                    break
                except OSError:
                    time.sleep(0.1)
            rng = random.Random(0)
            rows = []
            for name, layer in LAYERS.items():
                urls = [f"{base}/{layer}/{z}/{x}/{y}.png?v=1" for z, x, y in random_tiles(scene, rng)]
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    start = time.perf_counter()
                    first = list(pool.map(ask, urls))
                    rate = len(urls) / (time.perf_counter() - start)
                    again = list(pool.map(ask, urls[-50:]))
                times, sizes = zip(*first, strict=True)
                p95, p95_again = (float(np.percentile(one, 95)) for one in (times, [taken for taken, _ in again]))
                median = f"{np.median(times):.0f}"
                size = f"{np.mean(sizes) / 1000:.0f}"
                rows.append([name, median, f"{p95:.0f}", f"{rate:.0f}", size, f"{p95_again:.0f}", verdict(p95, LIMIT)])
            peak = megabytes(server.pid)[1]
        finally:
            server.terminate()
            server.wait()
    header = ["", "median, ms", "p95, ms", "tiles a second", "kB", "again: p95, ms", f"p95 within {LIMIT} ms"]
    body = f"{SIDE * SIDE / 1e6:.0f} megapixels; {TILES} new tiles of each layer, {AT_ONCE} at a time.\n\n{table(header, rows)}"
    body += f"\n\nLargest memory of the server {peak:.0f} MB. The program that asks runs on the same cores."
    publish("tiles", "Map tiles", body, arguments.save)


if __name__ == "__main__":
    main()
