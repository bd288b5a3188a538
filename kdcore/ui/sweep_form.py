"""Which sweep the page shows, which the address names, and the form of a new one: what is searched, on which data, under which budget."""

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.errors import KdcoreError, RunError
from kdcore.jobs import sweep_library
from kdcore.jobs.forecast import as_study, sweep_seconds
from kdcore.jobs.library import Library
from kdcore.jobs.quota import available_cores
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_folder import SweepFolder, list_sweeps
from kdcore.jobs.sweep_library import find
from kdcore.jobs.workspace import NEW
from kdcore.settings import Budget, SweepSettings, parse_network, sentence
from kdcore.ui import words
from kdcore.ui.address import select_in_address
from kdcore.ui.choices import ALPHAS, DEMO, STUDENTS, TEACHERS, earlier_teachers, known_data
from kdcore.ui.formatting import count, duration, plain, told_apart
from kdcore.ui.launching import choose_place, launch_button
from kdcore.ui.more_settings import number
from kdcore.ui.people import locked, permit
from kdcore.ui.study_form import choose_teacher
from kdcore.ui.study_picker import recent_studies, workspace
from kdcore.ui.sweep_choices import (
    CONFIRMATIONS,
    DEFAULTS,
    MORE,
    OBJECTIVES,
    RATES,
    REPEATS,
    STEPS,
    TEACHER_STEPS,
    TEMPERATURES,
    TRIALS,
    Space,
    SweepChoices,
)
from kdcore.ui.sweep_words import FORM, INTRODUCTION, say_neighbours, shown_error
from kdcore.ui.timing import costs_of, measure

PARAMETER = "sweep"  # in the address
REMEMBERED = "sweep"  # in the session: the last one that was looked at
WIDGET = "sweep picker"


def show_form() -> None:
    """Everything that a sweep needs; one click starts a short one on the demo area."""
    studies = recent_studies()
    with st.container(border=True):
        left, right = st.columns((3, 2))
        with left:
            data = select_in_address("Search on", "data", known_data(Library(workspace()).known(), studies), DEMO)
            st.page_link("data.py", label="Look at it, or use your own", icon=":material/database:")
        usual = f"{'Demo area' if data == DEMO else Path(data).stem}, which temperature and alpha"
        title = right.text_input("Name of the sweep", key="sweep title", max_chars=100, placeholder=usual)
        right.caption("Any words that tell it from the others.")
    space = choose_space()
    choices, workers = choose_budget(space, studies, data)
    try:
        settings = choices.settings()
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    say_neighbours(studies)
    in_slurm = choose_place("sweep", min(settings.trials, sweep_library.MOST_WORKERS))
    with st.bottom.container(horizontal=True, vertical_alignment="center"):
        tell_time(settings, in_slurm or workers)
        token = launch_button("Start the sweep", "sweep", icon=":material/rocket_launch:")
    if token is None:
        return
    try:
        sweep = start_sweep(token, title.strip() or usual, data, settings, workers, in_slurm)
    except KdcoreError as error:
        st.error(shown_error(error), icon=":material/error:")
        return
    st.query_params[PARAMETER] = sweep.id
    st.rerun()


def start_sweep(
    token: str, title: str, data: str, settings: SweepSettings, workers: int, in_slurm: int | None = None
) -> SweepFolder:
    """Make a sweep of a token, or find the one that was made of it, and start its workers here, or so many in Slurm.

    Raises:
        KdcoreError: it cannot be made or started; says why.
    """
    permit("started", title)
    sweep = sweep_library.create(workspace(), title, "demo" if data == DEMO else Path(data), settings, token)
    if in_slurm is None:
        sweep_library.start(sweep, workers)
    else:
        sweep_library.start_in_slurm(sweep, in_slurm)
    return sweep


