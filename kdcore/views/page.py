"""A study's report as one HTML page that opens offline, with its figures."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import rasterio
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from kdcore.data.collection import Collection
from kdcore.data.scene import Box
from kdcore.errors import KdcoreError
from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.calibration import calibration
from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.levels import NODATA, decide
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.stored_curves import curves_of
from kdcore.jobs.store import SHOWN_METRICS, RunDirectory, list_runs
from kdcore.ownership import write_own_text
from kdcore.settings import class_colours
from kdcore.views.amounts import amounts_html
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, key_html
from kdcore.views.curves import precision_recall_figure, precision_recall_grid
from kdcore.views.differences import difference_figure, difference_rows
from kdcore.views.learning import learning_figure
from kdcore.views.pictures import blend, data_uri, show_imagery, show_labels
from kdcore.views.quality import quality_figure, quality_table, reliability_figure

VIEW = 320  # pixels: side of a picture


def write_page(study: Path, report: dict[str, Any], overwrite: bool = False) -> Path:
    """Write `report.html` into the study's folder, and its curves, which pages then need not measure.

    Args:
        study: the folder.
        report: what `study_report` gave.
        overwrite: replace a page that somebody edited.

    Returns:
        The page's path.

    Raises:
        NotOursError: the page was edited, or somebody else's file has its name.
    """
    runs = arm_runs(study)
    trained = {
        arm: directories for arm, directories in runs.items() if any(run.metrics.exists() for run in directories)
    }
    if "teacher" not in trained:
        members = [run for run in list_runs(study / "runs") if run.trained_teacher]
        trained = {"teacher": members} | trained if members else trained
    curves = curves_of(study, keep=True)
    figures = report_figures(curves, report["comparison"]) | {
        "learning": learning_figure(
            {arm: [run.read_metrics(SHOWN_METRICS) for run in directories] for arm, directories in trained.items()}
        ),
    }
    environment = Environment(loader=PackageLoader("kdcore", "views"), autoescape=True)
    environment.filters["percent"] = lambda value, digits=1: "–" if value is None else f"{100 * value:.{digits}f}"
    colours = class_colours(report["data"]["colours"])
    for figure in figures.values():
        figure.update_layout(template="plotly_white")
    text = environment.get_template("report.html").render(
        report=report,
        arms=report["arms"],
        comparison=report["comparison"],
        gap=gap_sentence(report),
        title=", ".join(ARM_NAMES[arm].lower() for arm in report["arms"]),
        names=ARM_NAMES,
        keys={arm: key_html(arm) for arm in ARM_NAMES},
        quality=quality_table(curves, difference_rows(report["comparison"], curves)[0]),
        amounts=class_amounts(curves, report["data"]["metres_per_pixel"]),
        arm_colours=ARM_COLOURS,
        legend=list(zip(report["data"]["classes"], colours, strict=True)),
        views=picture_rows(report, runs, colours),
        plotly=plotly.offline.get_plotlyjs(),
        figures={
            name: plotly.io.to_html(figure, full_html=False, include_plotlyjs=False) for name, figure in figures.items()
        },
    )
    page = study / "report.html"
    write_own_text(page, text, overwrite)
    return page


def class_amounts(curves: StudyCurves, metres_per_pixel: float | None) -> list[tuple[str, str]]:
    """For each class its name, and in HTML what the arms find of it at the thresholds chosen on validation."""
    blocks = []
    for view, name in enumerate(curves.classes):
        points = curves.points(view, curves.chosen_levels(view))
        ap = {arm: float(measured.ap[view, 0]) for arm, measured in curves.arms.items()}
        blocks.append((name, amounts_html(points, ap, metres_per_pixel)))
    return blocks


def picture_rows(
    report: dict[str, Any], runs: dict[str, list[RunDirectory]], colours: list[str]
) -> list[dict[str, Any]]:
    """An easy, a typical and a hard place of the test split, as pictures; none where imagery or maps are not at hand any more."""
    try:
        collection = Collection.open(Path(report["data"]["collection"]))
        if collection.content_hash != report["data"]["hash"]:
            return []  # truth beside maps of other imagery would tell stories
        return draw_rows(collection, report, runs, colours)
    except (KdcoreError, RasterioError):
        return []


def draw_rows(
    collection: Collection,
    report: dict[str, Any],
    runs: dict[str, list[RunDirectory]],
    colours: list[str],
) -> list[dict[str, Any]]:
    """The pictures of `picture_rows`."""
    scenes = {scene.id: scene for scene in collection.scenes}
    to_centre = report["settings"]["evaluation"]["tile"] // 2
    scores = Scores.load(runs["distilled"][0].scores)
    rows = []
    for name, index in pick_tiles(scores):
        scene_id, row, column = scores.tiles[index]
        scene = scenes[scene_id]
        height, width = min(VIEW, scene.height), min(VIEW, scene.width)
        box = Box(
            min(max(0, row + to_centre - height // 2), scene.height - height),
            min(max(0, column + to_centre - width // 2), scene.width - width),
            height,
            width,
        )
        crop = collection.reader.read(scene, box)
        imagery = show_imagery(crop.image, crop.valid)
        masks = {"Truth": crop.labels}
        for arm, directories in runs.items():
            masks[ARM_NAMES[arm]] = read_mask(directories[0].maps / f"{scene_id}.tif", box)
        rows.append(
            {
                "name": name,
                "scene": scene_id,
                "pictures": [("Imagery", data_uri(imagery))]
                + [(title, data_uri(blend(imagery, show_labels(mask, colours), 0.6))) for title, mask in masks.items()],
            }
        )
    return rows


def pick_tiles(scores: Scores) -> list[tuple[str, int]]:
    """Tiles at the 90th, 50th and 10th percentile of the share of right pixels, among those that hold several classes."""
    totals = scores.confusion.sum(axis=(1, 2))
    right = np.trace(scores.confusion, axis1=1, axis2=2) / np.maximum(totals, 1)
    varied = (scores.confusion.sum(axis=2) > 0.03 * totals[:, None]).sum(axis=1) >= 2
    candidates = np.flatnonzero(varied & (totals >= 0.5 * totals.max()))
    if not len(candidates):
        candidates = np.arange(len(right))
    order = candidates[np.argsort(right[candidates], kind="stable")]
    return [
        (name, int(order[round(share * (len(order) - 1))]))
        for name, share in (("easy", 0.9), ("typical", 0.5), ("hard", 0.1))
    ]


def read_mask(path: Path, box: Box) -> NDArray[np.uint8]:
    """Classes that a run's probability map decides on, 255 where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            levels = dataset.read(window=Window(box.column, box.row, box.width, box.height))
    return np.where(levels[0] == NODATA, 255, decide(levels)).astype(np.uint8)


def report_figures(curves: StudyCurves, comparison: Mapping[str, Any]) -> dict[str, go.Figure]:
    """The figures of a report that nobody can move a slider in: every view, thresholds as chosen on validation.

    Args:
        curves: of the study.
        comparison: as the study's report has it.

    Returns:
        `curves`, `difference`, `quality` and `calibration`.
    """
    points = {view: curves.points(view, curves.chosen_levels(view)) for view in curves.views}
    whole = curves.views[-1]
    return {
        "curves": precision_recall_figure(curves, whole, points[whole])
        if len(points) == 1
        else precision_recall_grid(curves, points),
        "difference": difference_figure(difference_rows(comparison, curves), covers_seeds=comparison["covers_seeds"]),
        "quality": quality_figure(curves),
        "calibration": reliability_figure(
            {arm: calibration(*measured.fine, whole) for arm, measured in curves.arms.items()}
        ),
    }
