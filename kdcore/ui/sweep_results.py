"""What a sweep found: the verdict in words, the best trial beside the student alone, the figures and the table of trials.

It is read again only when something has changed: every viewer looks every two seconds.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.evaluation.sweep_report import sweep_report
from kdcore.jobs.small_files import modified
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import SweepSettings
from kdcore.ui.choices import DEMO
from kdcore.ui.formatting import CARD, count, plain, points
from kdcore.ui.sweep_choices import fits_train, train_address
from kdcore.ui.sweep_tables import trials_table, what
from kdcore.ui.watching import TICK, draw_learning
from kdcore.views.layout import CONFIG
from kdcore.views.sweep import sweep_charts
from kdcore.views.sweep_look import Chart, settings_text

NARROWEST = 480  # pixels that a figure needs for its legend
TRIAL = "trial"  # in the address: the one that is looked at
DRAWN = "sweep charts"  # in the session: of which sweep, with the trials in which states, and the charts
ENDED = ("finished", "pruned", "failed")
WIDE = ("Each setting", "All settings at once")
LOOKS = {
    "matter": ("green", ":material/trending_up:"),
    "do not matter": ("orange", ":material/casino:"),
    "cannot tell": ("gray", ":material/question_mark:"),
    "too early": ("gray", ":material/hourglass_empty:"),
    "unknown": ("gray", ":material/hourglass_empty:"),
}
CONFIRMED = {"better": ("green", ":material/verified:"), "worse": ("red", ":material/trending_down:")}
RENEWED = 2.0  # seconds, where a database keeps the trials and cannot be asked whether they changed


@dataclass(frozen=True)
class Found:
    """A sweep's trials and its report so far; see `kdcore.evaluation.sweep_report`."""

    trials: list[TrialRecord]
    report: dict[str, Any]


def look(sweep: SweepFolder) -> Found:
    """What is known now.

    Raises:
        KdcoreError: the sweep cannot be read.
    """
    database = sweep.settings.storage is not None
    changed = (
        time.time() // RENEWED if database else modified(sweep.journal),
        modified(sweep.settings_file),
        modified(sweep.path / "confirm" / "report.json"),
        *sweep.alive,  # whose trials are being worked on
    )
    return read(str(sweep.path), changed)


@st.cache_resource(max_entries=16, show_spinner=False)
def read(folder: str, changed: tuple[float, ...]) -> Found:
    """Read the trials; `changed` makes a new state count as another one."""
    report = sweep_report(SweepFolder(Path(folder)))
    return Found([TrialRecord.model_validate(trial) for trial in report["trials"]], report)


def show_headline(sweep: SweepFolder, found: Found) -> None:
    """Whether the settings matter, and the best trial beside the student alone and the teacher."""
    spread = found.report["spread"]
    claim, separator, measured = str(spread["sentence"]).partition(": ")
    colour, icon = LOOKS[spread["verdict"]]
    with st.container(border=True):
        st.markdown(f"#### :{colour}[{icon}] {plain(claim)}{'' if claim.endswith('.') else '.'}")
        if separator:
            st.caption(plain(measured[:1].upper() + measured[1:]))
    best, alone = chosen_best(found), baseline(found)
    first, second, third = st.columns(3)
    card(
        first,
        "Best so far" if sweep.alive else "Best trial",
        quality_of(best),
        "–" if best is None else f"trial {best.number}: {settings_text(best, sweep.settings)}",
        "The highest mean AP on validation among the trials with the sweep's own seed. The best of many trials is partly chance: "
        "confirm it with fresh seeds.",
    )
    gain = None if best is None or alone is None else 100 * (best.values["quality"] - alone.values["quality"])
    card(
        second,
        "Student alone",
        quality_of(alone),
        "not finished yet" if gain is None else f"the best trial has {points(gain, 2)} points",
        "The same student with alpha 0, under the same budget.",
    )
    teacher = teacher_quality(sweep)
    card(
        third,
        "Teacher",
        teacher,
        "mean AP on validation" if teacher is not None else "not measured here",
        "Mean AP on validation of the teacher that all trials share.",
    )


