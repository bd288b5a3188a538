"""The Labels page: which label curves there are, and what each says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.evaluation.known_curves import curves_among, stored_curve
from kdcore.evaluation.label_curve import REPORT, curve_report, percent, titled
from kdcore.jobs.small_files import modified
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.address import select_in_address
from kdcore.ui.formatting import plain, told_apart
from kdcore.ui.study_picker import PARAMETER as STUDY
from kdcore.ui.study_picker import recent_studies, workspace
from kdcore.views.label_curve import label_curve_figure, label_curve_rows
from kdcore.views.layout import CONFIG

PARAMETER = "curve"  # in the address
WHAT = (
    "A label curve trains both students with growing shares of the labels, for example 5, 20 and 100 %, and one teacher. It says how many "
    "labels a student without the teacher needs to be as good as the distilled one with few. Choose several shares under **More settings** on Train."
)


@dataclass(frozen=True)
class Curve:
    """A label curve of the workspace: studies that were started here, or the folder of a command.

    Attributes:
        id: of its first study, or the folder's name.
        title: any text.
        studies: by share, ascending; none of a command's folder, which holds its own.
        folder: of the command; None without one.
    """

    id: str
    title: str
    studies: Mapping[float, StudyFolder]
    folder: Path | None = None


def known_curves() -> list[Curve]:
    """The label curves of the studies that pages list, then those of commands."""
    listed = [study for study in recent_studies() if not study.read_only and not study.archived]
    found = []
    for studies in curves_among(listed):
        (share, first), *_ = studies.items()
        found.append(Curve(first.id, first.title.removesuffix(titled("", share)) or first.id, studies))
    folders = sorted(workspace().path.glob(f"[!.]*/{REPORT}"))
    return found + [Curve(file.parent.name, file.parent.name, {}, file.parent) for file in folders]


def choose(known: list[Curve]) -> Curve:
    """The curve to show; the address names it."""
    if len(known) == 1:
        return known[0]
    titles = told_apart({curve.id: curve.title for curve in known})
    chosen = select_in_address("Label curve", PARAMETER, titles, known[0].id)
    return next(curve for curve in known if curve.id == chosen)


def show(curve: Curve) -> None:
    """What a curve says: a sentence, both lines, the numbers; and what of it is not finished."""
    try:
        report = report_of(curve)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if report is not None:
        show_report(report)
    show_unfinished(curve, [] if report is None else report["unfinished"])
    st.page_link("train.py", label="Another label curve: several shares under More settings", icon=":material/school:")


def report_of(curve: Curve) -> dict[str, Any] | None:
    """What is known of a curve; None where none of its studies is finished.

    Raises:
        KdcoreError: a file is broken, or the studies do not fit together.
    """
    if curve.folder is not None:
        return stored_curve(curve.folder)
    if not any(study.finished for study in curve.studies.values()):
        return None
    paths = tuple((share, str(study.path)) for share, study in curve.studies.items())
    return measured(paths, tuple(modified(study.path / "report.json") for study in curve.studies.values()))


@st.cache_data(max_entries=8, show_spinner="Measuring how sure the curve is …")
def measured(paths: tuple[tuple[float, str], ...], changed: tuple[int, ...]) -> dict[str, Any]:
    """The report of a curve's studies; `changed` tells one state of their files from the next."""
    return curve_report({share: Path(path) for share, path in paths})


def show_report(report: Mapping[str, Any]) -> None:
    """The sentence of the smallest share that one can be said of, the figure, the table and all sentences."""
    said = [point["worth"]["sentence"] for point in report["points"]]
    best = next(
        (point["worth"]["sentence"] for point in report["points"] if point["worth"]["share"] is not None), said[0]
    )
    st.subheader(plain(best), anchor=False)
    shares = "; ".join(
        f"with {percent(point['labels'])} alone {point['alone']['mean']}, distilled {point['distilled']['mean']}"
        for point in report["points"]
    )
    st.plotly_chart(
        label_curve_figure(report), key="label curve", config=CONFIG, alt=f"Mean AP by share of the labels: {shares}"
    )
    rows = pd.DataFrame(
        [{name: cell for name, cell in row.items() if name != "Worth"} for row in label_curve_rows(report)]
    )
    st.table(rows, hide_index=True, border="horizontal", alt="Mean AP of both students by share of the labels")
    others = [sentence for sentence in said if sentence != best]
    st.markdown("\n".join(f"- {plain(sentence)}" for sentence in others))
    st.caption(f"Mean AP on the test split, mean over seeds, with 95 % confidence intervals. {plain(report['basis'])}")


def show_unfinished(curve: Curve, unfinished: list[float]) -> None:
    """The shares that are missing, with the way to the studies that train them."""
    if curve.folder is not None:
        if unfinished:
            shares = ", ".join(map(percent, unfinished))
            st.info(
                f"Not finished: {shares}. Give the command that made this curve again to go on.",
                icon=":material/pause:",
            )
        return
    for share, study in curve.studies.items():
        if not study.finished:
            with st.container(border=True, horizontal=True, vertical_alignment="center"):
                name, colour, _ = words.STATES[study.state]
                st.markdown(f":{colour}-badge[{name}] {percent(share)} of the labels", width="stretch")
                st.page_link("train.py", label="Watch", icon=":material/visibility:", query_params={STUDY: study.id})


def show_empty() -> None:
    """What a label curve is, and where to start one."""
    with st.container(border=True, horizontal_alignment="center"):
        st.subheader("No label curve yet", text_alignment="center", anchor=False)
        st.markdown(WHAT, text_alignment="center")
        if st.button("Choose shares on Train", type="primary", icon=":material/school:"):
            st.switch_page("train.py")
