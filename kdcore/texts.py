"""Names of strangers as they may be shown."""

import re
from typing import Any

# Marks that turn the direction of writing (a name could pose as another one), and control characters; tab and line end stay.
UNSEEN = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """A text without control characters and without marks that turn the direction of writing; letters of every script stay."""
    return UNSEEN.sub("", text)


def visible_all(value: Any) -> Any:
    """Likewise for every text and key in a JSON value."""
    if isinstance(value, dict):
        return {visible(str(key)): visible_all(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [visible_all(entry) for entry in value]
    return visible(value) if isinstance(value, str) else value
