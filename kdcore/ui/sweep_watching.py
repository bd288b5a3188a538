"""Watch a sweep: its progress while it runs, what can be done with it, and what it found so far.

The page only reads files that the sweep's own processes write, so closing it changes nothing.
"""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs import sweep_library
from kdcore.jobs.forecast import Left, sweep_left
from kdcore.jobs.quota import available_cores
from kdcore.jobs.sweep_folder import SweepFolder, SweepProgress
from kdcore.ui.formatting import count, megabytes, plain, sentence, when
from kdcore.ui.people import locked, permit, stop_button
from kdcore.ui.study_picker import recent_studies, workspace
from kdcore.ui.sweep_choices import FEW_CONFIRM
from kdcore.ui.sweep_results import (
    TRIAL,
    Found,
    drawn_charts,
    look,
    offer_new,
    show_confirmation,
    show_figures,
    show_headline,
    show_trials,
)
from kdcore.ui.sweep_tables import failures, states_in_words, time_left, trials_csv, worker_in_words
from kdcore.ui.sweep_words import STATES, say_neighbours, shown_error
from kdcore.ui.timing import costs_of

TICK = 2.0  # seconds
MORE_TRIALS = 12


def with_errors(draw: Callable[..., None]) -> Callable[..., None]:
    """Say what is wrong in place of what is drawn."""

    @wraps(draw)
    def drawn(*args: Any) -> None:
        try:
            draw(*args)
        except KdcoreError as error:
            st.error(shown_error(error), icon=":material/error:")

    return drawn


def watch(sweep: SweepFolder) -> None:
    """Show a sweep; what changes is renewed every two seconds while it runs."""
    progress = sweep.progress()
    if progress.state == "broken":
        st.error(shown_error(progress.message), icon=":material/error:")
        offer_deletion(sweep)
        return
    say_what(sweep)
    running = progress.state == "running"
    if running:
        say_neighbours(recent_studies())
        st.fragment(draw_progress, run_every=TICK)(sweep.id)
    else:
        say_state(sweep, progress)
        offer_actions(sweep, progress)
    show_results(sweep, running)
    show_log(sweep, progress)


def say_what(sweep: SweepFolder) -> None:
    """Title, data, size and age, in one line."""
    about, settings = sweep.about, sweep.settings
    data = "Demo area" if about.demo is not None else sweep.collection.stem
    student = ", ".join(settings.space.student)
    st.caption(
        f"{plain(about.title)} · {plain(data)} · student {plain(student)} · {settings.trials:,} trials · made {when(about.created)}"
    )


@with_errors
def draw_progress(sweep_id: str) -> None:
    """How far it is and what each worker does. When it has ended, the page is drawn anew, and the ticking is over.

    Only this is drawn here: a button that is drawn in a fragment's last moment takes a click that nobody answers.
    """
    sweep = sweep_library.find(workspace(), sweep_id)
    found = look(sweep)
    progress = sweep.progress(found.trials)
    if progress.state != "running":
        st.rerun(scope="app")
    stopping = sweep.cancel_file.exists()
    with st.container(horizontal=True, vertical_alignment="center"):
        confirmed = found.report["confirmation"] is not None
        left = sweep_left(sweep.settings, costs_of(workspace().path), progress.workers, found.trials, confirmed)
        share = min(1.0, progress.over / progress.trials) if left is None else left.share
        st.progress(share, text=progress_in_words(progress, left, stopping))
        said = "Every worker saves its state; resuming goes on exactly there."
        stop_button("stop the sweep", stop, sweep, stopping, said)
    alive = sweep.alive
    lines = [worker_in_words(index, status) for index, status in sweep.workers().items() if index in alive]
    st.caption("  \n".join(plain(line) for line in lines))
    st.caption("You can close this page: the sweep goes on, and this address finds it again.")


def progress_in_words(progress: SweepProgress, left: Left | None, stopping: bool) -> str:
    """How many trials are over, and how long the rest will take, as Markdown."""
    if stopping:
        return "Stopping: the workers save their state …"
    if progress.over >= progress.trials:
        told = f"All {progress.trials:,} trials have ended. The best setting is being confirmed."
        return plain(f"{told} {time_left(left)}")
    told = f"{progress.over:,} of {progress.trials:,} trials have ended"
    states = states_in_words({k: v for k, v in progress.counts.items() if k not in ("waiting", "finished")})
    return plain(f"{told}{f' ({states})' if states else ''}. {time_left(left)}")


def stop(sweep: SweepFolder) -> None:
    """Ask the workers to stop, unless they have just ended."""
    try:
        permit("stopped", sweep.id)
        sweep_library.stop(sweep)
    except KdcoreError as error:
        st.toast(plain(str(error)))


def say_state(sweep: SweepFolder, progress: SweepProgress) -> None:
    """What became of a sweep that does not run."""
    if progress.state == "failed":
        st.error(plain(sentence(progress.message)) or "It failed without a word.", icon=":material/error:")
    if progress.state != "finished":
        told = f"{progress.over:,} of {progress.trials:,} trials have ended."
        st.progress(min(1.0, progress.over / progress.trials), text=plain(f"{STATES[progress.state]} {told}"))