def card(place: Any, name: str, quality: float | None, detail: str, explained: str) -> None:
    """A mean AP in a card."""
    place.metric(
        name,
        "–" if quality is None else f"{100 * quality:.2f}",
        help=explained,
        delta=detail,
        **CARD,
    )


def quality_of(trial: TrialRecord | None) -> float | None:
    """A finished trial's mean AP; None where there is no such trial."""
    return None if trial is None else trial.values["quality"]


def chosen_best(found: Found) -> TrialRecord | None:
    """The best finished trial."""
    best = found.report["best"]
    return None if best is None else TrialRecord.model_validate(best)


def baseline(found: Found) -> TrialRecord | None:
    """The student alone of the best trial's size, else the first one."""
    alone = [TrialRecord.model_validate(trial) for trial in found.report["baselines"]]
    best = chosen_best(found)
    same = [trial for trial in alone if best is not None and trial.params["student"] == best.params["student"]]
    return next(iter(same or alone), None)


def teacher_quality(sweep: SweepFolder) -> float | None:
    """Mean AP on validation of the first teacher that was trained here; None before, or where an earlier one is used."""
    for run in sweep.teacher_runs():
        if run.report.exists():
            value: float | None = run.read_report()["validation"]["mean_ap"]
            return value
    return None


def show_confirmation(found: Found) -> None:
    """The paired verdict on the test split, once there is one."""
    confirmed = found.report["confirmation"]
    if confirmed is None:
        return
    colour, icon = CONFIRMED.get(confirmed["comparison"]["verdict"], ("gray", ":material/trending_flat:"))
    with st.container(border=True):
        st.markdown(f":{colour}-badge[{icon} Confirmation] {plain(confirmed['sentence'])}")
        st.caption("The test split was read once, for this comparison. No trial has seen it.")


def drawn_charts(sweep: SweepFolder, found: Found, *, running: bool) -> dict[str, Chart | str]:
    """The charts as this session last drew them; those of a running sweep are drawn anew only if somebody asks, so a zoom stays."""
    states = [trial.state for trial in found.trials]
    kept = st.session_state.get(DRAWN)
    if kept is None or kept[0] != sweep.id or (kept[1] != states and not (running and "finished" in kept[1])):
        kept = st.session_state[DRAWN] = sweep.id, states, sweep_charts(found.trials, sweep.settings, found.report)
    charts: dict[str, Chart | str] = kept[2]
    return charts


def offer_new(found: Found) -> None:
    """The button that draws the charts with the trials that have ended since; the first ones are drawn unasked."""
    before, now = (
        sum(state in ENDED for state in states)
        for states in (st.session_state[DRAWN][1], [trial.state for trial in found.trials])
    )
    asked = now > before and st.button(count(now - before, "new trial"), icon=":material/refresh:", key="new trials")
    if asked:
        st.session_state.pop(DRAWN)
    if asked or (now and not before):
        st.rerun(scope="app")


def show_figures(sweep: SweepFolder, found: Found, charts: dict[str, Chart | str]) -> None:
    """All figures, each with a sentence on how to read it; a click on a trial opens it beside the map."""
    cells = st.grid(2, min_column_width=NARROWEST)  # one below the other where the window is narrow
    for title, chart in charts.items():
        with nullcontext() if title in WIDE or title.startswith("Quality") else cells.cell():
            draw(title, chart)
        if title == "Temperature and alpha":
            with cells.cell():
                show_trial(sweep, found)


def draw(title: str, chart: Chart | str) -> None:
    """A figure under its title, or the sentence why there is none."""
    st.subheader(title)
    if isinstance(chart, str):
        st.caption(plain(chart))
        return
    key = f"sweep chart {title}"
    shown = [trace.ids for trace in chart.figure.data]

    def pick() -> None:
        """Put the trial that was clicked into the address."""
        points = st.session_state[key]["selection"]["points"]
        if points and (ids := shown[points[0]["curve_number"]]) is not None:
            st.query_params[TRIAL] = ids[points[0]["point_index"]]

    clickable: Any = pick if any(ids is not None for ids in shown) else "ignore"
    st.plotly_chart(
        chart.figure, key=key, config=CONFIG, alt=chart.result, on_select=clickable, selection_mode="points"
    )
    st.caption(plain(chart.reading))


