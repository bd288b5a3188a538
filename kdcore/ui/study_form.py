"""The form of the Train page: presets first, a recipe and its knobs second, then name and launch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.errors import KdcoreError
from kdcore.jobs.library import Library
from kdcore.jobs.plan import planned_runs
from kdcore.jobs.shelf import Shelf
from kdcore.recipes import EVIDENCE, OWN, current_name, recommended
from kdcore.settings import PRESET_MEANINGS, PRESETS, RECIPES, STUDY_PRESETS
from kdcore.ui import label_curves, words
from kdcore.ui.address import select_in_address, take_from_address, take_once
from kdcore.ui.choices import (
    AS_PRESET,
    DEMO,
    PARAMETERS,
    SEEDS,
    STUDENTS,
    TEACHERS,
    Choices,
    EarlierTeacher,
    earlier_teachers,
    has_unlabelled,
    known_data,
    preset_values,
    recipe_values,
    shelved_teachers,
    studies_on,
)
from kdcore.ui.earlier_students import warn_before
from kdcore.ui.formatting import parameters, plain
from kdcore.ui.knobs import alpha_knob, temperature_knob
from kdcore.ui.launching import choose_place, launch_button, start_studies
from kdcore.ui.more_settings import more_settings
from kdcore.ui.study_picker import PARAMETER, example_study, recent_studies, workspace
from kdcore.ui.timing import offer_to_measure, tell_time

DEFAULT_PRESET = "quick"
FOLLOWED = "recipe that was recommended"
RENAMED = "recipe that was renamed"


def show_form() -> None:
    """Everything that a study needs, with safe values from the start."""
    studies = recent_studies()
    known = known_data(Library(workspace()).known(), studies)
    take_from_address("data", known, DEMO)
    remember_defaults(st.session_state["data"])
    data, title = choose_data_and_preset(known)
    recipe = choose_recipe(data)
    usual = usual_values()
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        temperature = temperature_knob(example_study(studies_on(studies, data)), usual["temperature"])
    with right.container(border=True, height="stretch"):
        alpha = alpha_knob(temperature, usual["alpha"])
    teachers = earlier_teachers(studies, data) + shelved_teachers(Shelf(workspace()), data)
    choices = choose_networks_and_budget(recipe, temperature, alpha, teachers, usual)
    try:
        settings, curve = choices.settings(), choices.label_curve(has_unlabelled(data))
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if choices.reused is not None and not choices.reused.shelf:
        warn_before(choices.reused, settings, studies, data)
    in_slurm = choose_place("train", len(planned_runs(settings)))
    told, buttons = st.bottom.columns((3, 1), vertical_alignment="center")
    place = told.empty()
    with place.container():
        tell_time(settings, data, len(curve))
    with buttons.container(horizontal=True, horizontal_alignment="right"):
        offer_to_measure(settings, place)
        token = launch_button("Launch", "train", icon=":material/rocket_launch:")
    if token is None:
        return
    collection = DEMO if data == DEMO else Path(data)
    try:
        study = start_studies(token, title, collection, curve or [settings], in_slurm)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if curve:
        st.switch_page("labels.py", query_params={label_curves.PARAMETER: study.id})
    st.query_params[PARAMETER] = study.id
    st.rerun()


def remember_defaults(data: str) -> None:
    """Give every widget its preset's value where neither a person nor the address has given one.

    The widgets are given the same values once more as their own defaults: what is not in the address falls back to those when a
    click arrives before the browser has written it there (Streamlit 1.67), and a learning rate would be the smallest possible.
    """
    if "preset" not in st.session_state:
        named = st.query_params.get("preset", "").lower()
        st.session_state["preset"] = named if named in STUDY_PRESETS else DEFAULT_PRESET
    share = st.query_params.get(
        "labels", ""
    )  # known before its widget is drawn: which recipes are offered follows from it
    in_address = int(share) if share.isdecimal() and len(share) <= 3 and 1 <= int(share) <= 100 else None
    st.session_state.setdefault("labels", in_address or preset_values(st.session_state["preset"])["labels"])
    if "recipe" not in st.session_state:
        st.session_state["recipe"] = recipe_of_address(recommended(st.session_state["preset"], has_unlabelled(data)))
    for key in ("teacher", "task", "distillation", "match", "mix", "augment", "views"):
        take_once(key)
    for key, value in usual_values().items():
        st.session_state.setdefault(key, value)


def usual_values() -> dict[str, Any]:
    """What the chosen preset and recipe say: the widgets' own defaults."""
    recipe = RECIPES.get(st.session_state["recipe"])
    return preset_values(st.session_state["preset"]) | ({} if recipe is None else recipe_values(recipe))


