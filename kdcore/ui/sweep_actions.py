"""What can be done with a sweep that does not run: resume, more trials, confirm, download, delete."""

import json

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs import sweep_library
from kdcore.jobs.quota import available_cores
from kdcore.jobs.sweep_folder import SweepFolder, SweepProgress
from kdcore.ui.formatting import count, megabytes, plain
from kdcore.ui.people import locked, permit
from kdcore.ui.sweep_choices import FEW_CONFIRM
from kdcore.ui.sweep_kept import Found, look
from kdcore.ui.sweep_tables import trials_csv
from kdcore.ui.sweep_words import shown_error

MORE_TRIALS = 12


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
