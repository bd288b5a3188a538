"""The recipe on the Train page: a named one with its evidence, or one's own."""

import streamlit as st

from kdcore.recipes import EVIDENCE, OWN, current_name, recommended
from kdcore.settings import RECIPES, STUDY_PRESETS
from kdcore.ui import words
from kdcore.ui.choices import has_unlabelled, recipe_values
from kdcore.ui.formatting import plain

FOLLOWED = "recipe that was recommended"
RENAMED = "recipe that was renamed"


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
        st.caption(EVIDENCE[recipe] + ("" if spare else f" {words.NO_UNLABELLED}"))
    return recipe


def has_spare(data: str) -> bool:
    """Whether there is imagery whose labels the students do not have: without any, or with labels that are not used."""
    return bool(st.session_state["labels"] < 100) or has_unlabelled(data)


def take_recipe() -> None:
    """Put a recipe's values into the widgets; one's own begins with the preset's, which are the widgets' own defaults then."""
    preset = STUDY_PRESETS[st.session_state["preset"]]
    st.session_state.update(recipe_values(RECIPES.get(st.session_state["recipe"], preset.recipe)))
