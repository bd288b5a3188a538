"""Watch a study: progress, time left, live curves, log; stop it and let it go on.

The page only reads files that the study's own process writes, so closing it changes nothing.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs import launch
from kdcore.jobs.forecast import Left
from kdcore.jobs.plan import StudyProgress
from kdcore.jobs.status import ACTIVE, Status
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.deploy_files import data_of as data_folder
from kdcore.ui.formatting import count, duration, plain, sentence, when
from kdcore.ui.launching import offer_longer_teacher
from kdcore.ui.people import locked, permit
from kdcore.ui.stages import doing, run_in_words
from kdcore.ui.study_picker import PARAMETER, workspace
from kdcore.ui.timing import left_of
from kdcore.ui.usage import show_usage
from kdcore.ui.verdict import show_gap, show_numbers, show_teacher_parts, show_verdict, warn_of_teacher
from kdcore.ui.watched import draw_watched
from kdcore.views.arms import ARM_COLOURS
from kdcore.views.learning import learning_points, live_spec

TICK = 2.0  # seconds
SOON = 3.0  # seconds
LOSS = "The loss of the distilled student also measures its distance from the teacher, so arms cannot be compared here."
VALIDATED = "Mean AP on the validation part, from 0 to 100: higher is better. This is where arms can be compared."
PRECISIONS = {"bf16-mixed": " · bfloat16", "16-mixed": " · float16"}


def watch(study: StudyFolder) -> None:
    """Show a study's progress, renewed every two seconds for as long as it is at work."""
    ticking = study.job.state in ACTIVE
    st.fragment(draw, run_every=TICK if ticking else None)(study.id, ticking)


def draw(study_id: str, ticking: bool) -> None:
    """One look at a study. When it has ended, the whole page is drawn once more and the ticking is over."""
    try:
        study = workspace().study(study_id)
        job = study.job
        if ticking and job.state not in ACTIVE:
            st.rerun()
        draw_study(study, job)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")


def draw_study(study: StudyFolder, job: Status) -> None:
    """Result or progress, what can be done, curves, runs and log."""
    progress = study.progress()
    draw_settings(study)
    if study.finished:
        draw_result(study)
    else:
        draw_state(study, job, progress)
        warn_of_teacher(study.advantage)
    draw_controls(study, job)
    draw_watched(study, progress)
    draw_curves(study, progress)
    draw_runs(study, progress)
    draw_log(study, job)
    draw_command(study)


def draw_command(study: StudyFolder) -> None:
    """All settings, and the command that runs the same study without the dashboard."""
    with st.expander("All settings, and the same on the command line", icon=":material/terminal:"):
        st.code(study.settings_file.read_text(encoding="utf-8"), language="yaml")
        names = (
            shlex.quote(str(path)) for path in (data_folder(study), study.settings_file, Path("studies", study.id))
        )
        st.code("kdcore study {} --settings {} --out {}".format(*names), language="bash", wrap_lines=True)


def draw_settings(study: StudyFolder) -> None:
    """Data, temperature, alpha, a precision below float32, and age, in one line."""
    recipe, precision = study.settings.recipe, study.settings.hardware.precision
    name = plain(str((study.data or {}).get("name", "The data are not read yet")))
    st.caption(
        f"{name} · temperature {recipe.temperature:g} · alpha {recipe.alpha:g}{PRECISIONS.get(precision, '')} · made {when(study.created)}"
    )


def draw_state(study: StudyFolder, job: Status, progress: StudyProgress) -> None:
    """What it does now, how much is done, and how long it will take."""
    left = left_of(study)
    share = progress.step / progress.steps if progress.steps else float(job.state == "finished")
    told = "" if job.state != "running" else left_in_words(left)
    st.progress(min(1.0, max(0.0, share if left is None else left.share)), text=f"{state_sentence(study, job)}{told}")
    if job.state == "running":
        show_usage(study)
    if job.state in ("failed", "broken"):
        st.error(
            plain(sentence(job.message)) or "It failed without a word. The log below may tell why.",
            icon=":material/error:",
        )
    elif job.state == "interrupted":
        st.warning(plain(sentence(job.message)), icon=":material/power_off:")


def draw_result(study: StudyFolder) -> None:
    """What a finished study came to."""
    report = study.report()
    show_verdict(report)
    if warn_of_teacher(report.get("teacher_advantage")) and not study.read_only:
        offer_longer_teacher(study)
    show_gap(report)
    show_numbers(report)
    show_teacher_parts(report)


def state_sentence(study: StudyFolder, job: Status) -> str:
    """A study's state in a sentence, as Markdown."""
    if job.state == "queued":
        before = launch.queue_position(study)
        if study.alive and not before:
            return "Next in line: it starts as soon as the device is free."
        return f"Waiting: {count(before, 'study')} before this one on this device." if before else "Starting …"
    if job.state == "running":
        if study.cancel_file.exists():
            return "Stopping: the current state is being saved …"
        return plain(doing(job.progress, "Starting: loading the libraries that train"))
    name, _, _ = words.STATES[job.state]
    return name.capitalize()