def choose_space() -> Space:
    """Temperature, alpha and what else is searched."""
    with st.container(border=True):
        left, right = st.columns(2)
        temperature = left.select_slider(
            "Temperatures from … to …",
            TEMPERATURES,
            (1.0, 10.0),
            key="temperatures",
            bind="query-params",
            format_func=lambda value: f"{value:g}",
            help=words.TERMS["temperature"],
        )
        alpha = right.select_slider(
            "Alphas from … to …",
            ALPHAS,
            (0.0, 1.0),
            key="alphas",
            bind="query-params",
            format_func=lambda value: f"{value:g}",
            help=words.TERMS["alpha"],
        )
        students = left.pills(
            "Students",
            STUDENTS,
            selection_mode="multi",
            default=["tiny"],
            key="students",
            bind="query-params",
            help=FORM["students"],
        )
        more = right.pills(
            "Search these, too",
            list(MORE),
            selection_mode="multi",
            key="more",
            bind="query-params",
            format_func=MORE.__getitem__,
            help=FORM["more"],
        )
        rates = (1e-4, 1e-2)
        if "learning_rate" in more:
            rates = right.select_slider(
                "Learning rates from … to …",
                RATES,
                (3e-4, 3e-3),
                key="rates",
                bind="query-params",
                format_func=lambda value: f"{value:g}",
            )
    return Space(temperature, alpha, students, more, rates)


def choose_budget(space: Space, studies: list[StudyFolder], data: str) -> tuple[SweepChoices, int]:
    """How many trials, how long each, who teaches; gives all choices and the number of workers."""
    by_path = {str(teacher.checkpoint): teacher for teacher in earlier_teachers(studies, data)}
    teachers = [*TEACHERS, *by_path]
    cores = available_cores()
    with st.container(border=True):
        first, second, third, fourth = st.columns((2, 2, 2, 3))
        trials = number(first, "Trials", SweepSettings, "trials", TRIALS)
        steps = second.number_input(
            "Steps of a trial", 10, 1_000_000, STEPS, step=50, key="trial_steps", bind="query-params", help=words.TERMS["step"]
        )  # fmt: skip
        workers = third.number_input(
            "Workers", 1, max(2, cores), min(2, cores), key="workers", bind="query-params", help=FORM["workers"]
        )
        if st.session_state.get("sweep teacher") not in teachers:
            st.session_state["sweep teacher"] = "light"
        teacher = choose_teacher(fourth, teachers, by_path, "sweep teacher")
        with st.expander("More settings", icon=":material/tune:"):
            a, b, c = st.columns(3)
            objectives = choose_objectives(a, len(space.students) > 1)
            repeats = number(b, "Repeats of the centre", SweepSettings, "repeats", REPEATS)
            confirm = c.select_slider(
                "Fresh seeds to confirm with",
                CONFIRMATIONS,
                0,
                key="confirm",
                bind="query-params",
                help=sentence(SweepSettings, "confirm"),
            )
            kind = a.segmented_control(
                "Budget of a trial",
                ["steps", "seconds"],
                default="steps",
                required=True,
                key="budget",
                bind="query-params",
                help=FORM["budget"],
            )
            seconds = b.number_input(
                "Seconds of a trial", 1.0, 1e6, 20.0, step=5.0, key="trial_seconds", bind="query-params", disabled=kind != "seconds"
            )  # fmt: skip
            teacher_steps = c.number_input(
                "Steps of the teacher", 10, 1_000_000, TEACHER_STEPS, step=50, key="sweep_teacher_steps", bind="query-params",
                disabled=teacher in by_path,
            )  # fmt: skip
            usual = DEFAULTS.budget
            batch = number(a, "Crops in a batch", Budget, "batch_size", usual.batch_size, key="trial_batch")
            crop = number(b, "Side of a crop, pixels", Budget, "crop", usual.crop, key="trial_crop", step=32)
            storage = c.text_input(
                "Database for the trials (URL)",
                key="storage",
                persist_state="session",
                placeholder="none: a file of the sweep",
                help=sentence(SweepSettings, "storage"),
            )
            pruning = a.toggle(
                "End hopeless trials early",
                True,
                key="pruning",
                bind="query-params",
                help=sentence(SweepSettings, "pruning"),
            )
    chosen = SweepChoices(
        space=space, objectives=objectives, trials=int(trials), repeats=int(repeats), confirm=confirm, steps=int(steps),
        seconds=float(seconds) if kind == "seconds" else None, batch_size=int(batch), crop=int(crop), pruning=pruning,
        teacher="light" if teacher in by_path else teacher, teacher_steps=int(teacher_steps), storage=storage.strip(),
        reused=by_path.get(teacher),
    )  # fmt: skip
    return chosen, int(workers)


