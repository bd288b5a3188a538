"""What the Curves page shows: its sections, and the measurements behind them, loaded once for each state of the files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray

from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.calibration import calibration
from kdcore.evaluation.curves import iou_from_confusion, precision_recall
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import MEAN, OperatingPoint, level_of
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.stored_curves import curves_of
from kdcore.jobs.small_files import modified
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import percent, plain, visible
from kdcore.views.amounts import amounts_html, shares_in_words
from kdcore.views.arms import ARM_NAMES
from kdcore.views.curves import view_name
from kdcore.views.differences import difference_figure, difference_rows, gain_figure, interval_in_words
from kdcore.views.layout import CONFIG
from kdcore.views.moving import chart_height, moving_curves, put_points
from kdcore.views.quality import calibration_html, quality_figure, quality_table, reliability_figure

SIDE_BY_SIDE = -2  # every class in a panel of its own
LABELS = {MEAN: "Mean of all classes", SIDE_BY_SIDE: "Side by side"}
BUTTONS, LETTERS = 8, 90  # at most, for classes to stand as buttons in one row
Stamp = tuple[tuple[str, int], ...]


def stamp(study: StudyFolder) -> Stamp:
    """The files that the curves are measured from, and when each was last changed.

    Raises:
        RunError: a run is not finished.
    """
    files = [
        file for runs in arm_runs(study.path).values() for run in runs for file in (run.scores, run.validation_scores)
    ]
    return tuple((str(file), modified(file)) for file in [*files, study.path / "report.json"])


@st.cache_data(max_entries=8, show_spinner="Measuring how sure the curves are …")
def load_curves(study: str, stamp: Stamp) -> StudyCurves:
    """A study's curves with their bands; `stamp` tells one state of its files from the next."""
    curves = curves_of(Path(study))
    return replace(curves, classes=tuple(map(visible, curves.classes)))


def choose_view(curves: StudyCurves) -> int:
    """Let a person choose a class, their mean, or all side by side; the address names it. One class is no choice."""
    if len(curves.views) == 1:
        return curves.views[0]
    names = dict(LABELS)
    for view, name in enumerate(curves.classes):
        names[view] = f"{name} (class)" if name in LABELS.values() else name
    options = [MEAN, *range(len(curves.classes)), SIDE_BY_SIDE]
    simple = all(name.replace("_", "a").replace(" ", "a").replace("-", "a").isalnum() for name in curves.classes)
    if simple and len(options) <= BUTTONS and sum(map(len, names.values())) <= LETTERS:
        chosen = st.segmented_control(
            "Class",
            options,
            format_func=names.__getitem__,
            default=MEAN,
            required=True,
            key="class",
            bind="query-params",
            label_visibility="collapsed",
        )
    else:  # names in a list are shown as they are; on buttons they would be read as Markdown
        chosen = st.selectbox(
            "Class", options, format_func=names.__getitem__, key="class", bind="query-params", width=460
        )
    return MEAN if chosen is None else chosen


@st.fragment
def show_curves(study: str, files: Stamp, view: int, metres_per_pixel: float | None) -> None:
    """Precision-recall curves with the operating points that one slider moves; only this is drawn again when it moves."""
    curves = load_curves(study, files)
    if view == SIDE_BY_SIDE:
        controls, words = st.columns([0.36, 0.64], gap="large")
        chart = st.container()
    else:
        chart, controls = st.columns([0.64, 0.36], gap="medium")
        words = controls
    with controls:
        levels = choose_threshold(curves)
    shown = MEAN if view == SIDE_BY_SIDE else view
    points = {each: curves.points(each, levels(each)) for each in views_of(curves, view)}
    with chart:
        st.echarts_chart(
            put_points(still_chart(study, files, view), points),
            height=chart_height(views_of(curves, view)),
            renderer="svg",
            key="precision recall",
            alt=curves_alt(view_name(curves, shown), points[shown]),
        )
    with words:
        ap = {arm: float(measured.ap[shown, 0]) for arm, measured in curves.arms.items()}
        st.html(amounts_html(points[shown], ap, metres_per_pixel, mean=shown == MEAN))
        st.caption(amounts_caption(curves, view))


def choose_threshold(curves: StudyCurves) -> Any:
    """One slider for all arms, or each arm's threshold chosen on validation; gives a function from a view to levels."""
    chosen = st.toggle(
        "Threshold chosen on validation",
        value=True,
        key="validated",
        bind="query-params",
        help="Each network uses the threshold with the best F1 on the validation split, which it was not trained on and which is not shown here. "
        "That is the fair way to compare: nobody has peeked at the test split.",
    )
    wanted = st.slider(
        "Or one threshold for all" if chosen else "One threshold for all",
        1,
        99,
        50,
        format="%d %%",
        key="threshold",
        bind="query-params",
        on_change=use_slider,
        help="A pixel is marked if the network is at least this sure. Lower: more is found, with more false alarms.",
    )
    if chosen:
        return curves.chosen_levels
    level = level_of(wanted / 100)
    return lambda view: dict.fromkeys(curves.arms, level)