def left_in_words(left: Left | None) -> str:
    """How long it will still take, and whether that is measured or partly guessed."""
    if left is None:
        return ". Time left: told once some steps are measured."
    if left.seconds < SOON:
        return ". Nearly done."
    return f". Time left: {'about' if left.measured else 'roughly'} {duration(left.seconds)}."


def draw_controls(study: StudyFolder, job: Status) -> None:
    """Stop, resume, and where to go from here; at most one of them is the main thing to do."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if job.state in ACTIVE:
            stopping = study.cancel_file.exists()
            if st.button(
                "Stop training",
                icon=":material/stop:",
                disabled=stopping or locked(),
                help="Saves the current state; resuming goes on exactly there.",
            ):
                attempt("stopped", StudyFolder.stop, study)
            st.caption("You can close this page: the study goes on, and this address finds it again.")
        elif job.state in ("stopped", "interrupted", "failed") and not study.read_only:
            if st.button(
                "Resume",
                icon=":material/play_arrow:",
                type="primary",
                help="Goes on from the last saved state.",
                disabled=locked(),
            ):
                attempt("resumed", launch.resume, study)
        elif study.finished:
            if st.button("See the map", icon=":material/map:", type="primary"):
                st.switch_page("map.py", query_params={PARAMETER: study.id})
            st.page_link(
                "curves.py",
                label="See the curves",
                icon=":material/show_chart:",
                query_params={PARAMETER: study.id},
            )
        if job.state not in ACTIVE and st.button("Start another study", icon=":material/add:"):
            st.query_params.from_dict({"data": str(study.source)})
            st.rerun()


def attempt(what: str, action: Any, study: StudyFolder) -> None:
    """Do something with a study and draw the page anew, or say why it cannot be done."""
    try:
        permit(what, f"{study.title} ({study.id})")
        action(study)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.rerun()


def draw_curves(study: StudyFolder, progress: StudyProgress) -> None:
    """Loss and validation curves of all runs so far."""
    runs = {
        run_in_words(run.name): (run.arm, RunDirectory(study.path / "runs" / run.name).shown_metrics)
        for run in progress.runs
        if run.state != "waiting"
    }
    if not any("loss" in line for _, lines in runs.values() for line in lines):
        st.caption("Curves appear here with the first steps.")
        return
    last_step = max((run.steps for run in progress.runs), default=1)
    left, right = st.columns(2)
    for place, key, title, alt, meaning in (
        (left, "loss", "Training loss", "Training loss of each run by step", LOSS),
        (right, "validation_mean_ap", "Validation mean AP", "Mean AP on validation of each run by step", VALIDATED),
    ):
        with place:
            drawn = draw_learning(runs, key, title, alt, last_step)
            st.caption(meaning if drawn else "Scores appear here with the first validation.")


def draw_learning(
    runs: Mapping[str, tuple[str, list[dict[str, Any]]]], key: str, title: str, alt: str, last_step: int = 0
) -> bool:
    """A live chart of one measurement, a line a run in its arm's colour; False, and nothing, as long as nothing was measured.

    Args:
        runs: for each run its arm and its lines of metrics.
        key: which measurement; a mean AP is shown in per cent.
        title: of the upright axis.
        alt: for who cannot see it.
        last_step: right end of the axis.
    """
    lines = {name: found for name, (_, found) in runs.items()}
    points = learning_points(lines, key, 100 if key.endswith("ap") else 1, last_step)
    if not len(points):
        return False
    colours = {name: ARM_COLOURS[runs[name][0]] for name in points["Run"].unique().to_pylist()}
    end = max(last_step, *points["Step"].to_pylist())
    st.vega_lite_chart(points, live_spec(colours, title, end), alt=alt)
    return True


def draw_runs(study: StudyFolder, progress: StudyProgress) -> None:
    """A row a run: state, steps, time, and the best validation score so far."""
    rows = []
    for run in progress.runs:
        name, colour, icon = words.STATES["queued" if run.state == "waiting" else run.state]
        scores = [
            line["validation_mean_ap"]
            for line in RunDirectory(study.path / "runs" / run.name).shown_metrics
            if line.get("validation_mean_ap") is not None
        ]
        rows.append(
            {
                "Run": run_in_words(run.name).capitalize(),
                "State": f":{colour}-badge[{icon} {name}]",
                "Steps": f"{run.step:,} of {run.steps:,}" if run.steps else "scored only",
                "Time": duration(run.elapsed or run.seconds) if run.step else "–",
                "Best mean AP on validation": f"{100 * max(scores):.1f}" if scores else "–",
            }
        )  # fmt: skip
    st.table(pd.DataFrame(rows).set_index("Run"), border="horizontal", alt="State of each run of this study")


def draw_log(study: StudyFolder, job: Status) -> None:
    """The last lines that the study's process wrote; open where it failed."""
    failed = job.state in ("failed", "interrupted")
    log = study.log_tail(40)
    if log:
        with st.expander("Log", icon=":material/article:", expanded=failed):
            st.code(log, language=None, wrap_lines=True)
