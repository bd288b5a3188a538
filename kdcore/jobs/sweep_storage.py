"""Where a sweep's trials are kept: Optuna's journal file in the sweep's folder, or a database. Imported only when trials are read.

The journal is guarded by a lock that the system releases when a process dies. Optuna's own lock file outlives a killed
process, and everybody then waits 30 s for it.
"""

import json
import re
import socket
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

from kdcore.errors import RunError, SettingsError, in_short
from kdcore.files import explain_write_error, is_full, is_read_only
from kdcore.jobs.small_files import size_of
from kdcore.settings import Objective, SweepSettings

ANSWER_SECONDS = 10.0  # that a database may take to answer
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
ASK_TO_CONNECT = ("psycopg2", "psycopg", "pymysql", "mysqldb")  # drivers that know `connect_timeout`
DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "quality": "maximize",
    "size": "minimize",
    "latency": "minimize",
}


class SystemLock:
    """What Optuna wants of a lock, held by the operating system; who takes it finds whole lines only.

    Where nothing can be written, nobody writes: it can be read without.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(journal.with_name(journal.name + ".lock"))

    def acquire(self) -> bool:
        """Wait until it is ours."""
        try:
            self.lock.acquire()
        except OSError as error:
            if not (is_read_only(error) or is_full(error)):
                raise
        else:
            cut_half_line(self.journal)
        return True

    def release(self) -> None:
        """Let the next one have it."""
        self.lock.release()


def open_study(journal: Path, name: str, settings: SweepSettings) -> optuna.Study:
    """The sweep's trials, as Optuna keeps them; begun if there are none.

    Args:
        journal: the file that is used without a database.
        name: of the sweep in the storage.
        settings: of the sweep.

    Raises:
        SettingsError: the database's URL cannot be used, or it does not answer.
        RunError: the journal is broken, or holds something else.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [DIRECTIONS[objective] for objective in settings.objectives]
    where = str(journal) if settings.storage is None else without_password(settings.storage)
    storage = open_journal(journal, name) if settings.storage is None else open_database(settings.storage)
    if name in optuna.get_all_study_names(storage):  # a look must write nothing
        study = optuna.load_study(study_name=name, storage=storage)
    else:
        try:
            study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        except OSError as error:
            raise explain_write_error(journal, error) from error
    found = [direction.name.lower() for direction in study.directions]
    if found != directions:
        raise RunError(
            f"{where}: holds a sweep with other objectives ({', '.join(found)}). It is left alone; choose another --out."
        )
    return study


def open_journal(file: Path, name: str) -> BaseStorage:
    """The journal file; a last line that a killed process left half written is cut off.

    Raises:
        RunError: it is no journal of this sweep.
    """
    lock = SystemLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        lock.release()
        storage = JournalStorage(JournalFileBackend(str(file), lock_obj=cast(JournalFileOpenLock, lock)))
        check_last_line(file)
        names = [study.study_name for study in storage.get_all_studies()]
    except OSError as error:
        raise explain_write_error(file, error) from error
    except Exception as error:  # a journal is replayed without checks, so anything can come out of a strange one
        raise RunError(
            f"{file}: cannot be read as a journal of Optuna {optuna.__version__} ({type(error).__name__}: {str(error)[:80]}). "
            "It is broken or of another version; begin again with another --out, or with the version that wrote it."
        ) from error
    if names and name not in names:
        raise RunError(
            f"{file}: is the journal of another sweep ({names[0][:60]}). Put this sweep's own journal back, or choose another --out."
        )
    return storage


def cut_half_line(file: Path) -> None:
    """Remove what a killed process left after the last line end; the next line would be glued to it."""
    if not size_of(file):
        return
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        if opened.read() == b"\n":
            return
        opened.seek(0)
        text = opened.read()
        whole = text.rfind(b"\n") + 1
        if whole or text.startswith(b"{"):  # else it is something else, and not ours to empty
            opened.truncate(whole)


def check_last_line(file: Path) -> None:
    """Optuna takes a broken last line for one that is being written, and trips over it later.

    Raises:
        ValueError: it is no JSON object.
    """
    for line in file.read_bytes().splitlines()[-1:]:
        if not isinstance(json.loads(line), dict):
            raise ValueError("no record of a trial")


def open_database(url: str) -> BaseStorage:
    """A database by its URL.

    Raises:
        SettingsError: it cannot be used, or does not answer within ten seconds.
    """
    shown = without_password(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"--storage {shown}: is no URL ({error}).") from error
    kind, _, driver = parts.scheme.partition("+")
    if "://" not in url or kind not in ("sqlite", *PORTS):
        raise SettingsError(
            f"--storage {shown}: is no database that a sweep can use. Write sqlite:///FILE, postgresql://USER@HOST/NAME or "
            "mysql://USER@HOST/NAME, or leave it away: the sweep's folder then holds a journal file."
        )
    options: dict[str, Any] = {}
    if kind != "sqlite":
        if host:
            check_answers(shown, host, port or PORTS[kind])
        if driver in ASK_TO_CONNECT or not driver:
            options["connect_args"] = {"connect_timeout": round(ANSWER_SECONDS)}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        missing = getattr(error, "name", None) or driver or kind
        text = str(error).split("\n")[0][:120]
        raise SettingsError(
            f"--storage {shown}: its driver is not installed ({missing if 'No module' in text else text}). "
            f"Install it beside kdcore, or leave --storage away."
        ) from error
    except Exception as error:
        reason = in_short(getattr(error, "orig", None) or error, 160)
        raise SettingsError(
            f"--storage {shown}: cannot be used ({without_password(reason)}). Check the URL and that the database answers."
        ) from error


def check_answers(shown: str, host: str, port: int) -> None:
    """Knock at the database's door: drivers wait minutes for a machine that is not there."""
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise SettingsError(
            f"--storage {shown}: {host} does not answer at port {port} ({error.strerror or error}). "
            "Check the URL and that the database runs, or leave --storage away."
        ) from error


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", url)
