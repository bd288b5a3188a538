"""Choices that stand in the address by their value.

Streamlit's own `bind="query-params"` writes what a widget shows. That is right for numbers, and too long where a choice is shown as a
sentence; this writes the value itself.
"""

import math
from collections.abc import Mapping
from contextlib import suppress

import streamlit as st

NAMES = (
    "study",
    "studies",
    "sweep",
    "curve",
    "collection",
    "folder",
    "data",
    "scene",
)  # in the address: texts, also where they look like numbers
LARGEST = 1e15  # no setting is larger


def select_in_address(label: str, key: str, options: Mapping[str, str], default: str) -> str:
    """A select box whose value stands in the address as `key`.

    Args:
        label: above the box.
        key: of the widget and in the address.
        options: value and what is shown for it.
        default: the value where neither the address nor this session names one.
    """
    take_from_address(key, options, default)
    chosen: str = st.selectbox(
        label, list(options), key=key, format_func=options.__getitem__, on_change=put_into_address, args=(key,)
    )
    return chosen


def take_from_address(key: str, options: Mapping[str, str], default: str) -> None:
    """Give the widget `key` the value that the address names, else its last one in this session, else the default."""
    named, kept = st.query_params.get(key), st.session_state.get(f"kept {key}")
    value = named if named in options else kept if kept in options else default
    st.session_state[key] = st.session_state[f"kept {key}"] = value


def put_into_address(key: str) -> None:
    """Name the widget's value in the address, and keep it for this session."""
    st.query_params[key] = st.session_state[f"kept {key}"] = st.session_state[key]


def take_once(key: str) -> None:
    """Give the widget `key`, which keeps its value in the session, what the address names; once, so that it can be changed afterwards."""
    named, taken = st.query_params.get(key), f"taken {key}"
    if named is not None and st.session_state.get(taken) != named:
        st.session_state[key] = st.session_state[taken] = named


def impossible_number() -> str | None:
    """The name of a number in the address that no setting can have: Streamlit's own widgets break down at infinity (1.67)."""
    for key, text in st.query_params.to_dict().items():
        with suppress(ValueError):
            number = float(text)
            if key not in NAMES and not (math.isfinite(number) and abs(number) <= LARGEST):
                return key
    return None
