"""The sweeps of a workspace: make, find, extend, confirm and delete them. Never imports torch."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from kdcore.errors import RunError
from kdcore.files import explain_write_error
from kdcore.runs.locks import TakenError, holding
from kdcore.runs.naming import appear, clean_title, hide, once, remove_hidden
from kdcore.runs.study_folder import About
from kdcore.runs.sweep_folder import SweepFolder
from kdcore.runs.workspace import Workspace
from kdcore.settings import SLUG, SweepSettings, validate

NEW = "new"  # in the address: the form; no sweep is called that


def create(
    workspace: Workspace,
    title: str,
    collection: Path | Literal["demo"],
    settings: SweepSettings,
    token: str,
    demo_seed: int = 0,
) -> SweepFolder:
    """Make a sweep's folder, once for each token.

    Args:
        workspace: where.
        title: any text; the folder's name is made from it.
        collection: a collection's folder or YAML file, or 'demo' for a procedural area.
        settings: of the sweep.
        token: of this launch, made when the form was shown: a second call with it gives the same sweep.
        demo_seed: of the procedural area.

    Raises:
        SettingsError: no title, a token that is no slug, or a database that cannot be used.
        RunError: the workspace cannot be written to, or the other call with this token failed.
    """
    area = workspace.areas / f"demo-{demo_seed}"
    about = About(
        title=clean_title(title, "sweep"),
        collection=area if collection == "demo" else Path(collection).expanduser().absolute(),
        demo=demo_seed if collection == "demo" else None,
        created=time.time(),
    )
    if settings.storage is not None:
        from kdcore.runs.sweep_storage import open_database

        open_database(settings.storage)  # a mistyped URL is told before anything is written

    def make() -> str:
        workspace.sweeps.mkdir(parents=True, exist_ok=True)
        return appear(
            workspace.sweeps, about.title, "sweep", (NEW,), lambda folder: SweepFolder.begin(folder, settings, about)
        ).name

    return SweepFolder(workspace.sweeps / once(workspace, token, make))


def find(workspace: Workspace, id: str) -> SweepFolder:
    """One sweep by its id.

    Raises:
        RunError: there is none.
    """
    sweep = SweepFolder(workspace.sweeps / id)
    if not SLUG.fullmatch(id) or not sweep.settings_file.is_file():
        raise RunError(f"{id[:100]!r}: there is no such sweep in {workspace.sweeps}.")
    return sweep


def change(sweep: SweepFolder, **changes: int) -> None:
    """Set `trials` or `confirm` of a sweep that does not run; its workers take them up when they are started again.

    Raises:
        SettingsError: a number that makes no sense.
        RunError: the sweep is running.
    """
    if sweep.alive:
        raise RunError(f"{sweep.id}: is running. Stop it, or wait until it has ended.")
    settings = validate(SweepSettings, sweep.settings.model_dump(mode="json") | changes, sweep.id)
    SweepFolder.begin(sweep.path, settings, sweep.about)


def delete(sweep: SweepFolder) -> None:
    """Remove a sweep with all its trials. What a database holds of it stays there.

    Raises:
        RunError: it is running.
        KdcoreError: the workspace cannot be written to.
    """
    running = f"{sweep.id}: is running. Stop it first."
    if sweep.alive:
        raise RunError(running)
    try:
        with ExitStack() as locks:  # so that no worker comes to life in it
            locks.enter_context(holding(sweep.path / "launch.lock", running))
            for index in sweep.workers():
                locks.enter_context(holding(sweep.worker_lock(index), running))
            hide(sweep.path)
    except TakenError as error:
        raise RunError(running) from error
    except OSError as error:
        raise explain_write_error(sweep.path, error) from error
    remove_hidden(sweep.path.parent)
