"""What many viewers and much data do to the dashboard: limits in the table.

    OMP_NUM_THREADS=1 python benchmarks/load.py --minutes 10 --save

Fifty viewers open Start, Map and Curves and ask for them again twice a minute, while one training runs: rounds with and without them take
turns. Then ten thousand map tiles, ten thousand studies in the workspace, and a run with a million lines of metrics.
A viewer speaks Streamlit's protocol without drawing anything, since who looks sits at another machine: what is measured is the server.
"""

import asyncio
import json
import os
import shutil
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import morecantile
import numpy as np
from dashboard import Pace, steps_of
from measuring import ROOT, in_words, megabytes, parser, publish, ratio, serving, table, verdict
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs import launch
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import EXAMPLE, Workspace
from kdcore.settings import STUDY_PRESETS, Budget

VIEWERS, ROUNDS, TILES, FIRST_TILES, STUDIES, LINES = 50, 5, 10_000, 100, 10_000, 1_000_000
PAGES = ("", "map", "curves")
EVERY = 30.0  # seconds between a viewer's looks
PATIENCE = 120.0  # seconds for one page


class Tab:
    """One viewer's page."""

    def __init__(self, url: str, page: str, query: str = "") -> None:
        self.address, self.page, self.query = f"{url.replace('http', 'ws')}/_stcore/stream", page, query
        self.seconds: list[float] = []
        self.errors: list[str] = []

    async def __aenter__(self) -> "Tab":
        self.socket = await connect(self.address, subprotocols=["streamlit"], max_size=None)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()

    async def look(self) -> None:
        """Run the page once, and keep how long it took and what went wrong."""
        asked, started = BackMsg(), time.perf_counter()
        asked.rerun_script.page_name, asked.rerun_script.query_string = self.page, self.query
        await self.socket.send(asked.SerializeToString())
        while True:
            message = ForwardMsg.FromString(await asyncio.wait_for(self.socket.recv(), PATIENCE))
            if message.delta.new_element.WhichOneof("type") == "exception":
                self.errors.append(message.delta.new_element.exception.message)
            if message.WhichOneof("type") == "script_finished":
                break
        self.seconds.append(time.perf_counter() - started)


async def view(tab: Tab, seconds: float, first: float) -> None:
    """One viewer: comes after `first` seconds, then looks again and again."""
    end = time.monotonic() + seconds
    await asyncio.sleep(first)
    async with tab:
        while time.monotonic() < end:
            try:
                await tab.look()
            except (OSError, TimeoutError) as error:
                tab.errors.append(repr(error))
                return
            await asyncio.sleep(min(EVERY, max(0.0, end - time.monotonic())))


async def crowd(url: str, seconds: float) -> list[Tab]:
    """Many viewers, each on one of the pages, spread over the time between two looks."""
    tabs = [Tab(url, PAGES[index % len(PAGES)], f"study={EXAMPLE}") for index in range(VIEWERS)]
    await asyncio.gather(*(view(tab, seconds, EVERY * index / VIEWERS) for index, tab in enumerate(tabs)))
    return tabs


async def timed(url: str, page: str, query: str = "", looks: int = 3) -> Tab:
    """One viewer alone, a few looks."""
    async with Tab(url, page, query) as tab:
        for _ in range(looks):
            await tab.look()
    return tab


def viewers(url: str, process: int, workspace: Path, minutes: float) -> list[list[str]]:
    """Fifty viewers beside one training."""
    base = STUDY_PRESETS["demo"]
    budget = Budget(steps=1_000_000, batch_size=4, crop=128, validate_every=1_000_000, save_every=1000)
    settings = base.model_copy(update={"teacher": base.teacher.model_copy(update={"budget": budget})})
    study = launch.create(Workspace(workspace), "Watched", "demo", settings, "watched")
    study.start()
    seconds = 60 * minutes / (2 * ROUNDS)
    alone, together, memory, tabs = [], [], [], []
    try:
        while steps_of(study) < 20:
            time.sleep(1)
        tabs += asyncio.run(crowd(url, EVERY))  # warm
        for _ in range(ROUNDS):
            for rates, watched in ((alone, False), (together, True)):
                pace = Pace(study)
                pace.start()
                if watched:
                    tabs += asyncio.run(crowd(url, seconds))
                    memory.append(megabytes(process)[0])
                else:
                    time.sleep(seconds)
                rates.append(pace.end())
    finally:
        study.stop()
        while study.alive:
            time.sleep(0.5)
    looks = [second for tab in tabs[VIEWERS:] for second in tab.seconds]
    errors = [error for tab in tabs for error in tab.errors]
    slower = ratio(alone, together)
    return [
        [f"{VIEWERS} viewers, {len(looks):,} looks: errors", f"{len(errors)} {errors[:1] or ''}".strip(), verdict(len(errors), 0)],
        ["a look: median, 95 of 100", f"{np.median(looks):.2f} s, {np.percentile(looks, 95):.2f} s", ""],
        ["training, alone over watched", in_words(slower), f"1.10: {verdict(slower[0], 1.10)}"],
        ["memory after the first and the last round", f"{memory[0]:.0f} MB, {memory[-1]:.0f} MB", f"1.10: {verdict(memory[-1] / memory[0], 1.1)}"],
    ]  # fmt: skip


