"""What a person says of a study or sweep: title, data, note, tags. Never imports torch."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from kdcore.reading import visible
from kdcore.settings import Frozen, Seconds

LONGEST_NOTE = 2000  # characters
LONGEST_TAG, MOST_TAGS = 40, 20

Tag = Annotated[str, Field(min_length=1, max_length=LONGEST_TAG)]


class About(Frozen):
    """What a person calls a study, and where its data come from: a collection's path, or the seed of a demo area."""

    title: str = Field(max_length=200)
    collection: Path | None = None
    demo: int | None = Field(default=None, ge=0)
    created: Seconds = 0.0
    archived: bool = False
    note: str = Field(default="", max_length=LONGEST_NOTE)
    tags: tuple[Tag, ...] = Field(default=(), max_length=MOST_TAGS)

    @field_validator("title", "note")
    @classmethod
    def _visible(cls, text: str) -> str:
        return visible(text)

    @field_validator("tags", mode="before")
    @classmethod
    def _tidy(cls, tags: object) -> object:
        """Without marks and spaces around them, each once, in order."""
        if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
            return tags
        return tuple(sorted({" ".join(visible(tag).split()) for tag in tags}))
