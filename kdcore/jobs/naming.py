"""Names of what is launched, and launching it once: a token for each launch, a free folder for each title. Never imports torch."""

import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.files import expanded, explain_write_error, remove_half_written, unfinished
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import NEW, RESERVED, VARIABLE, Workspace
from kdcore.settings import SLUG, StudySettings

TOKEN_DAYS = 2.0  # after which a launch's token is forgotten


def once(workspace: Workspace, token: str, make: Callable[[], str]) -> str:
    """Make something once for each token, and give its id; a second call with the token gives the same id.

    Args:
        workspace: that keeps the tokens.
        token: of this launch, made when the form was shown.
        make: makes it and gives its id.

    Raises:
        SettingsError: a token that is no slug.
        RunError: the workspace cannot be written to, or the other call with this token failed.
        KdcoreError: whatever `make` raises; the same token can then be used again.
    """
    if not SLUG.fullmatch(token):
        raise SettingsError(f"{token[:100]!r} is no usable token; use letters, digits, '.', '_' and '-'.")
    place = workspace.tokens / token
    try:
        forget_old_tokens(workspace.tokens)
        place.mkdir(parents=True)
    except FileExistsError:
        return id_of_token(place)
    except OSError as error:
        raise cannot_write(workspace, error) from error
    try:
        made = make()
        (place / made).touch()
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)  # so that the same form can be sent again
        if isinstance(error, OSError):
            raise cannot_write(workspace, error) from error
        raise
    return made


def id_of_token(place: Path) -> str:
    """What another call with the same token makes or made; it may take a moment."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        if names:
            return names[0]
        time.sleep(0.02)
    raise RunError("this launch was begun before and did not succeed. Reload the page and launch again.")


def forget_old_tokens(tokens: Path) -> None:
    """Remove tokens of long ago."""
    if not tokens.is_dir():
        return
    for place in tokens.iterdir():
        if time.time() - place.stat().st_mtime > TOKEN_DAYS * 86_400:
            shutil.rmtree(place, ignore_errors=True)


def appear(parent: Path, title: str, fallback: str, reserved: Collection[str], fill: Callable[[Path], object]) -> Path:
    """Make a folder under a hidden name, then give it the first free one: it appears whole or not at all.

    Args:
        parent: where.
        title: any text; the folder's name is made from it.
        fallback: the name where nothing of the title is left.
        reserved: names that are never given.
        fill: writes the folder.

    Returns:
        The folder.

    Raises:
        RunError: too many of that name.
        OSError: the folder cannot be written to.
    """
    remove_half_written(parent, below=False)
    with unfinished(parent) as place:
        hidden = place / "new"
        fill(hidden)
        slug = slug_of(title, fallback)
        for number in range(1, 10_000):
            name = slug if number == 1 else f"{slug}-{number}"
            target = parent / name
            if name in reserved or target.exists():
                continue
            try:
                hidden.rename(target)  # fails if another process was faster
            except OSError:
                if target.exists():
                    continue
                raise
            return target
    raise RunError(f"{parent}: holds too many folders called {slug}. Choose another title.")


def begin_study(out: Path, settings: StudySettings, about: About) -> StudyFolder:
    """Begin a study in a folder of a person's choice, or find it again.

    Raises:
        RunError: the dashboard would find something else by a new study's name, or the folder holds something else.
    """
    if out.name.lower() in RESERVED and not (out / "study.yaml").exists():
        raise RunError(f"{out}: the dashboard finds something else by the name {out.name!r}. Choose another folder.")
    return StudyFolder.begin(out, settings, about)


def create(
    workspace: Workspace,
    kind: Literal["study", "sweep"],
    title: str,
    collection: Path | Literal["demo"],
    token: str,
    demo_seed: int,
    begin: Callable[[Path, About], object],
) -> Path:
    """Make a folder of the workspace, once for each token.

    Args:
        workspace: where.
        kind: what lies in the folder.
        title: any text; the folder's name is made from it.
        collection: a collection's folder or YAML file, or 'demo' for a procedural area.
        token: of this launch, made when the form was shown: a second call with it gives the same folder.
        demo_seed: of the procedural area.
        begin: writes the folder; a person's words and the data are given to it.

    Returns:
        The folder.

    Raises:
        SettingsError: no title, or a token that is no slug.
        RunError: the workspace cannot be written to, or the other call with this token failed.
    """
    about = new_about(title, collection, demo_seed, kind)
    parent, reserved = (workspace.path, RESERVED) if kind == "study" else (workspace.sweeps, (NEW,))
    made = lambda: appear(parent, about.title, kind, reserved, lambda folder: begin(folder, about)).name  # noqa: E731
    return parent / once(workspace, token, made)


def new_about(title: str, collection: Path | Literal["demo"], demo_seed: int, what: str) -> About:
    """What a person calls something that is made now, and where its data come from.

    Args:
        title: any text.
        collection: a collection's folder or YAML file, or 'demo' for a procedural area.
        demo_seed: of the procedural area.
        what: is made, for a sentence.

    Raises:
        SettingsError: no title.
    """
    demo = collection == "demo"
    return About(
        title=clean_title(title, what),
        collection=None if demo else expanded(collection).absolute(),
        demo=demo_seed if demo else None,
        created=time.time(),
    )


def clean_title(title: str, what: str) -> str:
    """One line of at most 200 characters.

    Raises:
        SettingsError: nothing is left.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in title).split())[:200]
    if not line:
        raise SettingsError(f"the {what} needs a title. Write a few words that tell it from the others.")
    return line


def slug_of(title: str, fallback: str) -> str:
    """A title as a folder's name: 'Banepa, T = 4' becomes 'banepa-t-4'."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].rstrip("-") or fallback


def cannot_write(workspace: Workspace, error: OSError) -> KdcoreError:
    """Why the workspace could not be written, and the mend that fits a workspace."""
    if isinstance(error, PermissionError):
        return RunError(
            f"{workspace.path}: the workspace cannot be written to. Set {VARIABLE} to a folder of your own, then start again."
        )
    return explain_write_error(workspace.path, error)
