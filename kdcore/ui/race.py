"""The race on a page: which timing is shown, the two maps that are uncovered, and the job that races live."""

from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.deploy.race import INDEX, RACERS, Race, RaceFolder, course, race_folder
from kdcore.errors import KdcoreError, RunError
from kdcore.inference.layer_index import SceneLayers, StudyLayers
from kdcore.jobs.small_files import modified
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import deploy_job, map_view, words
from kdcore.ui.formatting import plain, sentence, when
from kdcore.ui.mistakes import legend_html
from kdcore.ui.people import locked, permit, permitted, stop_button
from kdcore.ui.stages import doing
from kdcore.ui.study_picker import workspace
from kdcore.ui.verdict import score
from kdcore.views.deploy import ENGINE_NAMES
from kdcore.views.race import race_data, racing_pictures, recorded_races

HERE = Path(__file__).parent
TICK = 0.5  # seconds
LIVE, KEY = "Live", "timing"
PICTURE_SIDE = 900  # pixels
component = st.components.v2.component(
    "kdcore_race",
    html='<div class="race">\n</div>',
    css=(HERE / "race.css").read_text(encoding="utf-8"),
    js=(HERE / "race.js").read_text(encoding="utf-8"),
)


def races_of(study: StudyFolder, scene: SceneLayers) -> dict[str, Race]:
    """The races that can be shown, by name: the live one first, then those that follow from the study's deployment."""
    found: dict[str, Race] = {}
    folder = race_folder(workspace(), study)
    try:
        live = load(folder)
    except RunError as error:
        st.warning(plain(str(error)), icon=":material/broken_image:")
        live = None
    if live is not None and live.scene == scene.id:
        found[LIVE] = live
    recorded = (recorded_races(known, scene) for known in deploy_job.records(workspace(), study))
    return found | next(filter(None, recorded), {})  # what was measured here may lack the teacher


def load(folder: RaceFolder) -> Race | None:
    """A study's live race; None where there was none yet. Kept until the file changes.

    Raises:
        RunError: the file is broken.
    """
    changed = modified(folder.path / INDEX)
    return read(str(folder.path), changed) if changed else None


@st.cache_resource(max_entries=20, show_spinner=False)
def read(folder: str, changed: int) -> Race:
    """Read `race.json`; `changed` makes a new file count as another one."""
    return Race.load(Path(folder))


def choose_timing(races: dict[str, Race]) -> str:
    """Which race is shown; the address keeps it."""
    map_view.forget_unless(KEY, races)
    chosen: str = st.segmented_control(
        "Times",
        list(races),
        default=next(iter(races)),
        required=True,
        key=KEY,
        bind="query-params",
        format_func=lambda name: words.RACE_LIVE if name == LIVE else f"Recorded: {name}",
        help=words.RACE_TIMES,
    )
    return chosen


def show_race(study: StudyFolder, layers: StudyLayers, scene: SceneLayers, race: Race) -> None:
    """Both lanes, and what the colours mean."""
    arms = map_view.arms_of(study)
    files = [study.path / f"runs/{arms[arm]}/maps/{scene.name}.tif" for arm in RACERS]
    pictures = draw_pictures(study.id, scene.id, tuple(arms[arm] for arm in RACERS), tuple(map(modified, files)))
    report = study.report()
    scores: dict[str, str] = {arm: score(report["arms"][arm]) for arm in RACERS}
    component(
        data=[race_data(race, pictures, scores, course(scene))], key="race"
    )  # a list: see `map_view.show_picture`
    st.html(legend_html(layers, map_view.hidden_classes(study, layers)))


@st.cache_data(max_entries=4, show_spinner="Drawing the maps …")
def draw_pictures(study_id: str, scene_id: str, runs: tuple[str, ...], changed: tuple[int, ...]) -> dict[str, str]:
    """The photo and what each racer made of it; `changed` makes new maps count as others.

    Raises:
        KdcoreError: a file of the map is missing or broken.
    """
    from kdcore.inference.layer_index import StudyLayers
    from kdcore.server.layers import crops_of  # reads rasters: loaded after the words are on screen

    study = workspace().study(study_id)
    layers = StudyLayers.load(study.path)
    ground = course(layers.scene(scene_id))
    photo, masks = crops_of(study_id, scene_id, ground, runs, PICTURE_SIDE, truth=False)
    hidden = map_view.hidden_classes(study, layers)
    return racing_pictures(photo, dict(zip(RACERS, masks, strict=True)), layers.colours, hidden)


def badge(race: Race) -> str:
    """Whether times were recorded or measured by a race on this machine, as Markdown."""
    return ":green-badge[:material/bolt: Live]" if race.live else ":gray-badge[:material/history: Recorded]"


def say_where(race: Race, study: StudyFolder) -> None:
    """Whether times were recorded or measured here, with machine and engine."""
    lanes = (race.teacher, race.student)
    engines = list(dict.fromkeys(ENGINE_NAMES[lane.engine] for lane in lanes))
    device = plain(race.student.device)
    told = f"{' and '.join(engines)} on {device}, {when(race.measured)}."
    if race.live:
        parts = [f"{badge(race)} Both networks mapped every tile on this machine: {told}"]
    else:
        parts = [f"{badge(race)} Measured by an export: {told} {words.RACE_RECORDED}"]
    if race.teacher.stand_in:
        parts.append(words.RACE_STAND_IN)
    if study.settings.teacher.flips:
        parts.append(words.RACE_FLIPS_RUN if race.live else words.RACE_FLIPS)
    st.caption(" ".join(parts))


def offer_live(study: StudyFolder, first: bool) -> None:
    """The job as it stands: its progress while it works, else why the last one failed, and the button that starts it.

    Args:
        study: whose networks race.
        first: nothing can be shown yet, so that this is the main thing to do.
    """
    folder = race_folder(workspace(), study)
    job = folder.told
    if job is not None and not job.over:
        watch(folder)
        return
    if job is not None and job.state == "failed":
        st.error(plain(sentence(job.message)) or "It failed without a word.", icon=":material/error:")
    if st.button(
        "Race live now",
        type="primary" if first else "secondary",
        icon=":material/bolt:",
        key="race live",
        disabled=locked(),
        help=words.RACE_LIVE_HELP,
    ):
        start(folder, study)


def start(folder: RaceFolder, study: StudyFolder) -> None:
    """Start the job and draw the page anew, or say in a sentence why it cannot be started."""
    try:
        permit("started", f"a live race of {study.title} ({study.id})")
        folder.start()
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.session_state.pop(KEY, None)  # what is chosen next is the new one
    st.query_params.pop(KEY, None)
    st.rerun()


@st.fragment(run_every=TICK)
def watch(folder: RaceFolder) -> None:
    """How far a live race is; when it has ended, the page is drawn anew and the ticking is over."""
    job = folder.told
    if job is None or job.over:
        st.rerun(scope="app")
    share = job.done / job.total if job.total else 0.0
    now: Any = None if job.state == "queued" else job.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, share), text=plain(doing(now, "Starting: loading the networks …")))
        stop_button("stop racing", stop, folder)


def stop(folder: RaceFolder) -> None:
    """Ask the job to end."""
    if permitted("stopped", f"a live race in {folder.id}"):
        try:
            folder.stop()
        except KdcoreError:
            return  # it has just ended
