"""What hardly anyone needs to change on the Train page."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.recipes import OWN
from kdcore.settings import (
    ADDED,
    Budget,
    Frozen,
    Hardware,
    Recipe,
    StudySettings,
    TeacherSettings,
    limits,
    sentence,
)
from kdcore.ui import words
from kdcore.ui.choices import OWN_PARTS, SHARES


def more_settings(usual: dict[str, Any], recipe: str, reused: bool) -> dict[str, Any]:
    """The expander with the rest of the knobs; gives their values by the names that `Choices` has for them.

    Args:
        usual: what the preset and the recipe say, which are the widgets' own defaults.
        recipe: the chosen one; the parts of a recipe can be set where it is one's own.
        reused: whether the teacher exists already.
    """
    with st.expander("More settings", icon=":material/tune:"):
        a, b, c = st.columns(3)
        values = {
            "teacher_steps": a.number_input(
                "Steps of the teacher",
                10,
                1_000_000,
                usual["teacher_steps"],
                step=100,
                key="teacher_steps",
                bind="query-params",
                disabled=reused,
            ),
            "batch_size": number(b, "Crops in a batch", Budget, "batch_size", usual["batch_size"]),
            "crop": number(c, "Side of a crop, pixels", Budget, "crop", usual["crop"], step=32),
            "learning_rate": a.number_input(
                "Learning rate",
                1e-6,
                1.0,
                usual["learning_rate"],
                step=1e-4,
                format="%.4f",
                key="learning_rate",
                bind="query-params",
            ),
            "task": select(b, "Task loss", "task", words.TASKS),
            "distillation": select(c, "Distillation loss", "distillation", words.DISTILLATIONS),
            "labels": a.number_input(
                "Labels that the students may use, %",
                1,
                100,
                usual["labels"],
                key="labels",
                bind="query-params",
                help=sentence(StudySettings, "labels"),
            ),
            "shares": a.multiselect(
                "Label curve: further shares, %",
                SHARES,
                key="shares",
                persist_state="session",
                placeholder="None",
                help=words.TERMS["label curve"],
            ),
            "match": select(b, "The student alone gets", "match", words.MATCHES, sentence(StudySettings, "match")),
            "teacher_seeds": c.number_input(
                "Teachers, averaged",
                1,
                10,
                usual["teacher_seeds"],
                key="teacher_seeds",
                bind="query-params",
                disabled=reused,
                help=sentence(TeacherSettings, "seeds"),
            ),
            "views": select(b, "Soft labels are kept", "views", words.VIEWS, sentence(Hardware, "cache_views")),
            "teacher_flips": c.toggle(
                "Teacher looks at eight views",
                usual["teacher_flips"],
                key="teacher_flips",
                bind="query-params",
                help=sentence(TeacherSettings, "flips"),
            ),
            "upper_bound": c.toggle(
                "Also train the student with all labels",
                usual["upper_bound"],
                key="upper_bound",
                bind="query-params",
                disabled=st.session_state["labels"] >= 100,
                help=words.TERMS["all labels"],
            ),
        }
        own = own_recipe(usual) if recipe == OWN else {name: usual[name] for name in OWN_PARTS}
    return values | {"own": own}


def number(
    place: DeltaGenerator, label: str, model: type[Frozen], name: str, usual: float, *, key: str = "", step: float = 1
) -> Any:
    """A field for a number that a setting's model limits and describes; it stands in the address.

    Args:
        place: where it is drawn.
        label: on the page.
        model: of the setting.
        name: of the setting.
        usual: what it shows at first; the number has its type.
        key: of the widget, if it is not `name`.
        step: of its buttons.
    """
    kind, (low, high) = type(usual), limits(model, name)
    return place.number_input(
        label,
        kind(low),
        kind(high),
        usual,
        step=kind(step),
        key=key or name,
        bind="query-params",
        help=sentence(model, name),
    )


def select(place: DeltaGenerator, label: str, key: str, names: Mapping[str, str], explained: str | None = None) -> str:
    """A select box that keeps its value in the session; `names` are the values and what is shown for them."""
    chosen: str = place.selectbox(
        label, list(names), key=key, format_func=names.__getitem__, persist_state="session", help=explained
    )
    return chosen


def own_recipe(usual: dict[str, Any]) -> dict[str, Any]:
    """The parts of a recipe beside temperature, alpha and the two losses."""
    places = cycle(st.columns(3))
    labels = {"unlabelled": "Unlabelled crops per labelled crop", "confidence": "Lowest probability that counts"}
    labels |= {name: loss.label for name, loss in ADDED.items()}
    steps = {"confidence": 0.05}
    numbers = {
        name: number(next(places), label, Recipe, name, usual[name], step=steps.get(name, 0.5))
        for name, label in labels.items()
    }
    return numbers | {
        "mix": select(next(places), "Mix crops", "mix", words.MIXES, sentence(Recipe, "mix")),
        "augment": select(next(places), "Strong augmentation", "augment", words.AUGMENTED, sentence(Recipe, "augment")),
    }
