"""What the dashboard costs: its first page, its memory, a move of its slider, a live page, and ten people who watch one training.

    OMP_NUM_THREADS=1 python benchmarks/dashboard.py

Starts `streamlit run app.py` as a user does, opens the bundled example in Chromium without internet, then trains a small study and
looks at it from ten tabs. A tab here speaks Streamlit's protocol without drawing anything, since the people who look sit at other
machines: what is measured is the server. Rounds with and without tabs take turns.
"""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from threading import Event, Thread

import numpy as np
from measuring import ROOT, in_words, megabytes, parser, processor_seconds, publish, ratio, serving, table, verdict
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from threshold import move_in
from websockets.asyncio.client import connect

from kdcore.jobs import launch
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS, Budget

READY = "[data-testid=stApp][data-test-script-state=notRunning]"
PAGES = ("data", "train", "map", "curves", "runs")
STARTS, MOVES, TABS, ROUNDS, SECONDS = 3, 10, 10, 5, 24
TICK = 2.0


def least(browser, folder: Path) -> float:
    """Seconds to the numbers of an app that shows nothing else: what Streamlit and the browser take themselves."""
    app = folder / "least.py"
    app.write_text('import streamlit as st\nst.metric("Score out of 100", 1)\n')
    times = []
    for _ in range(STARTS):
        with serving(app) as (url, _, _):
            times.append(seconds_to_numbers(browser, url)[0])
    return median(times)


def seconds_to_numbers(browser, url: str) -> tuple[float, float, Page]:
    """Opens a page in a fresh window: seconds until the numbers stand there, when it began, and the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    start = time.perf_counter()
    page.goto(url)
    page.get_by_text("Score out of 100").wait_for()
    return time.perf_counter() - start, start, page


def first_pages(browser, workspace: Path) -> tuple[list[list[float]], list[float], float, bool]:
    """Seconds to the answer, to the numbers and to the map of each start; of the last one memory after each page, and a move of Curves' slider."""
    times = []
    for _ in range(STARTS):
        with serving(ROOT / "app.py", KDCORE_WORKSPACE=str(workspace)) as (url, process, answered):
            numbers, start, page = seconds_to_numbers(browser, url)
            page.frame_locator("iframe").locator("img.leaflet-tile-loaded").first.wait_for()
            times.append([answered, numbers, time.perf_counter() - start])
            page.wait_for_selector(READY)
            memory = [megabytes(process)[0]]
            if len(times) == STARTS:
                for name in PAGES:
                    page.goto(f"{url}/{name}")
                    page.wait_for_selector(READY)
                    page.wait_for_timeout(3000)
                    memory.append(megabytes(process)[0])
            torch = "libtorch" in Path(f"/proc/{process}/maps").read_text()
            page.close()
            if len(times) == STARTS:
                moved = float(move_in(browser.new_page(), f"{url}/curves", MOVES)[0])
    return times, memory, moved, torch


async def look(url: str, study: str, seconds: float, received: list[int]) -> None:
    """One tab: opens the page, then asks for its live part again as often as the page says, and counts bytes a look."""
    address = f"{url.replace('http', 'ws')}/_stcore/stream"
    async with connect(address, subprotocols=["streamlit"], max_size=None) as tab:
        first = BackMsg()
        first.rerun_script.query_string = f"study={study}"
        first.rerun_script.page_name = "train"
        await tab.send(first.SerializeToString())
        fragment, size, end = "", 0, time.monotonic() + seconds
        asked = time.monotonic()
        while time.monotonic() < end:
            try:
                data = await asyncio.wait_for(tab.recv(), max(0.01, asked + TICK - time.monotonic()))
                size += len(data)
                message = ForwardMsg.FromString(data)
                fragment = message.auto_rerun.fragment_id or fragment
            except TimeoutError:
                received.append(size)
                size, asked = 0, time.monotonic()
                again = BackMsg()
                again.rerun_script.CopyFrom(first.rerun_script)
                again.rerun_script.fragment_id = fragment
                again.rerun_script.is_auto_rerun = True
                await tab.send(again.SerializeToString())


async def look_from(url: str, study: str, tabs: int, seconds: float) -> list[list[int]]:
    """Bytes of each look of each tab."""
    received: list[list[int]] = [[] for _ in range(tabs)]
    await asyncio.gather(*(look(url, study, seconds, one) for one in received))
    return received


