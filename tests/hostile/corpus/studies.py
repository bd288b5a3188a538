"""Studies that somebody sent: each of their files empty, half, garbage, of another shape, deep, or no file at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.corpus.place import LONG, Case, Place, Right

Damage = Callable[[Path], None]
KIND, ARRAYS = "files of a study", "scores and reports of a run"


def to(contents: bytes | str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())

    return damage


def half(path: Path) -> None:
    data = path.read_bytes() if path.exists() else b'{"a": 1'
    to(data[: len(data) // 2])(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(target: str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return damage


def forbidden(path: Path) -> None:
    data = path.read_bytes() if path.exists() else b"{}"
    to(data)(path)
    path.chmod(0)


def flipped(seed: int) -> Damage:
    def damage(path: Path) -> None:
        held, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for at in rng.integers(0, len(held), 20):
            held[at] ^= int(rng.integers(1, 256))
        to(bytes(held))(path)

    return damage


DAMAGES: dict[str, Damage] = {
    "empty": to(""),
    "half": half,
    "garbage": to(bytes(range(256)) * 20),
    "a list": to("[1, 2]"),
    "null": to("null"),
    "nested 100,000 deep": to("[" * 100_000),
    "nested 500 deep": to('{"a":' * 500 + "1" + "}" * 500),
    "a number of 6,000 digits": to('{"title": ' + LONG + ', "state": ' + LONG + "}"),
    "of another shape": to('{"title": [1], "state": {"a": 1}, "arms": 7, "runs": "x", "comparison": [], "classes": {}}'),
    "a folder": folder,
    "a pipe": pipe,
    "an endless device": link("/dev/zero"),
    "a link to itself": link("x"),
    "70 MB of blanks": to(" " * 70_000_000),
}  # fmt: skip
FILES = ("study.yaml", "about.json", "job.json", "data.json", "advantage.json", "report.json", "steps.json")
RUN_FILES = ("runs/alone-s0/status.json", "runs/alone-s0/settings.yaml", "runs/alone-s0/metrics.jsonl")
ARRAY_FILES = ("runs/alone-s0/scores.npz", "runs/alone-s0/scores-validation.npz", "runs/alone-s0/report.json")


def study(place: Place, name: str = "town", of: str = "study") -> Path:
    """A copy of the finished study in the workspace of the case."""
    return place.copy(of, f"studies/{name}")


def damaged(file: str, damage: Damage, *command: str) -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        path = study(place) / file
        damage(path)
        return [*command, "--workspace", place.folder / "studies"]

    return make


def reported(file: str, damage: Damage) -> Callable[[Place], list[str | Path]]:
    """The study lies in the output folder, since its report is written into it."""

    def make(place: Place) -> list[str | Path]:
        shutil.copytree(place.base / "study", place.out / "town", copy_function=os.link)
        damage(place.out / "town" / file)
        return [place.out / "town", "--overwrite"]

    return make


# The whole list stays usable whatever one study holds; `study.yaml` that is no file is no study.
def listed(file: str, name: str, damage: Damage) -> Case:
    return Case(f"{file} is {name}", "runs list", KIND, damaged(file, damage), "works", says="example" if name else "")


def shown(file: str, name: str, damage: Damage, right: Right) -> Case:
    return Case(f"{file} is {name}", "runs show", KIND, damaged(file, damage, "town"), right)


def named(name: bytes | str) -> Callable[[Place], list[str | Path]]:
    def make(place: Place) -> list[str | Path]:
        place.copy("study", os.fsdecode(b"studies/" + (name if isinstance(name, bytes) else name.encode())))
        return ["--workspace", place.folder / "studies"]

    return make


def titled(title: str) -> Callable[[Place], list[str | Path]]:
    import json

    def make(place: Place) -> list[str | Path]:
        to(json.dumps({"title": title, "demo": 0}))(study(place) / "about.json")
        return ["--workspace", place.folder / "studies"]

    return make


def npz(change: Callable[[dict[str, Any]], None]) -> Damage:
    """The arrays of a file, changed."""

    def damage(path: Path) -> None:
        with np.load(path) as held:
            arrays = {name: held[name] for name in held.files}
        change(arrays)
        path.unlink()
        np.savez(path, **arrays)

    return damage


def zip_bomb(path: Path) -> None:
    """The histograms replaced by 4 GB of zeros, which are a few megabytes of a ZIP."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                if name != "positives.npy":
                    member.write(data)
                    continue
                head = b"{'descr': '<u8', 'fortran_order': False, 'shape': (500000000,), }".ljust(117) + b"\n"
                member.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
                for _ in range(400):
                    member.write(bytes(10_000_000))


def pickled(path: Path) -> None:
    path.unlink()
    np.savez(path, counts=np.array([{"a": 1}], dtype=object))


