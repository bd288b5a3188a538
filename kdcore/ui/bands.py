"""Which bands the imagery on the map is drawn with, for imagery that has more than three; the page's address keeps them."""

from collections.abc import Sequence

import streamlit as st

from kdcore.data.spectrum import Band, combinations, in_words, parse_numbers
from kdcore.errors import SettingsError
from kdcore.inference.layer_index import SceneLayers

BANDS = "bands"  # in the address
OWN = ()  # among the combinations: none of them
COLOURS = ("Red", "Green", "Blue")
WHAT = "How the imagery is drawn; what the networks see does not depend on it."


def choose_bands(scene: SceneLayers) -> tuple[int, ...]:
    """The choice, where a scene has more than three bands.

    Returns:
        Numbers of three bands or of one; none where the usual ones are drawn.
    """
    if not scene.bands:
        return ()
    numbers = bands_in_address(scene)
    named = {scene.shown: "As it opens"} | combinations(scene.bands)
    with st.popover("Bands", icon=":material/palette:"):
        st.session_state["combination"] = numbers if numbers in named else OWN
        st.selectbox(
            "Combination",
            [*named, OWN],
            key="combination",
            format_func=lambda one: f"{named[one]}: {', '.join(map(str, one))}" if one else "Bands of your own choice",
            on_change=take_combination,
            help=WHAT,
        )
        st.session_state["grey"] = len(numbers) == 1
        st.toggle("One band, in grey", key="grey", on_change=take_grey, args=(numbers, scene))
        for place, number in enumerate(numbers):
            key = f"band {place}"
            st.session_state[key] = number
            st.selectbox(
                COLOURS[place] if len(numbers) > 1 else "Grey",
                [band.number for band in scene.bands],
                key=key,
                format_func=lambda number: label_of(number, scene.bands),
                on_change=take_bands,
                args=(len(numbers),),
            )
    return () if numbers == scene.shown else numbers


def sentence(scene: SceneLayers, numbers: Sequence[int]) -> str:
    """What the imagery shows, for a scene whose bands can be chosen; any text."""
    return f"In the imagery, {in_words(numbers or scene.shown, scene.bands)}." if scene.bands else ""


def label_of(number: int, bands: Sequence[Band]) -> str:
    """A band as text beside others."""
    return next(band.label for band in bands if band.number == number)


def bands_in_address(scene: SceneLayers) -> tuple[int, ...]:
    """The bands that the address names, else those that this session had last; the usual ones where the scene does not have them."""
    text = st.query_params.get(BANDS, st.session_state.get("kept bands", ""))
    try:
        numbers = parse_numbers(text)
        scene.stored(numbers)
    except SettingsError:
        numbers = ()
    return numbers or scene.shown


def keep(numbers: Sequence[int]) -> None:
    """Write a choice into the address."""
    st.query_params[BANDS] = st.session_state["kept bands"] = ",".join(map(str, numbers))


def take_combination() -> None:
    """A combination was chosen; bands of one's own choice are chosen below it."""
    if chosen := st.session_state["combination"]:
        keep(chosen)


def take_grey(numbers: Sequence[int], scene: SceneLayers) -> None:
    """One band was wanted instead of three, or the other way round: the usual three, or the first where the usual one is grey."""
    three = scene.shown if len(scene.shown) == 3 else [band.number for band in scene.bands[:3]]
    keep(numbers[:1] if len(numbers) > 1 else three)


def take_bands(count: int) -> None:
    """Another band was chosen."""
    keep([st.session_state[f"band {place}"] for place in range(count)])