def choose_objectives(place: DeltaGenerator, several: bool) -> list[str]:
    """What a good trial is; with one student all have the same size and speed."""
    objectives: list[str] = place.pills(
        "Objectives",
        list(OBJECTIVES) if several else ["quality"],
        selection_mode="multi",
        default=["quality"],
        key="objectives",
        bind="query-params",
        format_func=OBJECTIVES.__getitem__,
        help=FORM["objectives"],
    )
    if not several:
        place.caption("Size and latency can be objectives once several students are chosen.")
    return objectives


def tell_time(settings: SweepSettings, workers: int) -> None:
    """How long the sweep would take; where nothing was measured, the offer to measure."""
    expected = sweep_seconds(settings, costs_of(workspace().path), workers)
    trainings = f"{count(settings.trials, 'trial')} on {count(workers, 'worker')}"
    place = st.container(width="stretch").empty()
    if expected is not None:
        place.caption(f"{trainings}. Roughly {duration(expected)}, from steps that were measured here.")
        return
    place.caption(f"{trainings}. How long a step takes on this machine was not measured yet.")
    if st.button(
        "Measure", icon=":material/timer:", help="Does five steps of each network on made-up crops.", disabled=locked()
    ):
        measure(as_study(settings, parse_network(settings.space.student[0])), place)


def choose_sweep(title: str, icon: str) -> SweepFolder | None:
    """The page's title, and beside it the sweeps to pick from and the way to a new one.

    Returns:
        The sweep to show; None for the form of a new one.
    """
    sweeps = list_sweeps(workspace().sweeps)
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.title(title, icon=icon)
    wanted = named_sweep()
    if not sweeps or (wanted is None and st.query_params.get(PARAMETER) == NEW):
        return None
    ids = [sweep.id for sweep in sweeps]
    remembered = st.session_state.get(REMEMBERED)
    chosen = wanted.id if wanted is not None else remembered if remembered in ids else ids[0]
    st.session_state[WIDGET] = chosen
    names = told_apart({sweep.id: title_of(sweep) for sweep in sweeps})
    head.selectbox("Sweep", ids, key=WIDGET, format_func=names.__getitem__, on_change=follow_widget, width=360)
    head.button("New sweep", icon=":material/add:", on_click=go_to_form)
    st.session_state[REMEMBERED] = chosen
    if st.query_params.get(PARAMETER) != chosen:
        st.query_params[PARAMETER] = chosen
    return next(sweep for sweep in sweeps if sweep.id == chosen)


def named_sweep() -> SweepFolder | None:
    """The sweep that the address names; None without one. An address that names none says so on the page."""
    name = st.query_params.get(PARAMETER)
    if name is None or name == NEW:
        return None
    try:
        return find(workspace(), name)
    except RunError:
        st.warning(f"There is no sweep “{plain(name[:100])}” on this machine (any more).", icon=":material/search_off:")
        return None


def follow_widget() -> None:
    """Put what was picked into the address; a trial that was looked at belongs to the other sweep."""
    st.query_params.clear()
    st.query_params[PARAMETER] = st.session_state[WIDGET]


def go_to_form() -> None:
    """Name the form in the address."""
    st.query_params.clear()
    st.query_params[PARAMETER] = NEW


def title_of(sweep: SweepFolder) -> str:
    """What a person calls it; its id where that cannot be read."""
    try:
        return sweep.about.title
    except KdcoreError:
        return sweep.id


def show_new() -> None:
    """What a sweep is, those that are there, and the form of a new one."""
    st.markdown(INTRODUCTION)
    for sweep in list_sweeps(workspace().sweeps):
        if sweep.alive:
            with st.container(border=True, horizontal=True, vertical_alignment="center"):
                st.markdown(f":blue-badge[running] {plain(title_of(sweep))}", width="stretch")
                st.page_link(
                    "sweep.py", label="Watch", icon=":material/visibility:", query_params={PARAMETER: sweep.id}
                )
    show_form()