ARRAY_DAMAGES: dict[str, Damage] = {
    **{name: DAMAGES[name] for name in ("empty", "half", "garbage", "a folder", "a pipe", "an endless device", "a link to itself")},
    "a ZIP of 4 GB of zeros": zip_bomb,
    "of Python's objects": pickled,
    "without arrays": npz(lambda arrays: arrays.clear()),
    "of arrays of one number": npz(lambda arrays: arrays.update({name: np.zeros(1) for name in arrays})),
    "of arrays of text": npz(lambda arrays: arrays.update({name: np.array(["x"]) for name in arrays})),
    "of arrays below zero": npz(lambda arrays: arrays.update({name: -np.abs(array) - 1 if array.dtype.kind in "iuf" else array for name, array in arrays.items()})),
    "of another number of tiles": npz(lambda arrays: arrays.update({name: array[:-1] if array.ndim else array for name, array in arrays.items()})),
}  # fmt: skip

CASES: list[Case] = [
    *(listed(file, name, damage) for file in FILES[:5] for name, damage in DAMAGES.items()),
    *(listed(file, name, DAMAGES[name]) for file in RUN_FILES for name in ("garbage", "of another shape", "nested 100,000 deep", "a pipe", "a folder")),
    *(shown(file, name, damage, "either") for file in FILES[1:] for name, damage in list(DAMAGES.items())[::2]),
    *(Case(f"report.json is {name}", "runs show", KIND, damaged("report.json", damage, "town"), "works", says=r"broken\n.*report\.json: ") for name, damage in list(DAMAGES.items())[1::2] if name != "null"),
    *(shown(file, name, damage, "either") for file in RUN_FILES for name, damage in list(DAMAGES.items())[1::3]),
    *(Case(f"{file} is {name}", "report", ARRAYS, reported(file, damage), "refused") for file in ARRAY_FILES[:1] for name, damage in ARRAY_DAMAGES.items()),
    *(Case(f"{file} is {name}", "report", ARRAYS, reported(file, damage), "refused") for file in ARRAY_FILES[1:2] for name, damage in list(ARRAY_DAMAGES.items())[::3]),
    *(Case(f"{ARRAY_FILES[2]} is {name}", "report", ARRAYS, reported(ARRAY_FILES[2], damage), "refused") for name, damage in list(DAMAGES.items())[::2]),
    *(Case(f"20 changed bytes of {file}, {seed}", "report", ARRAYS, reported(file, flipped(seed)), "either") for file in ARRAY_FILES[:1] for seed in range(5)),
    *(Case(f"20 changed bytes of report.json, {seed}", "runs show", KIND, damaged("report.json", flipped(seed), "town"), "either") for seed in range(5)),
    *(Case(f"{file} is {name}", "report", KIND, reported(file, DAMAGES[name]), right) for file, right in (("data.json", "refused"), ("study.yaml", "refused"), ("runs/alone-s0/settings.yaml", "either"), ("runs/alone-s0/status.json", "either")) for name in ("empty", "of another shape", "nested 500 deep", "a pipe")),
    Case("a study whose name is not UTF-8", "runs list", KIND, named(b"bad\xff"), "works"),
    Case("a study with a line break in its name", "runs list", KIND, named("a\nb"), "works"),
    Case("a study with control characters in its name", "runs list", KIND, named("a\x1b[31m"), "works"),
    Case("a study whose title is markup and control characters", "runs list", KIND, titled("[red]a\x1b[31m\u202eb[/nope]\n\x07"), "works"),
    Case("a study whose title has a lone surrogate", "runs list", KIND, titled("a\ud800b"), "works"),
    Case("a study that was made in the year 10**300", "runs list", KIND, damaged("about.json", to('{"title": "x", "demo": 0, "created": 1e300}')), "works"),
    Case("a study that was made without end", "runs list", KIND, damaged("about.json", to('{"title": "x", "demo": 0, "created": 1e999}')), "works"),
    Case("a study that was made at no time", "runs list", KIND, damaged("about.json", to('{"title": "x", "demo": 0, "created": NaN}')), "works"),
    Case("a study with seconds without end", "runs show", KIND, damaged("job.json", to('{"state": "running", "seconds": 1e999, "done": 5, "total": 0}'), "town"), "either"),
    Case("a run with steps of 6,000 digits", "runs show", KIND, damaged("runs/alone-s0/status.json", to('{"step": ' + LONG + "}"), "town"), "either"),
    Case("a run with seconds below zero", "runs show", KIND, damaged("runs/alone-s0/status.json", to('{"step": 5, "steps": 0, "seconds": -1e300, "elapsed": 1e999}'), "town"), "either"),
    Case("a name of 5,000 digits", "runs show", KIND, lambda place: [LONG[:5000], "--workspace", place.folder]),
    Case("a name that is a path", "runs show", KIND, lambda place: ["../../../etc/passwd", "--workspace", place.folder]),
    Case("a name from right to left", "runs show", KIND, lambda place: ["a\u202eb\x1b[31m", "--workspace", place.folder]),
    Case("a workspace that is a file", "runs list", KIND, lambda place: ["--workspace", place.write("x", "")]),
    Case("a workspace that is a link to itself", "runs list", KIND, lambda place: (link("w")(place.folder / "w"), ["--workspace", place.folder / "w"])[1]),
    Case("a workspace without the right to read", "runs list", KIND, lambda place: ((place.folder / "w").mkdir(mode=0), ["--workspace", place.folder / "w"])[1], user=True),
    Case("a study without the right to read", "runs list", KIND, damaged("about.json", forbidden), "works", user=True),
]  # fmt: skip
