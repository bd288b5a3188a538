"""How long the server works when the threshold on the Curves page moves, until the new chart is on its way to the browser.

    OMP_NUM_THREADS=1 python benchmarks/threshold.py [STUDY] [--rounds 40] [--browser] [--save]        # about a minute

Without STUDY, a finished study's folder, one is made up: five classes, three seeds, 192 tiles. Columns: the median of the
clock and of the process's processor time in milliseconds, and the size of what is sent in kilobytes.

- *Points and chart*: reading the histograms at the new threshold, the chart's option, and its text.
- *Fragment*: what the server runs when the slider moves, by Streamlit's AppTest: widgets, chart, amounts.
- *Whole page*: the same with everything else on the page, as when a class is chosen.
- *First look*: measuring curves with 512 resamples, once for each state of a study's files.

The limit is 150 ms for a fragment.

With `--browser` (a minute more; needs Chromium) the slider is moved in a browser, on the page's chart (ECharts) and on the report's
(Plotly) with the same curves and points: milliseconds from the key to the last change on the page, how often the chart was built
anew (a zoom is lost, and markers jump instead of gliding), and what was sent. This is why the page has a grammar of its own.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from measuring import ROOT, Times, milliseconds, parser, publish, serving, table, verdict
from streamlit.testing.v1 import AppTest

from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.operating import MEAN
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.curves import SIDE_BY_SIDE, load_curves, stamp, views_of
from kdcore.views.moving import moving_curves, put_points

LIMIT = 0.150  # seconds
LEVELS = cycle(range(30, 220, 7))
PERCENTS = cycle(range(12, 90, 5))
SCRIPT = """
from pathlib import Path
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.curves import show_curves, stamp
show_curves({study!r}, {files!r}, {view}, 2.0)
"""


PLOTLY = """
import streamlit as st
from pathlib import Path
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.curves import choose_threshold, load_curves, show_curves, stamp, views_of
from kdcore.views.curves import precision_recall_figure, precision_recall_grid
study, view, kind = {study!r}, int(st.query_params["view"]), st.query_params["kind"]
files = stamp(StudyFolder(Path(study)))

@st.fragment
def plotly():
    curves = load_curves(study, files)
    levels = choose_threshold(curves)
    points = {{each: curves.points(each, levels(each)) for each in views_of(curves, view)}}
    one = len(points) == 1
    figure = precision_recall_figure(curves, view, points[view]) if one else precision_recall_grid(curves, points)
    st.plotly_chart(figure, key="precision recall", alt="curves")

if kind == "Plotly":
    plotly()
else:
    show_curves(study, files, view, 2.0)