class Pace(Thread):
    """Looks at a study's steps while something else goes on."""

    def __init__(self, study: StudyFolder) -> None:
        super().__init__()
        self.study, self.over, self.seen = study, Event(), []

    def run(self) -> None:
        """Look until `end`."""
        while not self.over.wait(0.1):
            step = steps_of(self.study)
            if not self.seen or step != self.seen[-1][1]:
                self.seen.append((time.monotonic(), step))

    def end(self) -> float:
        """Steps a second, between the first and the last time that the number of steps was seen to change."""
        self.over.set()
        self.join()
        (first, done), (last, more) = self.seen[1], self.seen[-1]
        return (more - done) / (last - first)


def steps_of(study: StudyFolder) -> int:
    return study.progress().step


def watched(workspace: Path) -> tuple[list[float], list[float], list[int], float]:
    """Steps a second alone and watched, bytes a look, and the share of one core that the watched server takes."""
    base = STUDY_PRESETS["demo"]
    endless = base.teacher.model_copy(
        update={"budget": Budget(steps=1_000_000, batch_size=4, crop=128, validate_every=1_000_000, save_every=1000)}
    )
    settings = base.model_copy(update={"teacher": endless})
    study = launch.create(Workspace(workspace), "Watched", "demo", settings, "watched")
    study.start()
    alone, together, looks, shares = [], [], [], []
    with serving(ROOT / "app.py", KDCORE_WORKSPACE=str(workspace)) as (url, process, _):
        try:
            while steps_of(study) < 20:
                time.sleep(1)
            for _ in range(ROUNDS):
                for rates, tabs in ((alone, 0), (together, TABS)):
                    start, busy, pace = time.monotonic(), processor_seconds(process), Pace(study)
                    pace.start()
                    received = asyncio.run(look_from(url, study.id, tabs, SECONDS)) if tabs else time.sleep(SECONDS)
                    taken = time.monotonic() - start
                    rates.append(pace.end())
                    if received:
                        looks += [size for one in received for size in one[1:]]
                        shares.append((processor_seconds(process) - busy) / taken)
        finally:
            study.stop()
            while study.alive:
                time.sleep(0.5)
    return alone, together, looks, median(shares)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            times, memory, moved, torch = first_pages(browser, Path(folder) / "studies")
            alone_on_the_page = least(browser, Path(folder))
            browser.close()
        alone, together, looks, share = watched(Path(folder) / "studies")
    answered, numbers, shown = (median(column) for column in zip(*times, strict=True))
    rows = [
        ["Server answers after its start", f"{answered:.2f} s", ""],
        ["First page: numbers on screen", f"{numbers:.2f} s", verdict(numbers, 2)],
        ["The same of an app that shows one number", f"{alone_on_the_page:.2f} s", ""],
        ["First page: map on screen", f"{shown:.2f} s", ""],
        ["Memory after the first page", f"{memory[0]:.0f} MB", verdict(memory[0], 250)],
        ["Memory after all pages", f"{memory[-1]:.0f} MB", verdict(memory[-1], 250)],
        ["Curves: from a key on the slider to the last change of the chart", f"{moved:.0f} ms", verdict(moved, 150)],
        ["torch in the process", "yes" if torch else "no", ""],
        ["A look at a live page, mean", f"{np.mean(looks) / 1000:.1f} kB", verdict(float(np.mean(looks)) / 1000, 60)],
        [f"Server with {TABS} live pages", f"{100 * share:.1f} % of a core", ""],
    ]  # fmt: skip
    slower = ratio(alone, together)
    body = table(["", "measured", "limit"], rows)
    body += f"\n\n{STARTS} starts, medians. Memory in MB after Start, {', '.join(PAGES)}: {', '.join(f'{m:.0f}' for m in memory)}."
    body += (
        f"\n\n{TABS} tabs: the training's steps a second {np.mean(alone):.2f} alone and {np.mean(together):.2f} watched "
        f"({ROUNDS} rounds of {SECONDS} s in turn), alone over watched {in_words(slower)}; limit 1.03: {verdict(slower[0], 1.03)}."
    )
    publish("dashboard", "What the dashboard costs", body, arguments.save)


if __name__ == "__main__":
    main()
