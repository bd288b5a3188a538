"""Runs cases of the corpus, each through the real command in a process of its own with limits; prints what came of each as JSON.

    python -m tests.hostile.nursery FOLDER [NAME ...]    (or -, and a list of names as JSON on standard input)

The libraries are imported once; every case is a fork of this process, so that it costs what the command costs without its imports.
A case may take 10 s of processor time and 60 s by the clock (other programs may keep the machine busy) and 1.5 GiB of resident
memory; it may write into its output folder only, and ask nobody. Addresses in the corpus name a port that this process listens on,
which counts whoever comes, and Python's own sockets refuse.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.hostile.corpus import CASES, Case
from tests.hostile.corpus.place import Place, make_base

SECONDS, BY_THE_CLOCK = 10.0, 60.0
BYTES = 1.5 * 2**30
ADDRESS_SPACE = 12 * 2**30  # so that one case does not end the machine before it is noticed
LONGEST = 1500  # letters of a sentence
NOBODY = 65534
STRANGE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)  # what moves a cursor or turns text around


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        came: 'works', 'refused', 'traceback', 'hang', 'overrun', 'unclear' (refused without one clear sentence).
        right: whether that is what is right, nobody was asked and nothing was written elsewhere.
        sentence: the error or the problems, or the end of what was printed.
        seconds, cpu, megabytes: taken; by the clock, of the processor, resident at most.
        requests: who was asked.
        written: what was changed outside of the output folder.
    """

    name: str
    door: str
    kind: str
    came: str
    right: bool
    sentence: str
    seconds: float
    cpu: float
    megabytes: float
    requests: int
    written: list[str]


class Listener:
    """A port of this machine that counts whoever comes."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.count = 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Count and hang up."""
        while True:
            try:
                self.socket.accept()[0].close()
            except OSError:
                return
            self.count += 1


def preload() -> None:
    """Import what the commands import."""
    import encodings.utf_8_sig  # noqa: F401 - for those who may not read the library any more

    import geopandas  # noqa: F401
    import httpx  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import rasterio.features  # noqa: F401
    import starlette.testclient  # noqa: F401
    import torch

    import kdcore.cli
    import kdcore.data.inspect
    import kdcore.deploy.export
    import kdcore.inference.parts
    import kdcore.server.routes
    import kdcore.training.worker  # noqa: F401

    torch.set_num_threads(1)


