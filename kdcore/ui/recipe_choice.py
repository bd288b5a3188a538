"""The recipe on the Train page: a named one with its evidence, or one's own."""

import streamlit as st

from kdcore.settings import RECIPES, STUDY_PRESETS
from kdcore.ui import words
from kdcore.ui.choices import OWN, has_unlabelled, recipe_values

UNLABELLED = "unlabelled"


def choose_recipe(data: str, usual: str) -> str:
    """Named recipes, what each does and what speaks for it; choosing one sets temperature, alpha and the rest.

    Args:
        data: 'demo' or a collection's path: without imagery that has no labels, a recipe that needs it is not offered.
        usual: the preset's recipe.
    """
    spare = st.session_state["labels"] < 100 or has_unlabelled(data)
    offered = [name for name in (*RECIPES, OWN) if spare or name != UNLABELLED]
    if st.session_state["recipe"] not in offered:
        st.session_state["recipe"] = usual if usual in offered else offered[0]
        take_recipe()
    with st.container(border=True):
        recipe: str = (
            st.segmented_control(
                "Recipe",
                offered,
                default=usual if usual in offered else offered[0],
                key="recipe",
                bind="query-params",
                required=True,
                on_change=take_recipe,
                format_func=str.capitalize,
                help=words.TERMS["recipe"],
            )
            or offered[0]
        )
        st.markdown(words.RECIPES[recipe])
        st.caption(words.EVIDENCE[recipe] + ("" if spare else f" {words.NO_UNLABELLED}"))
    return recipe


def take_recipe() -> None:
    """Put a recipe's values into the widgets; one's own begins with the preset's, which are the widgets' own defaults then."""
    preset = STUDY_PRESETS[st.session_state["preset"]]
    st.session_state.update(recipe_values(RECIPES.get(st.session_state["recipe"], preset.recipe)))
