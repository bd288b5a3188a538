"""What all settings are: frozen, validated, and each field described once, for docs, command and pages alike."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from kdcore.errors import SettingsError

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
MOST_PROBLEMS = 20  # that are told at once


class Frozen(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _usual_numbers(cls, values: Any) -> Any:
        """No whole number beyond 64 bits, which arrays and files could not hold."""
        for key, value in values.items() if isinstance(values, Mapping) else ():
            for part in value if isinstance(value, list | tuple) else (value,):
                if isinstance(part, int) and abs(part) >= 2**63:
                    raise ValueError(
                        f"{str(key)[:60]}: a whole number of {len(str(abs(part)))} digits; at most 18 are used"
                    )
        return values


Seconds = Annotated[float, Field(ge=-1e11, le=1e11, allow_inf_nan=False)]
"""A time, or a moment since 1970, that a calendar has."""


class Described(Frozen):
    """Settings that people write: the string below a field is its description, for docs, command and pages."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # reading the source takes 3 ms a model


Settings = TypeVar("Settings", bound=Frozen)


def own_path(path: Path) -> Path:
    """A path with `~` replaced by a person's home folder."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(path)[:100]!r} names a home folder that is not there; write the whole path") from error


def check_slug(text: str) -> str:
    """Return `text` if it is safe as a file name and on a page: letters, digits, '.', '_' and '-'."""
    if not SLUG.fullmatch(text):
        raise ValueError(f"{text!r} is no usable name; use letters, digits, '.', '_' and '-' (at most 100)")
    return text


def validate(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Build settings of `kind` from plain values.

    Raises:
        SettingsError: names `where`, the field and what is wrong with it, for every problem found.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors()[:MOST_PROBLEMS]:
            field = ".".join(str(part)[:60] for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            found = "" if item["type"] in ("missing", "value_error") else f" (found {str(item['input'])[:60]!r})"
            if item["type"] == "extra_forbidden":
                message = "is not a setting; check its spelling in docs/settings.md"
            problems.append(f"{field + ': ' if field else ''}{message}{found}")
        more = error.error_count() - len(problems)
        problems += [f"and {more:,} more problems"] if more > 0 else []
        raise SettingsError(f"{where}: " + "; ".join(problems)) from error


def meaning(model: type[BaseModel], name: str) -> str:
    """What a field means, as its model says it: Markdown that docs/settings.md shows as it stands.

    Raises:
        ValueError: the field has no description.
    """
    text = model.model_fields[name].description
    if not text:
        raise ValueError(f"{model.__name__}.{name} has no description")
    return " ".join(text.split())


def sentence(model: type[BaseModel], name: str) -> str:
    """What a field means as a sentence without markup, for the help of a command or a widget."""
    text = LINK.sub(r"\1", meaning(model, name)).replace("`", "")
    return f"{text[0].upper()}{text[1:]}."


def limits(model: type[BaseModel], name: str) -> tuple[float, float]:
    """The lowest and the highest value of a field that has both.

    Raises:
        ValueError: it has no such end.
    """
    return bound(model.model_fields[name], "ge"), bound(model.model_fields[name], "le")


def bound(field: FieldInfo, sign: str) -> float:
    """One end of a field's range, by pydantic's name for it: 'ge' or 'le'."""
    ends: list[float] = [getattr(entry, sign) for entry in field.metadata if getattr(entry, sign, None) is not None]
    if not ends:
        raise ValueError(f"{field!r} has no {sign!r}")
    return ends[0]
