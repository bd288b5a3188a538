"""Export and measure a study's networks from a page: start, live progress, stop, and why it failed.

The page only reads files that the job's own process writes, so closing it changes nothing.
"""

import time
from pathlib import Path

import streamlit as st

from kdcore.deploy import folder as deploying
from kdcore.deploy.record import INDEX, Deployment
from kdcore.errors import KdcoreError
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.ui import map_view
from kdcore.ui.formatting import count, duration, plain, sentence, when
from kdcore.ui.people import locked, permit, permitted, stop_button
from kdcore.ui.stages import doing

TICK = 1.0  # seconds
WHAT = (
    "Nothing of this study was exported and measured yet. The button below writes its networks as ONNX files, which run without "
    "PyTorch, and once more with 8-bit integers (int8), which are smaller and often faster. Where the processor computes in bfloat16, "
    "OpenVINO also runs them in that precision. Each form is checked against the original "
    "and measured on this machine. It takes about two minutes for small networks, more for large ones."
)


def load(folder: Path) -> Deployment | None:
    """What is known about the study's networks; None before anything was exported. Kept until the file changes.

    Raises:
        RunError: the file is broken.
    """
    return Deployment.load(folder) if (folder / INDEX).exists() else None


def records(workspace: Workspace, study: StudyFolder) -> list[Deployment]:
    """What is known about a study's networks: as measured on this machine, and then what a read-only study brings along.

    Raises:
        RunError: a file is broken.
    """
    places = [deploying.deployment_folder(workspace, study)] + (
        [study.path / deploying.FOLDER] if study.read_only else []
    )
    return [known for place in places if (known := load(place)) is not None]


def offer(workspace: Workspace, study: StudyFolder, folder: Path, known: Deployment | None) -> None:
    """The job as it stands: its progress while it works, else what it came to and the button that starts it.

    Args:
        workspace: where studies lie.
        study: whose networks are exported.
        folder: of its deployment.
        known: what an earlier job found; then the button stands back.
    """
    job = deploying.status(folder)
    if job is not None and not job.over:
        runs = map_view.arms_of(study).values()
        watch(folder, tuple(run for run in runs if study.run(run).best.is_file()))
        return
    if known is None:
        st.markdown(WHAT)
    if job is not None and job.state != "finished":
        say_ended(folder, job)
    again = known is not None or job is not None
    if st.button(
        "Export and measure again" if known is not None else "Export and measure",
        type="secondary" if known is not None else "primary",
        icon=":material/refresh:" if again else ":material/rocket_launch:",
        key="export and measure",
        disabled=locked(),
        help="What was finished before is kept." if again and known is None else None,
    ):
        start(workspace, study)


def start(workspace: Workspace, study: StudyFolder) -> None:
    """Start the job and draw the page anew, or say in a sentence why it cannot be started."""
    try:
        permit("started", f"exporting of {study.title} ({study.id})")
        deploying.start(workspace, study)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.rerun()


@st.fragment(run_every=TICK)
def watch(folder: Path, networks: tuple[str, ...]) -> None:
    """How far the job is with all its pieces; `networks` are the runs that it exports. When it has ended, the page is drawn anew, and the ticking is over.

    Only this is drawn here: a button inside a fragment reruns no more than the fragment, and one that is drawn in the
    fragment's last moment takes a click that nobody answers.
    """
    job = deploying.status(folder)
    if job is None or job.over:
        st.rerun(scope="app")
    stopping = deploying.DeploymentFolder(folder).cancel_file.exists()
    with st.container(horizontal=True, vertical_alignment="center"):
        share = deploying.share_done(job, networks)
        left = deploying.seconds_left(job, share, time.time())
        told = "" if left is None or stopping else f" About {duration(left)} left."
        st.progress(share, text=f"{stage_in_words(job, stopping)}{told}")
        stop_button("stop exporting", stop, folder, stopping, "What is finished is kept.")
    st.caption("You can close this page: the work goes on, and this address finds it again.")


def stop(folder: Path) -> None:
    """Ask the job to end."""
    if permitted("stopped", f"exporting in {folder.name}"):
        deploying.stop(folder)


def stage_in_words(job: Status, stopping: bool) -> str:
    """What is being done, as Markdown."""
    if stopping:
        return "Stopping …"
    now = None if job.state == "queued" else job.progress
    return plain(f"{doing(now, 'Starting: loading the libraries that export and measure …').removesuffix('.')}.")


def say_ended(folder: Path, job: Status) -> None:
    """Why the last job did not come to its end."""
    if job.state == "stopped":
        st.info("It was stopped. Start it again to go on.", icon=":material/pause_circle:")
        return
    st.error(plain(sentence(job.message)) or "It failed without a word.", icon=":material/error:")
    log = deploying.DeploymentFolder(folder).log_tail()
    if log:
        with st.expander("Log", icon=":material/article:"):
            st.code(log, language=None, wrap_lines=True)


def notes(folder: Path, known: Deployment) -> str:
    """What the job said beside the record, such as engines that failed, as Markdown; refusals stand elsewhere already."""
    job = deploying.status(folder)
    said = job.message if job is not None and job.state == "finished" else ""
    for form in known.forms:
        if form.refused:
            said = said.replace(f"{form.run}: {form.refused}", "")
    return plain(said)


def measured_where(known: Deployment) -> str:
    """Where, when and with what everything was measured, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(known.versions.items()))
    threads = "" if "thread" in known.machine else f", {count(known.threads, 'thread')}"
    return plain(
        f"Measured on {known.machine}{threads}, with tiles of {known.tile} × {known.tile} px, {when(known.measured)}. {versions}."
    )