@with_errors
def show_results(sweep: SweepFolder, running: bool) -> None:
    """What was found so far: words and tables are live, charts are drawn anew when somebody asks."""
    found = look(sweep)
    live = TICK if running else None
    if not found.trials:
        st.fragment(await_trials, run_every=live)(sweep.id)
        return
    charts = drawn_charts(sweep, found, running=running)
    st.fragment(draw_live, run_every=live)(sweep.id, running)
    show_figures(sweep, found, charts)
    st.fragment(draw_trials, run_every=live)(sweep.id, st.query_params.get(TRIAL))


@with_errors
def await_trials(sweep_id: str) -> None:
    """Say what there will be; draws the page anew when there are trials."""
    if look(sweep_library.find(workspace(), sweep_id)).trials:
        st.rerun(scope="app")
    st.caption("Results appear here with the first trials. First the teacher is trained, once for all of them.")


@with_errors
def draw_live(sweep_id: str, running: bool) -> None:
    """The verdict in words, and the offer to draw the charts with what is new."""
    sweep = sweep_library.find(workspace(), sweep_id)
    found = look(sweep)
    show_headline(sweep, found)
    show_confirmation(found)
    if running:
        offer_new(found)


@with_errors
def draw_trials(sweep_id: str, looked_at: str | None) -> None:
    """The table of trials, and why some failed."""
    sweep = sweep_library.find(workspace(), sweep_id)
    found = look(sweep)
    show_trials(sweep, found, looked_at)
    told = failures(found.trials)
    if told:
        with st.expander(f"Trials that failed ({len(told)})", icon=":material/error:"):
            st.markdown("\n".join(f"- {plain(line)}" for line in told))


def show_log(sweep: SweepFolder, progress: SweepProgress) -> None:
    """The last lines that the workers wrote; open where the sweep failed."""
    log = sweep.log_tail(40)
    if log:
        with st.expander("Log", icon=":material/article:", expanded=progress.state == "failed"):
            st.code(log, language=None, wrap_lines=True)


def offer_actions(sweep: SweepFolder, progress: SweepProgress) -> None:
    """The buttons, in one row; resuming is the main thing where there is something left to do."""
    found = look(sweep)
    settings = sweep.settings
    with st.container(horizontal=True, vertical_alignment="center"):
        if progress.state in ("stopped", "failed", "new") and st.button(
            "Resume",
            icon=":material/play_arrow:",
            type="primary",
            help="Goes on from the last saved state.",
            disabled=locked(),
        ):
            attempt(sweep)
        if progress.over and found.report["confirmation"] is None and found.report["best"] is not None:
            seeds = settings.confirm or FEW_CONFIRM
            if st.button(
                f"Confirm with {seeds} fresh seeds",
                icon=":material/verified:",
                disabled=locked(),
                help=f"Trains the best setting and the default {seeds} times each and compares them on the test split, which is read "
                "for this one time.",
            ):
                attempt(sweep, confirm=seeds)
        with st.popover("More trials", icon=":material/add:"):
            more = st.number_input("How many more", 1, 1000, MORE_TRIALS, key="more trials")
            if found.report["confirmation"] is not None:
                st.caption(
                    "The confirmation stays as it is: the test split is not read again for a later best setting."
                )
            if st.button("Go on with them", icon=":material/play_arrow:", disabled=locked()):
                attempt(sweep, trials=max(settings.trials, progress.over) + int(more))
        offer_downloads(sweep, found)
        offer_deletion(sweep)


def attempt(sweep: SweepFolder, **changes: int) -> None:
    """Change what is to be done, start the workers and draw the page anew, or say why that is not possible."""
    try:
        permit("resumed", sweep.id)
        if changes:
            sweep_library.change(sweep, **changes)
        sweep_library.start(sweep, len(sweep.workers()) or min(2, available_cores()))
    except KdcoreError as error:
        st.error(shown_error(error), icon=":material/error:")
        return
    st.rerun()


def offer_downloads(sweep: SweepFolder, found: Found) -> None:
    """The report and the trials as files."""
    st.download_button(
        "Report (JSON)",
        lambda: json.dumps(found.report, indent=2),
        file_name=f"{sweep.id}.json",
        mime="application/json",
        icon=":material/description:",
        on_click="ignore",
    )
    st.download_button(
        "Trials (CSV)",
        lambda: trials_csv(found.trials),
        file_name=f"{sweep.id}.csv",
        mime="text/csv",
        icon=":material/table:",
        on_click="ignore",
    )


def offer_deletion(sweep: SweepFolder) -> None:
    """The button that asks once more."""
    if st.button("Delete …", icon=":material/delete:", disabled=locked()):
        confirm_deletion(sweep)


@st.dialog("Delete for good?")
def confirm_deletion(sweep: SweepFolder) -> None:
    """Ask once more, with name and size."""
    size = megabytes(sum(file.stat().st_size for file in sweep.path.rglob("*") if file.is_file()))
    trials = sum(path.is_dir() for path in (sweep.path / "trials").glob("*"))
    st.markdown(f"{plain(sweep.id)}: {count(trials, 'trial')} with weights and report, {size}. This cannot be undone.")
    if sweep.settings.storage is not None:
        st.caption("What the database holds of it stays there.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", icon=":material/delete:"):
            try:
                permit("deleted", sweep.id)
                sweep_library.delete(sweep)
            except KdcoreError as error:
                st.error(shown_error(error), icon=":material/error:")
                return
            st.query_params.clear()
            st.rerun()
        if st.button("Keep"):
            st.rerun()
