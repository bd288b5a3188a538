"""The sweeps of a workspace: make, find, extend, confirm and delete them. Never imports torch."""

from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Literal

from kdcore.errors import RunError, SettingsError
from kdcore.files import explain_write_error
from kdcore.jobs import naming, slurm
from kdcore.jobs.devices import host
from kdcore.jobs.job import hide, remove_hidden
from kdcore.jobs.locks import TakenError, holding
from kdcore.jobs.study_folder import About
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import SLUG, SweepSettings, validate

MOST_WORKERS = 64


def create(
    workspace: Workspace,
    title: str,
    collection: Path | Literal["demo"],
    settings: SweepSettings,
    token: str,
    demo_seed: int = 0,
) -> SweepFolder:
    """Make a sweep's folder, once for each token; see `kdcore.jobs.naming.create`.

    Raises:
        SettingsError: also of a database that cannot be used.
    """
    if settings.storage is not None:
        from kdcore.jobs.sweep_storage import open_database

        open_database(settings.storage)  # a mistyped URL is told before anything is written

    def begin(folder: Path, about: About) -> None:
        if about.demo is not None:
            about = about.model_copy(update={"collection": workspace.areas / f"demo-{about.demo}"})
        SweepFolder.begin(folder, settings, about)

    return SweepFolder(naming.create(workspace, "sweep", title, collection, token, demo_seed, begin))


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


def start(sweep: SweepFolder, workers: int) -> list[int]:
    """Start as many workers as are missing on this machine; also resumes a sweep that was stopped or killed.

    Args:
        sweep: made by `create` or `SweepFolder.begin`.
        workers: how many there are to be here; those of other machines go on beside them.

    Returns:
        The indices of those that were started.

    Raises:
        SettingsError: an unreasonable number of workers.
        RunError: the sweep is still stopping, or no process could be started.
        KdcoreError: the storage cannot be used, or the folder cannot be written to.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise SettingsError(f"{workers} workers: give a number from 1 to {MOST_WORKERS}.")
    sweep.study()  # a storage that does not answer is told here, not by each worker
    with holding(sweep.path / "launch.lock", f"{sweep.id}: is being started by somebody else."):
        forget_stop(sweep)
        here = [index for index in sweep.alive if sweep.worker(index).status.host == host()]
        return [index for index in free_workers(sweep, workers - len(here)) if sweep.worker(index).start()]


def start_in_slurm(sweep: SweepFolder, tasks: int) -> None:
    """Submit as many workers; does nothing while some wait or run.

    Raises:
        SettingsError: Slurm is not offered, or refuses it.
        RunError: the sweep is still stopping.
        KdcoreError: the storage cannot be used.
    """
    sweep.study()
    about = sweep.about
    data = ["demo", "--demo-seed", str(about.demo)] if about.demo is not None else [str(sweep.collection)]
    with holding(sweep.path / "launch.lock", f"{sweep.id}: is being started by somebody else."):
        forget_stop(sweep)
        if not sweep.alive and not slurm.queued(sweep.path):
            slurm.start_array(sweep.path, ["sweep", *data, "--out", str(sweep.path)], tasks, sweep.log)


def forget_stop(sweep: SweepFolder) -> None:
    """An earlier wish to stop is not for the workers that come next.

    Raises:
        RunError: the sweep is still stopping.
    """
    if sweep.cancel_file.exists():
        if sweep.alive:
            raise RunError(f"{sweep.id}: is still saving its state. Start it again when it has stopped.")
        sweep.cancel_file.unlink(missing_ok=True)


def free_workers(sweep: SweepFolder, count: int) -> list[int]:
    """The first indices that no process has."""
    alive = set(sweep.alive)
    return list(islice((index for index in range(len(alive) + count) if index not in alive), max(0, count)))


def stop(sweep: SweepFolder) -> None:
    """Ask all workers to save their state and end; `start` goes on exactly there.

    Raises:
        RunError: none is running, or waits in a scheduler's queue.
    """
    waited, alive = slurm.cancel_waiting(sweep.path), sweep.alive
    if not alive:
        if waited:
            return
        raise RunError(f"{sweep.id}: no worker is running, so there is nothing to stop.")
    for index in alive:
        with suppress(RunError):  # it has just ended
            sweep.worker(index).stop()


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
                locks.enter_context(sweep.worker(index).working())
            hide(sweep.path)
    except TakenError as error:
        raise RunError(running) from error
    except OSError as error:
        raise explain_write_error(sweep.path, error) from error
    remove_hidden(sweep.path.parent)
