"""What hardly anyone needs to change on the Train page."""

from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.recipes import OWN
from kdcore.ui import words


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
            "batch_size": b.number_input(
                "Crops in a batch", 1, 256, usual["batch_size"], key="batch_size", bind="query-params"
            ),
            "crop": c.number_input(
                "Side of a crop, pixels", 32, 2048, usual["crop"], step=32, key="crop", bind="query-params"
            ),
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
                help=words.TERMS["labels"],
            ),
            "match": select(b, "The student alone gets", "match", words.MATCHES, words.TERMS["match"]),
            "teacher_seeds": c.number_input(
                "Teachers, averaged",
                1,
                10,
                usual["teacher_seeds"],
                key="teacher_seeds",
                bind="query-params",
                disabled=reused,
                help=words.TERMS["teacher seeds"],
            ),
            "views": select(a, "The teacher's answers are kept", "views", words.VIEWS, words.TERMS["views"]),
            "teacher_flips": b.toggle(
                "Teacher looks at eight views",
                usual["teacher_flips"],
                key="teacher_flips",
                bind="query-params",
                help=words.TERMS["teacher flips"],
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
        own = own_recipe(usual) if recipe == OWN else {name: usual[name] for name in ("unlabelled", "channels", "mix")}
    return values | own


def select(place: DeltaGenerator, label: str, key: str, names: Mapping[str, str], explained: str | None = None) -> str:
    """A select box that keeps its value in the session; `names` are the values and what is shown for them."""
    chosen: str = place.selectbox(
        label, list(names), key=key, format_func=names.__getitem__, persist_state="session", help=explained
    )
    return chosen


def own_recipe(usual: dict[str, Any]) -> dict[str, Any]:
    """The parts of a recipe beside temperature, alpha and the two losses."""
    a, b, c = st.columns(3)
    return {
        "unlabelled": a.number_input(
            "Crops without labels for each with",
            0.0,
            4.0,
            usual["unlabelled"],
            step=0.5,
            key="unlabelled",
            bind="query-params",
        ),
        "channels": b.number_input(
            "Weight of the channel-wise loss",
            0.0,
            100.0,
            usual["channels"],
            step=0.5,
            key="channels",
            bind="query-params",
        ),
        "mix": select(c, "Mix crops", "mix", words.MIXES),
    }