def use_slider() -> None:
    """Whoever moves the slider wants its threshold."""
    st.session_state["validated"] = False


def views_of(curves: StudyCurves, view: int) -> list[int]:
    """The panels of a view."""
    return curves.views if view == SIDE_BY_SIDE else [view]


@st.cache_data(max_entries=64, show_spinner=False)
def still_chart(study: str, files: Stamp, view: int) -> dict[str, Any]:
    """What the slider does not move in the chart of a view."""
    curves = load_curves(study, files)
    return moving_curves(curves, views_of(curves, view))


def draw(figure: go.Figure, key: str, alt: str) -> None:
    """Show a figure in the page's theme; the key keeps it in place when its numbers change."""
    st.plotly_chart(figure, key=key, config=CONFIG, alt=alt)


def curves_alt(view_name: str, points: Mapping[str, OperatingPoint]) -> str:
    """What the precision-recall chart shows, for those who cannot see it."""
    said = "; ".join(f"{ARM_NAMES[arm].lower()} {shares_in_words(point)}" for arm, point in points.items())
    return f"Precision-recall curves of {view_name}: {said}"


def amounts_caption(curves: StudyCurves, view: int) -> str:
    """What the bars, or the shares, mean."""
    if view in LABELS:
        return "Mean over the classes, each marked where its probability reaches the threshold. Choose a class to see areas."
    seeds = " Means of all seeds." if curves.seeds > 1 else ""
    return f"Full: found. Empty: missed. Hatched: false alarm, marked but something else.{seeds}"