def take_preset() -> None:
    """Put a preset's values into all widgets, and the recipe's that goes with it and the data."""
    st.session_state.update(preset_values(st.session_state["preset"]))
    st.session_state["recipe"] = recommended(st.session_state["preset"], has_unlabelled(st.session_state["data"]))
    take_recipe()


def choose_data_and_preset(known: dict[str, str]) -> tuple[str, str]:
    """Data, preset and title; gives the data's key and the title."""
    with st.container(border=True):
        left, middle, right = st.columns((4, 5, 4))
        with left:
            data = select_in_address("Train on", "data", known, DEMO)
            st.page_link("data.py", label="Look at it, or use your own", icon=":material/database:")
        with middle:
            preset = st.segmented_control(
                "Start from",
                list(STUDY_PRESETS),
                key="preset",
                bind="query-params",
                required=True,
                on_change=take_preset,
                format_func=str.capitalize,
            )
            st.caption(PRESET_MEANINGS.get(preset or "", ""))
        with right:
            title = st.text_input(
                "Name of the study", key="title", max_chars=100, placeholder=suggest_title(known[data])
            )
            st.caption("Any words that tell it from the others.")
    return data, title.strip() or suggest_title(known[data])


def suggest_title(data: str) -> str:
    """A name from what was chosen."""
    return f"{data.partition(' (')[0]}, T = {st.session_state['temperature']:g}, alpha = {st.session_state['alpha']:g}"


def choose_networks_and_budget(
    recipe: str, temperature: float, alpha: float, earlier: list[EarlierTeacher], usual: dict[str, Any]
) -> Choices:
    """Teacher, student, steps and seeds, and what hardly anyone needs to change; `usual` are the preset's and recipe's values."""
    by_path = {str(teacher.checkpoint): teacher for teacher in earlier}
    teachers = with_current(TEACHERS, st.session_state["teacher"], by_path) + list(by_path)
    if st.session_state["teacher"] not in teachers:
        st.session_state["teacher"] = teachers[0]
    with st.container(border=True):
        first, second, third, fourth = st.columns((9, 5, 5, 6))
        teacher = choose_teacher(first, teachers, by_path, "teacher")
        with second:
            sizes = with_current(STUDENTS, st.session_state["student"], {})
            default = usual["student"] if usual["student"] in sizes else sizes[0]
            student = st.select_slider(
                "Student", sizes, default, key="student", bind="query-params", help=words.TERMS["student"]
            )
            st.caption(f"{network_label(student).partition(', ')[2] or 'The size of the preset'}")
        steps = third.number_input(
            "Steps of a student",
            10,
            1_000_000,
            usual["steps"],
            step=100,
            key="steps",
            bind="query-params",
            help=words.TERMS["step"],
        )
        seeds = (
            fourth.segmented_control(
                "Seeds",
                SEEDS,
                default=usual["seeds"],
                key="seeds",
                bind="query-params",
                required=True,
                help=words.TERMS["seed"],
            )
            or SEEDS[0]
        )
        if seeds < 3:
            st.caption("With fewer than three seeds the verdict is weak: differences between runs look like an effect.")
        rest = more_settings(usual, recipe, teacher in by_path)
    return Choices(
        preset=st.session_state["preset"], recipe=recipe, temperature=temperature, alpha=alpha, teacher=teacher, student=student,
        steps=int(steps), seeds=seeds, reused=by_path.get(teacher), **rest,
    )  # fmt: skip