def tiles(url: str, process: int) -> list[list[str]]:
    """Ten thousand tiles of the example, all different as far as there are so many, from four connections."""
    study = Workspace().example()
    addresses = tile_addresses(study, TILES)

    def fetch(address: str) -> tuple[float, int]:
        begun = time.perf_counter()
        with urllib.request.urlopen(url + address, timeout=PATIENCE) as answer:
            answer.read()
            return time.perf_counter() - begun, answer.status

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, addresses[:FIRST_TILES]))  # libraries are loaded, rasters open
        before, started = megabytes(process)[0], time.perf_counter()
        answers = list(pool.map(fetch, addresses))
    taken, after = time.perf_counter() - started, megabytes(process)[0]
    wrong = sum(status not in (200, 204) for _, status in answers)  # 204: nothing of the scene in it
    each = [seconds for seconds, _ in answers]
    return [
        [f"{len(addresses):,} tiles ({len(set(addresses)):,} different): errors", str(wrong), verdict(wrong, 0)],
        ["tiles a second; median, 99 of 100", f"{len(addresses) / taken:.0f}; {1000 * np.median(each):.1f} ms, {1000 * np.percentile(each, 99):.1f} ms", ""],
        [f"memory after the first {FIRST_TILES} and after all", f"{before:.0f} MB, {after:.0f} MB", f"+ 100 MB: {verdict(after - before, 100)}"],
    ]  # fmt: skip


def tiles_of(
    grid: morecantile.TileMatrixSet, bounds: tuple[tuple[float, float], tuple[float, float]]
) -> list[morecantile.Tile]:
    """The tiles of zooms 13 to 18 that touch a scene."""
    (south, west), (north, east) = bounds
    return list(grid.tiles(west, south, east, north, zooms=range(13, 19)))


def tile_addresses(study: StudyFolder, wanted: int) -> list[str]:
    """Addresses of the map tiles of a study's scenes at several zooms, layers and thresholds."""
    layers = StudyLayers.load(study.path)
    grid = morecantile.tms.get("WebMercatorQuad")
    names = ["imagery", "truth", *(f"mask-{name}-s0" for name in ("teacher", "alone", "distilled"))]
    made = [
        f"/tiles/{study.id}/{scene.id}/{name}/{tile.z}/{tile.x}/{tile.y}.png?threshold={threshold / 100}"
        for scene in layers.scenes
        for threshold in range(1, 100)
        for name in names
        for tile in tiles_of(grid, scene.bounds)
    ]
    return made[:: max(1, len(made) // wanted)][:wanted]


def copies(study: Path, workspace: Path, count: int) -> None:
    """A workspace with so many studies, made of one."""
    about = json.loads((study / "about.json").read_text(encoding="utf-8"))
    for index in range(count):
        folder = workspace / f"study-{index:05}"
        folder.mkdir()
        for name in ("study.yaml", "data.json", "report.json"):
            shutil.copy2(study / name, folder / name)
        (folder / "job.json").write_text('{"format": 2, "state": "finished"}', encoding="utf-8")
        named = about | {"title": f"Study {index}", "created": 1.7e9 + index}
        (folder / "about.json").write_text(json.dumps(named), encoding="utf-8")


def pages_seconds(workspace: Path, pages: dict[str, tuple[str, str]]) -> dict[str, list[float]]:
    """Seconds of each page's first look and of two more, on a server of its own."""
    found = {}
    with serving(ROOT / "app.py", KDCORE_WORKSPACE=str(workspace)) as (url, _, _):
        asyncio.run(timed(url, "data", looks=1))  # the server has its libraries
        for name, (page, query) in pages.items():
            tab = asyncio.run(timed(url, page, query))
            assert not tab.errors, tab.errors
            found[name] = tab.seconds
    return found


def many_studies(example: Path, folder: Path) -> list[list[str]]:
    """A workspace with ten thousand studies."""
    copies(example, folder, STUDIES)
    pages = {name: (name.lower(), "") for name in ("Runs", "Train", "Map", "Curves")}
    rows = []
    for name, seconds in pages_seconds(folder, pages).items():
        limit = f"1 s: {verdict(max(seconds[1:]), 1)}" if name == "Runs" else ""
        rows.append(
            [
                f"{STUDIES:,} studies: {name}, first look and later",
                f"{seconds[0]:.2f} s, {max(seconds[1:]):.2f} s",
                limit,
            ]
        )
    return rows  # fmt: skip


def long_metrics(example: Path, folder: Path) -> list[list[str]]:
    """A run with a million lines of metrics, on the page that watches it."""
    study = folder / "long"
    shutil.copytree(example, study, ignore=shutil.ignore_patterns("report.*", "layers"))
    (study / "job.json").write_text('{"format": 2, "state": "stopped"}', encoding="utf-8")
    with (study / "runs/alone-s0/metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f'{{"step": {step}, "loss": {1 / (step + 1)}, "seconds": {step}}}\n' for step in range(LINES))
    os.utime(study, (time.time(), time.time()))
    (seconds,) = pages_seconds(folder, {"Train": ("train", "study=long")}).values()
    return [
        [
            f"{LINES:,} lines of metrics: the page, first look and later",
            f"{seconds[0]:.2f} s, {max(seconds[1:]):.2f} s",
            "",
        ]
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--minutes", type=float, default=10.0, help="of the viewers, half of them beside the training"
    )
    given = arguments.parse_args()
    example = Workspace().example().path
    with tempfile.TemporaryDirectory() as folder:
        many, long, busy = (Path(folder) / name for name in ("many", "long", "busy"))
        for made in (many, long, busy):
            made.mkdir()
        rows = many_studies(example, many) + long_metrics(example, long)
        with serving(ROOT / "app.py", KDCORE_WORKSPACE=str(busy)) as (url, process, _):
            rows += tiles(url, process)
            rows += viewers(url, process, busy, given.minutes)
    publish("load", "What many viewers and much data do", table(["", "measured", "limit"], rows), given.save)


if __name__ == "__main__":
    main()