"""
CHART = "[data-testid=stPlotlyChart], [data-testid=stEChartsChart]"
WATCH = """chart => new MutationObserver(() => { window.last = performance.now() }).observe(
    chart.closest("[data-testid=stMain]"), {childList: true, subtree: true, attributes: true})"""
MARK = (
    """chart => { chart.querySelector("svg").dataset.before = "yes"; window.last = window.first = performance.now() }"""
)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("study", nargs="?", type=Path, help="a finished study's folder; made up if not given")
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--browser", action="store_true", help="measure in Chromium, too")
    options = arguments.parse_args()
    sys.path.append(str(ROOT))
    from tests.synthetic_study import make_study

    with tempfile.TemporaryDirectory() as folder:
        path = options.study or make_study(Path(folder) / "made-up")
        report(path.resolve(), options.rounds, options.browser, options.save)


def report(path: Path, rounds: int, browser: bool, save: bool) -> None:
    study = StudyFolder(path)
    files = stamp(study)
    before = time.perf_counter()
    curves = load_curves.__wrapped__(str(path), files)
    first = time.perf_counter() - before
    rows, slowest = [], 0.0
    for name, view in {"one class": 0, "mean of the classes": MEAN, "side by side": SIDE_BY_SIDE}.items():
        if view != 0 and len(curves.views) == 1:
            continue
        times, size = measure_chart(curves, view, rounds)
        rows.append([f"Points and chart, {name}", *shown(times), f"{size / 1e3:.0f}"])
        times = measure_app(AppTest.from_string(SCRIPT.format(study=str(path), files=files, view=view)), rounds)
        slowest = max(slowest, median(times.wall))
        rows.append([f"Fragment, {name}", *shown(times), ""])
    with workspace(path.parent):
        at = AppTest.from_file(str(ROOT / "pages/frame.py"))
        at.query_params["study"] = path.name
        at.run(timeout=120)
        at.switch_page("curves.py")
        rows.append(["Whole page", *shown(measure_app(at, rounds)), ""])
    rows.append(["First look", f"{1000 * first:.0f}", "", ""])
    seeds, tiles = curves.seeds, curves.tiles
    body = [
        f"{len(curves.classes)} classes, {seeds} seeds, {tiles} tiles; {rounds} moves of the slider.",
        table(["", "clock, ms", "processor, ms", "sent, kB"], rows),
        f"Slowest fragment {1000 * slowest:.0f} ms; limit {1000 * LIMIT:.0f} ms: {verdict(slowest, LIMIT)}.",
    ]
    if browser:
        columns = ["in a browser", "key to last change, ms", "built anew", "sent, kB"]
        body.append(table(columns, list(in_browser(path, curves))))
    publish("threshold", "The threshold slider of the Curves page", "\n\n".join(body), save)


def in_browser(path: Path, curves: StudyCurves, moves: int = 10) -> Iterator[list[str]]:
    """Rows of what a browser makes of a move of the slider, by chart and view."""
    from playwright.sync_api import sync_playwright

    views = {"one class": 0} | ({"side by side": SIDE_BY_SIDE} if len(curves.views) > 1 else {})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = Path(folder) / "app.py"
        app.write_text(PLOTLY.format(study=str(path)))
        with serving(app) as (url, _, _):
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for name, view in views.items():
                for kind in ("ECharts", "Plotly"):
                    yield [f"{kind}, {name}", *move_in(chromium.new_page(), f"{url}/?view={view}&kind={kind}", moves)]
            chromium.close()


def move_in(page: Any, url: str, moves: int) -> list[str]:
    """Move the slider by keyboard and watch the page."""
    sent, times, built, sizes = [0], [], 0, []

    def count(data: str | bytes) -> None:
        sent[0] += len(data)

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    page.goto(url)
    chart = page.locator(CHART).first
    chart.locator("svg").first.wait_for(timeout=60_000)
    slider = page.get_by_role("slider")
    slider.press("ArrowLeft")
    page.wait_for_timeout(5000)
    chart.evaluate(WATCH)
    for _ in range(moves):
        sent[0] = 0
        chart.evaluate(MARK)
        slider.press("ArrowLeft")
        page.wait_for_timeout(4000)
        times.append(page.evaluate("window.last - window.first"))
        built += not page.locator("svg[data-before]").count()
        sizes.append(sent[0])
    page.close()
    return [f"{median(times):.0f}", f"{built} of {moves}", f"{median(sizes) / 1e3:.0f}"]


def measure_chart(curves: StudyCurves, view: int, rounds: int) -> tuple[Times, int]:
    """The work that is ours: histograms to the text of a chart."""
    still = json.dumps(moving_curves(curves, views_of(curves, view)))
    sizes = []

    def move() -> None:
        level = next(LEVELS)
        points = {each: curves.points(each, dict.fromkeys(curves.arms, level)) for each in views_of(curves, view)}
        sizes.append(len(json.dumps(put_points(json.loads(still), points))))

    return repeat(move, rounds), sizes[-1]


def measure_app(at: AppTest, rounds: int) -> Times:
    """Moves of the slider, through Streamlit."""
    at.run(timeout=120)

    def move() -> None:
        at.slider(key="threshold").set_value(next(PERCENTS)).run(timeout=60)
        assert not at.exception, at.exception

    return repeat(move, rounds)


def repeat(move: Callable[[], None], rounds: int, warm_up: int = 3) -> Times:
    """Times by the clock and of the process: Streamlit works in threads of its own."""
    times = Times()
    for index in range(warm_up + rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        move()
        if index >= warm_up:
            times.add(time.perf_counter() - wall, time.process_time() - cpu)
    return times


def shown(times: Times) -> list[str]:
    return [milliseconds(times.wall), milliseconds(times.cpu)]


@contextmanager
def workspace(folder: Path) -> Iterator[None]:
    """Let the pages look into a folder."""
    before = os.environ.get("KDCORE_WORKSPACE")
    os.environ["KDCORE_WORKSPACE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("KDCORE_WORKSPACE")
        if before is not None:
            os.environ["KDCORE_WORKSPACE"] = before


if __name__ == "__main__":
    main()