def chosen_trial(found: Found) -> TrialRecord | None:
    """The trial that the address names, else the best one."""
    named = st.query_params.get(TRIAL, "")
    return next((trial for trial in found.trials if str(trial.number) == named), chosen_best(found))


def show_trial(sweep: SweepFolder, found: Found) -> None:
    """One trial: what it is, its settings, its learning curve, and the way to the Train page."""
    trial = chosen_trial(found)
    if trial is None:
        st.subheader("Trial")
        st.caption("The best trial is shown here once one has finished.")
        return
    best = chosen_best(found)
    is_best = best is not None and best.number == trial.number
    st.subheader(f"Trial {trial.number}{': the best' if is_best else ''}")
    quality = trial.values.get("quality")
    reached = f" Mean AP {100 * quality:.2f}." if quality is not None else ""
    st.markdown(plain(f"{what(trial).capitalize()}: {settings_text(trial, sweep.settings)}.{reached}"))
    if trial.message:
        st.caption(plain(trial.message))
    st.fragment(draw_curve, run_every=TICK if trial.state == "running" else None)(sweep, trial)
    offer_settings(sweep, trial, sweep.settings)
    st.caption("Click a trial in any figure, or a row of the table, to see it here.")


def draw_curve(sweep: SweepFolder, trial: TrialRecord) -> None:
    """How the trial learnt, live while it does."""
    arm = "alone" if trial.role == "baseline" else "distilled"
    runs = {f"trial {trial.number}": (arm, sweep.run(trial.number).shown_metrics)}
    draw_learning(
        runs, "validation_mean_ap", "Validation mean AP", f"Mean AP on validation of trial {trial.number} by step"
    )


def offer_settings(sweep: SweepFolder, trial: TrialRecord, settings: SweepSettings) -> None:
    """The way to the Train page, filled in with the trial's settings."""
    if not trial.params:
        return
    if not fits_train(trial):
        st.caption("The Train page offers the named students only; use `kdcore study` for this one.")
        return
    data = DEMO if sweep.about.demo is not None else str(sweep.collection)
    if st.button(
        "Use these settings",
        icon=":material/school:",
        type="primary" if sweep.progress().state == "finished" else "secondary",
        help="Opens the Train page, filled in with them. Nothing is started yet.",
    ):
        steps = sweep.run(trial.number).status.steps or settings.budget.steps
        st.switch_page("train.py", query_params=train_address(settings, trial, steps, data))


def show_trials(sweep: SweepFolder, found: Found, looked_at: str | None) -> None:
    """A row a trial; a click shows it beside the map.

    Args:
        sweep: whose trials they are.
        found: of it.
        looked_at: the trial in the address when the page was drawn.
    """
    st.subheader("Trials")
    table = trials_table(found.trials, sweep.settings)
    key = "sweep table"

    def pick() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            st.query_params[TRIAL] = str(int(table["Trial"].iloc[rows[0]]))

    if st.query_params.get(TRIAL) != looked_at:
        st.rerun(scope="app")
    st.dataframe(
        table.dropna(axis="columns", how="all"),
        key=key,
        hide_index=True,
        height=320,
        placeholder="–",
        on_select=pick,
        selection_mode="single-row",
        column_config={
            "Trial": st.column_config.NumberColumn(pinned=True),
            "Temperature": st.column_config.NumberColumn(format="%.4g"),
            "Alpha": st.column_config.NumberColumn(format="%.4g"),
            "Learning rate": st.column_config.NumberColumn(format="%.4g"),
            "Mean AP": st.column_config.NumberColumn(format="%.2f", help="On the validation split, from 0 to 100."),
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "ms for a megapixel": st.column_config.NumberColumn(format="%.0f"),
            "Seconds": st.column_config.NumberColumn(format="%.0f"),
        },
        alt=f"{count(len(found.trials), 'trial')} with state, settings and mean average precision",
    )