def show_reading_help(curves: StudyCurves, view: int) -> None:
    """One sentence for each word and sign in the chart."""
    one, every = ("a class", "pixels of a class") if view in LABELS else (plain(view_name(curves, view)),) * 2
    seeds = " Thin lines: single seeds, the same training started anew." if curves.seeds > 1 else ""
    terms = {
        "Precision": f"Of what a network marked as {one}, how much is.",
        "Recall": f"Of all {every}, how much it found.",
        "Curve": "Every point is one threshold: strict ones on the left, lenient ones on the right. Higher is better.",
        "AP": "Average precision, the area under a curve: 100 is perfect, and a guess reaches the grey line.",
        "Shaded band": f"Here {percent(curves.confidence, 0)} of the curves would pass had other ground of the same kind been tested.{seeds}",
        "F1": "The balance of precision and recall; dotted lines join points of equal F1.",
    }
    columns = st.columns(3, gap="medium")
    for number, (name, sentence) in enumerate(terms.items()):
        columns[number // 2].markdown(f"**{name}.** {sentence}")


def show_differences(study: str, files: Stamp, view: int, comparison: Mapping[str, Any]) -> None:
    """The paired difference: its three numbers with intervals, those of the classes, and where on the curve it lies."""
    curves = load_curves(study, files)
    rows = difference_rows(comparison, curves)
    shown = MEAN if view == SIDE_BY_SIDE else view
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Distilled student minus student alone**")
        said = "; ".join(f"{row.name} {interval_in_words(row)}" for row in rows[:3])
        draw(
            difference_figure(rows, covers_seeds=comparison["covers_seeds"]),
            "differences",
            f"Differences in points: {said}",
        )
    with right:
        st.markdown(f"**Precision gained at the same recall: {plain(view_name(curves, shown))}**")
        draw(
            gain_figure(curves, shown),
            "gain",
            f"Precision gained by distillation at every recall, {view_name(curves, shown)}",
        )
    seeds = (
        f"and how much results vary between runs ({curves.seeds} seeds)"
        if comparison["covers_seeds"]
        else "but not how much results vary between runs: there is one seed only, so it is too early to say"
    )
    exploratory = (
        "The classes are exploratory: nobody planned to compare them, and their intervals are widened for their number (Holm). "
        if len(curves.classes) > 1
        else ""
    )
    st.caption(
        f"Lines: {percent(curves.confidence, 0)} intervals. They cover which ground was tested "
        f"({comparison['tiles']} test tiles, the same for both students) {seeds}. "
        f"Filled: better or worse; hollow: no detectable difference. {exploratory}"
        "Two shaded curves above may overlap although the difference is clear, because a tile that is hard is hard for both."
    )


def show_quality(study: str, files: Stamp, comparison: Mapping[str, Any]) -> None:
    """AP of every class with intervals, as a figure and as a table."""
    curves = load_curves(study, files)
    several = len(curves.classes) > 1
    st.header("Which classes are easy, which are hard?" if several else "How good is each network?")
    if several:
        best = ", ".join(f"{ARM_NAMES[arm].lower()} {100 * a.ap[MEAN, 0]:.1f}" for arm, a in curves.arms.items())
        draw(quality_figure(curves), "quality", f"Average precision of each class and arm; mean: {best}")
    table = quality_table(curves, difference_rows(comparison, curves)[0])
    st.table(
        pd.DataFrame(
            {
                "Class": [
                    f"**{plain(row['name']).capitalize()}**" if row["view"] == MEAN else plain(row["name"])
                    for row in table
                ],
                "A guess": [row["guess"] for row in table],
                **{ARM_NAMES[arm]: [unbroken(row[arm]) for row in table] for arm in curves.arms},
                "Distilled minus alone": [unbroken(row["difference"]) for row in table],
            }
        ),
        hide_index=True,
        border="horizontal",
        alt="Average precision of each class with intervals, and the difference between the students",
    )
    st.caption(
        f"Average precision with {percent(curves.confidence, 0)} intervals, mean over seeds. A guess reaches the class's share of the pixels (its prevalence), "
        "so 40 is much for a class that covers 2 % of the ground, and little for one that covers 39 %."
    )


def unbroken(estimate: str) -> str:
    """An estimate whose interval stays in one line of a narrow column."""
    return estimate.replace(" to ", "\u00a0to\u00a0")


def show_calibration(study: str, files: Stamp, view: int) -> None:
    """Whether probabilities can be trusted: a reliability diagram, and each arm's error in a sentence."""
    curves = load_curves(study, files)
    shown = MEAN if view == SIDE_BY_SIDE else view
    arms = {arm: calibration(*a.fine, shown) for arm, a in curves.arms.items()}
    left, right = st.columns([0.58, 0.42], gap="large")
    with left:
        said = "; ".join(f"{ARM_NAMES[arm].lower()} is off by {100 * a.error:.1f} points" for arm, a in arms.items())
        draw(
            reliability_figure(arms), "calibration", f"Reliability of probabilities, {view_name(curves, shown)}: {said}"
        )
    with right:
        st.markdown(
            "**Calibration**: whether a network that is 80 % sure is right 80 % of the time. On the grey line it is; "
            "below the line it is surer than it should be. Large markers stand for many pixels."
        )
        st.html(calibration_html(arms))
        st.caption(
            "Calibration error (ECE): the mean distance from the line in points, each pixel counted once; 0 is perfect."
        )


@st.cache_data(max_entries=8, show_spinner=False)
def load_confusions(study: str, stamp: Stamp) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """All classes, and each arm's (C, C) pixels of the test split, rows the truth, all seeds together; `stamp` as in `load_curves`."""
    found = {}
    for arm, runs in arm_runs(Path(study)).items():
        scores = [Scores.load(run.scores) for run in runs]
        found[arm] = np.sum([one.confusion.sum(axis=0) for one in scores], axis=0)
    return tuple(map(visible, scores[0].classes)), found


def show_confusion(study: str, files: Stamp) -> None:
    """What each class is taken for, and IoU, of one arm; and the numbers behind the curves as a file."""
    classes, found = load_confusions(study, files)
    arm = st.segmented_control(
        "Network", list(found), default="distilled", required=True, key="network", format_func=ARM_NAMES.__getitem__
    )
    table = confusion_table(classes, found[arm or "distilled"])
    st.dataframe(
        table.style.format("{:.1f}"),
        height="content",
        alt=f"What the {ARM_NAMES[arm or 'distilled'].lower()} takes each class for, in per cent of the class's pixels, and its IoU",
    )
    st.caption(
        "Rows: the truth, in per cent of its pixels on the test split, all seeds together. The button in the table saves it as CSV."
    )
    st.download_button(
        "Curves (CSV)",
        lambda: curves_csv(load_curves(study, files)),
        file_name=f"{Path(study).name}-curves.csv",
        mime="text/csv",
        icon=":material/table:",
        on_click="ignore",
    )


def confusion_table(classes: Sequence[str], confusion: NDArray[np.int64]) -> pd.DataFrame:
    """(C, C) pixels, rows the truth, in per cent of each row, and the IoU of each class in per cent; nan where it does not occur."""
    with np.errstate(invalid="ignore"):
        shares = 100 * confusion / confusion.sum(axis=1, keepdims=True)
    table = pd.DataFrame(shares, index=list(classes), columns=[f"as {name}" for name in classes])
    return table.assign(IoU=100 * iou_from_confusion(confusion))


def curves_csv(curves: StudyCurves) -> str:
    """Precision and recall of every class and arm at each threshold of the test split, all seeds together, as CSV."""
    rows, thresholds = [], np.arange(LEVELS) / (LEVELS - 1)
    for arm, measured in curves.arms.items():
        precision, recall = precision_recall(measured.positives.sum(axis=0), measured.negatives.sum(axis=0))
        for view, name in enumerate(curves.classes):
            values = {"threshold": thresholds, "precision": precision[view, ::-1], "recall": recall[view, ::-1]}
            rows.append(pd.DataFrame({"network": arm, "class": name, **values}).dropna(subset="precision"))
    return pd.concat(rows).fillna({"recall": 0}).to_csv(index=False, float_format="%.6g")
