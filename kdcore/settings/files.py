"""Settings as YAML: in, out unchanged, and wrong values named with how to fix them."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from kdcore.errors import SettingsError
from kdcore.files import write_text
from kdcore.reading import MOST_YAML_BYTES, ReadingError, parse_yaml, read_bytes
from kdcore.settings.data import SPLITS
from kdcore.settings.fields import Frozen, Settings, validate

BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Names stay as they are written: a scene called 007 is '007', a class called no is 'no'.

    Raises:
        SettingsError: the file is missing, not UTF-8, no YAML, or not a mapping.
    """
    text = read_utf8(path)
    try:
        values, written = parse_yaml(text, path), yaml.load(text, Loader=BaseLoader)
    except ReadingError as error:
        tabs = next((number for number, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)), None)
        if tabs is not None and isinstance(error.__cause__, yaml.YAMLError):
            raise SettingsError(
                f"{path}: line {tabs} begins with a tab; YAML wants spaces. Replace tabs by spaces."
            ) from error
        raise SettingsError(str(error)) from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: should hold `key: value` lines, but holds {type(values).__name__}.")
    found: dict[str, Any] = as_written(values, written, path)
    return found


def read_utf8(path: Path) -> str:
    """The text of a file; Windows' mark at the beginning (BOM) is left out.

    Raises:
        SettingsError: the file is missing or in another encoding.
    """
    try:
        data = read_bytes(path, MOST_YAML_BYTES)
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such file.") from error
    except ReadingError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(f"{path}: could not be read ({error}).") from error
    except UnicodeDecodeError as error:
        start = data[:2]
        kind = "UTF-16" if start in (b"\xff\xfe", b"\xfe\xff") else "an older encoding, such as Windows-1252"
        raise SettingsError(
            f"{path}: is saved in {kind}, not in UTF-8. Open it in your editor and save it with the encoding UTF-8."
        ) from error


def as_written(value: Any, written: Any, where: Path, key: str = "") -> Any:
    """Take back what YAML made of names: numbers, dates, yes and no.

    Args:
        value: as YAML reads it.
        written: the same as text.
        where: the file, for the message.
        key: what it is the value of.

    Raises:
        SettingsError: a colour without quotes, which YAML takes for a comment.
    """
    if isinstance(value, dict):
        if "colour" in value and value["colour"] is None:
            raise SettingsError(
                f"{where}: `colour:` is empty; '#' begins a comment in YAML. Write it in quotes: colour: '#D55E00'."
            )
        if "<<" in written:  # keys merged from elsewhere stay as YAML reads them
            return value
        # The same keys in the same order; some may be read as numbers.
        return {
            name: as_written(entry, text, where, str(name))
            for (name, entry), text in zip(value.items(), written.values(), strict=True)
        }
    if isinstance(value, list):
        return [as_written(entry, text, where, f"{key}[]") for entry, text in zip(value, written, strict=True)]
    single = (key == "name" and written) or (key in ("class_field", "image_field") and value is not None)
    return written if single or key in tuple(f"{name}[]" for name in SPLITS) else value


def load(kind: type[Settings], path: Path) -> Settings:
    """Read settings of `kind` from a YAML file."""
    return validate(kind, read_yaml(path), str(path))


def save(settings: Frozen, path: Path) -> None:
    """Write settings as YAML that `load` gives back unchanged."""
    write_text(path, to_yaml(settings))


def to_yaml(settings: Frozen) -> str:
    """The settings as YAML text; defaults are written out, empty values left away."""
    return yaml.safe_dump(
        settings.model_dump(mode="json", exclude_none=True), sort_keys=False, width=120, allow_unicode=True
    )


def fingerprint(*parts: Any) -> str:
    """A short hash that changes when any of `parts` (settings or JSON values) changes."""
    plain = [part.model_dump(mode="json") if isinstance(part, Frozen) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