def with_current(names: tuple[str, ...], current: str, others: dict[str, EarlierTeacher]) -> list[str]:
    """The named networks, and the preset's own where it is none of them."""
    extra = (
        [current]
        if current not in names and current not in others and (current in PRESETS or current == AS_PRESET)
        else []
    )
    return [*extra, *names]


def network_label(name: str) -> str:
    """A network's name with its size, and what it starts from if its weights are not random."""
    if name not in PARAMETERS:
        return name
    start = PRESETS[name].pretrained_on
    return f"{name}, {parameters(PARAMETERS[name])} parameters" + (f", from {start}" if start else "")


def choose_teacher(place: DeltaGenerator, names: Sequence[str], earlier: Mapping[str, EarlierTeacher], key: str) -> str:
    """Let a person choose one of these networks or earlier teachers; the session keeps it as `key`."""
    chosen: str = place.selectbox(
        "Teacher",
        names,
        key=key,
        persist_state="session",
        help=words.TERMS["teacher"],
        format_func=lambda name: teacher_label(name, earlier),
    )
    return chosen


def teacher_label(name: str, earlier: Mapping[str, EarlierTeacher]) -> str:
    """A network that is to be trained, or an earlier teacher with the study it comes from and how good it was."""
    if name not in earlier:
        return f"Train one: {network_label(name)}"
    teacher = earlier[name]
    if teacher.shelf:
        return f"From the shelf: {teacher.shelf}"
    quality = "" if teacher.mean_ap is None else f" (mean AP {100 * teacher.mean_ap:.1f})"
    return f"Reuse that of “{teacher.study}”, seed {teacher.seed}{quality}"


def recipe_of_address(usual: str) -> str:
    """The recipe that the address names, by its present or a former name, else the usual one; a former name is said to be one."""
    named, st.session_state[RENAMED] = current_name(st.query_params.get("recipe", "").lower())
    if st.session_state[RENAMED]:
        st.query_params["recipe"] = named.capitalize()
    return named if named in (*RECIPES, OWN) else usual


def choose_recipe(data: str) -> str:
    """Named recipes, what each does and what speaks for it; choosing one sets temperature, alpha and the rest.

    The recommended one is chosen until a person chooses another one, and follows the data until then.

    Args:
        data: 'demo' or a collection's path: without imagery that has no labels, a recipe that needs it is not offered.
    """
    spare = has_spare(data)
    offered = [name for name in (*RECIPES, OWN) if spare or name == OWN or not RECIPES[name].unlabelled]
    usual = recommended(st.session_state["preset"], has_unlabelled(data))
    chosen, followed = st.session_state["recipe"], st.session_state.get(FOLLOWED, usual)
    if chosen not in offered or (chosen == followed and chosen != usual):
        st.session_state["recipe"] = usual
        take_recipe()
    st.session_state[FOLLOWED] = usual
    with st.container(border=True):
        recipe: str = (
            st.segmented_control(
                "Recipe",
                offered,
                default=usual,
                key="recipe",
                bind="query-params",
                required=True,
                on_change=take_recipe,
                format_func=str.capitalize,
                help=words.TERMS["recipe"],
            )
            or offered[0]
        )
        if st.session_state.get(RENAMED):
            st.info(plain(st.session_state[RENAMED]), icon=":material/info:")
        st.markdown(words.RECIPES[recipe])
        if not spare:
            st.caption(words.NO_UNLABELLED)
        with st.expander("What was measured with it", icon=":material/query_stats:"):
            st.caption(EVIDENCE[recipe])
    return recipe


def has_spare(data: str) -> bool:
    """Whether there is imagery whose labels the students do not have: without any, or with labels that are not used."""
    return bool(st.session_state["labels"] < 100) or has_unlabelled(data)


def take_recipe() -> None:
    """Put a recipe's values into the widgets; one's own begins with the preset's, which are the widgets' own defaults then."""
    preset = STUDY_PRESETS[st.session_state["preset"]]
    st.session_state.update(recipe_values(RECIPES.get(st.session_state["recipe"], preset.recipe)))