def perform(case: Case, place: Place) -> int:
    """In the child: do it; the exit code."""
    asked = case.make(place)
    before = listing(place.folder)
    (place.out / ".before").write_text(json.dumps({"files": before, "cpu": time.process_time()}))
    if case.user:
        for path in (place.out, *place.out.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    refuse_sockets(place.out / ".requests")
    os.environ["KDCORE_WORKSPACE"] = str(place.folder / "studies")
    if callable(asked):
        return call(asked)
    from kdcore.cli import app

    try:
        app([*case.door.split(), *map(str, asked)], prog_name="kdcore")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def call(function: Callable[[], object]) -> int:
    """A function behind a page, with its errors as the page shows them."""
    from kdcore.errors import KdcoreError

    try:
        function()
    except KdcoreError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def refuse_sockets(record: Path) -> None:
    """No connection and no look-up by Python; each is noted."""
    connect = socket.socket.connect

    def refuse(*arguments: object, **_: object) -> None:
        with record.open("a") as file:
            file.write(f"{arguments[1:2] if isinstance(arguments[0], socket.socket) else arguments[:1]}\n")
        raise OSError("no network here")

    def connect_locally(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            refuse(self, address)
        connect(self, address)  # type: ignore[arg-type]

    socket.getaddrinfo = refuse  # type: ignore[assignment]
    socket.socket.connect = connect_locally  # type: ignore[method-assign]


def listing(folder: Path) -> dict[str, list[int]]:
    """Size and time of everything below a folder, pipes and links as they are."""
    found = {}
    for path in folder.rglob("*"):
        try:
            facts = path.lstat()
        except OSError:
            continue
        if not stat.S_ISDIR(facts.st_mode):
            found[repr(str(path.relative_to(folder)))] = [facts.st_size, facts.st_mtime_ns]
    return found


def child(case: Case, place: Place) -> None:
    """What the fork does; never returns."""
    code = 97
    try:
        os.setsid()
        writing = os.O_WRONLY | os.O_CREAT
        streams = ((os.devnull, os.O_RDONLY), (place.out / ".stdout", writing), (place.out / ".stderr", writing))
        for number, (name, flags) in enumerate(streams):
            os.dup2(os.open(name, flags, 0o666), number)
        sys.stdin = os.fdopen(0, "r", encoding="utf-8")
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
        os.environ |= {
            "HOME": str(place.out),
            "TMPDIR": str(place.out / ".tmp"),
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
        }
        os.chdir(place.out)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = perform(case, place)
    except BaseException:
        traceback.print_exc()
        code = 98
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                code = 99
        os._exit(code)


def memory_of(group: int) -> float:
    """Resident bytes of all processes of a session."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(f"/proc/{entry.name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == group:
                total = max(total, int(fields[21]) * resource.getpagesize())
    return total


def run(case: Case, folder: Path, base: Path, listener: Listener) -> Outcome:
    """Run one case and judge it."""
    place = Place(folder / "in", folder / "out", base, listener.address)
    for made in (place.folder, place.out, place.out / ".tmp"):
        made.mkdir(parents=True)
    if case.user:
        os.chmod(folder, 0o755)
    requests, began = listener.count, time.monotonic()
    process = os.fork()
    if process == 0:
        child(case, place)
    killed, peak, looked = "", 0.0, 0
    while True:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            break
        looked += 1
        if looked % 4 == 1:  # looking through all processes takes longer than most cases' work
            peak = max(peak, memory_of(process))
        if peak > BYTES:
            killed = "overrun"
        elif time.monotonic() - began > BY_THE_CLOCK:
            killed = "hang"
        if killed:
            end(process)
            done, status, usage = os.wait4(process, 0)
            break
        time.sleep(0.03)
    seconds = time.monotonic() - began
    end(process)  # what it left behind
    peak = max(peak, usage.ru_maxrss * 1024.0)
    return judge(
        case, place, killed, os.waitstatus_to_exitcode(status), usage, seconds, peak, listener.count - requests
    )


def end(group: int) -> None:
    """End all processes of a session."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def judge(
    case: Case,
    place: Place,
    killed: str,
    code: int,
    usage: resource.struct_rusage,
    seconds: float,
    peak: float,
    asked: int,
) -> Outcome:
    """What came of a case."""
    printed, errors = (text_of(place.out / name) for name in (".stdout", ".stderr"))
    made = json.loads(kept.read_text()) if (kept := place.out / ".before").exists() else {"files": {}, "cpu": 0.0}
    cpu = usage.ru_utime + usage.ru_stime - made["cpu"]
    requests = place.out / ".requests"
    asked += len(requests.read_text().splitlines()) if requests.exists() else 0
    came, sentence = came_of(case, killed, code, cpu, printed, errors)
    before, after = made["files"], listing(place.folder)
    written = [name for name in after if after[name] != before.get(name)] + [
        name for name in before if name not in after
    ]
    expected = ("works", "refused") if case.right == "either" else (case.right,)
    said = re.search(case.says, printed + errors) is not None
    right = came in expected and said and not asked and not written
    if came in expected and not said:
        sentence = f"[does not say {case.says}] {sentence}"
    return Outcome(
        name=f"{case.door}: {case.name}",
        door=case.door,
        kind=case.kind,
        came=came,
        right=right,
        sentence=sentence,
        seconds=round(seconds, 2),
        cpu=round(cpu, 2),
        megabytes=round(peak / 2**20),
        requests=asked,
        written=written,
    )


def text_of(path: Path) -> str:
    """What was printed into a file."""
    return path.read_text(errors="replace") if path.exists() else ""


def came_of(case: Case, killed: str, code: int, cpu: float, printed: str, errors: str) -> tuple[str, str]:
    """How it ended, and the sentence or the end of what was printed."""
    tail = (printed + errors)[-600:]
    if killed or cpu > SECONDS:
        return killed or "hang", tail
    if "Traceback (most recent call last)" in printed + errors or code not in (0, 1, 2):
        return "traceback", f"exit code {code}: {tail}"
    if case.door not in ("page", "tiles") and STRANGE.search(printed + errors):
        return "unclear", f"control characters: {tail!a}"
    if code:
        return refusal(printed, errors)
    problems = [line for line in printed.splitlines() if line.startswith("Problem:")]
    if case.door == "data inspect" and problems:
        long = [line for line in problems if len(line) > LONGEST + 100]
        return ("unclear" if long else "refused"), " / ".join(problems)[:600]
    return "works", tail


def refusal(printed: str, errors: str) -> tuple[str, str]:
    """Whether a refusal is one clear sentence: 'Error: ...' of a length that a person reads, or the command line's own box."""
    text = errors + printed
    usage = re.search(r"Invalid value.*?(?=\s*╰|\s*$)|Usage:.*", text, re.DOTALL)
    found = re.search(r"^Error: (.*)", text, re.MULTILINE | re.DOTALL)
    sentence = (found[1] if found else usage[0] if usage else text).strip()
    clear = bool(found or usage) and len(sentence) <= LONGEST + 100
    return ("refused" if clear else "unclear"), sentence[:600]


def run_all(cases: Iterable[Case], folder: Path, keep: bool = False) -> Iterator[Outcome]:
    """Run cases one after another."""
    preload()
    base = folder / "base"
    base.mkdir(parents=True)
    process = os.fork()  # torch and GDAL start threads when they are used, and this process must not have any
    if process == 0:
        make_base(base)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    listener = Listener()
    for number, case in enumerate(cases):
        place = folder / f"{number:04}"
        yield run(case, place, base, listener)
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def main(folder: Path, names: list[str]) -> None:
    """Run the named cases, all without names."""
    chosen = [CASES[name] for name in names] if names else list(CASES.values())
    for outcome in run_all(chosen, folder):
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.load(sys.stdin) if sys.argv[2:] == ["-"] else sys.argv[2:])
