"""Checkpoints: headers that lie, settings of giants, names that are addresses."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.corpus.place import Case, Place, Right

Change = Callable[[Place, bytes], bytes]
KIND = "checkpoints"


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def packed(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def header(change: Callable[[dict[str, Any]], Any]) -> Change:
    """The checkpoint with its header changed."""

    def make(place: Place, data: bytes) -> bytes:
        values, body = header_of(data)
        changed = change(values)
        return packed(values if changed is None else changed, body)

    return make


def settings(**values: Any) -> Change:
    """The checkpoint with its settings changed and the checksum left away, as a stranger would."""

    def change(head: dict[str, Any]) -> None:
        about = head["__metadata__"]
        held = json.loads(about["kdcore"])
        held["network"] |= values.pop("network", {})
        about.clear()
        about["kdcore"] = json.dumps(held | values)

    return header(change)


def tensor(head: dict[str, Any]) -> Any:
    return head[max((name for name in head if name != "__metadata__"), key=lambda name: head[name]["data_offsets"][1])]


def flipped(seed: int) -> Change:
    def change(place: Place, data: bytes) -> bytes:
        held, rng = bytearray(data), np.random.default_rng(seed)
        for at in rng.integers(0, len(data), 20):
            held[at] ^= int(rng.integers(1, 256))
        return bytes(held)

    return change


def bare(values: Any, tensors: bool = True) -> Change:
    """Metadata of any text."""
    return header(lambda head: head | {"__metadata__": values})


CHANGES: dict[str, Change] = {
    "an empty file": lambda place, data: b"",
    "7 bytes": lambda place, data: data[:7],
    "a header of 2**63 bytes": lambda place, data: struct.pack("<Q", 2**63) + data[8:],
    "a header of 10**12 bytes": lambda place, data: struct.pack("<Q", 10**12) + data[8:],
    "a header longer than the file": lambda place, data: struct.pack("<Q", len(data)) + data[8:],
    "a header of 0 bytes": lambda place, data: struct.pack("<Q", 0) + data[8:],
    "a header nested 100,000 deep": lambda place, data: packed(b"[" * 100_000, b""),
    "a header of 90 MB": lambda place, data: packed(b"{" + b" " * 90_000_000 + b"}", b""),
    "half a header": lambda place, data: data[:1000],
    "weights cut off": lambda place, data: data[:-10],
    "bytes behind the weights": lambda place, data: data + b"x" * 1000,
    "a kind of number that nobody knows": header(lambda head: tensor(head).update(dtype="F99")),
    "a shape of 10**18": header(lambda head: tensor(head).update(shape=[10**18])),
    "a shape whose product overflows": header(lambda head: tensor(head).update(shape=[2**32, 2**32])),
    "a shape below zero": header(lambda head: tensor(head).update(shape=[-1])),
    "offsets that overlap": header(lambda head: tensor(head).update(data_offsets=[0, tensor(head)["data_offsets"][1] - tensor(head)["data_offsets"][0]])),
    "offsets beyond the end": header(lambda head: tensor(head).update(data_offsets=[10**15, 10**15 + 4])),
    "offsets backwards": header(lambda head: tensor(head).update(data_offsets=tensor(head)["data_offsets"][::-1])),
    "100,000 more tensors": header(lambda head: head | {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}),
    "settings nested deeply": bare({"kdcore": "[" * 50_000}),
    "settings nested 500 deep": bare({"kdcore": '{"a":' * 500 + "1" + "}" * 500}),
    "settings with a number of 6,000 digits": bare({"kdcore": '{"bands": ' + "9" * 6_000 + "}"}),
    "settings of 70 MB": bare({"kdcore": '{"bands": "' + "9" * 70_000_000 + '"}'}),
    "settings that are null": bare({"kdcore": "null"}),
    "no settings": bare({"other": "x"}),
    "metadata of numbers": bare({"kdcore": 7}),
    "10**9 bands": settings(bands=10**9),
    "no bands": settings(bands=0),
    "100,000 classes": settings(classes=["x"] * 100_000),
    "a class with control characters": settings(classes=["a\x1b[31m\u202e", "b", "c"]),
    "band numbers of 300 digits": settings(band_numbers=[int("9" * 300)] * 3),
    "band numbers below zero": settings(band_numbers=[-1, -2, -3]),
    "a decoder of a million channels": settings(network={"decoder_channels": [10**6] * 3}),
    "a decoder of 10,000 steps": settings(network={"decoder_channels": [16] * 10_000}),
    "an encoder 10**9 deep": settings(network={"depth": 10**9}),
    "an encoder of a hub": settings(network={"encoder": "hf-hub:owner/x"}),
    "an encoder of a hub behind tu-": settings(network={"encoder": "tu-hf-hub:owner/x"}),
    "an encoder of a folder": settings(network={"encoder": "tu-local-dir:/etc"}),
    "an encoder that is a path": settings(network={"encoder": "tu-/etc/passwd"}),
    "an encoder of 6 GB": settings(network={"encoder": "tu-eva02_enormous_patch14_clip_224", "depth": 4, "decoder_channels": [16] * 4}),
    "weights of ImageNet": settings(network={"encoder": "resnet18", "weights": "imagenet"}),
    "an unknown architecture": settings(network={"architecture": "hf-hub:x"}),
    "a size of pixels of 1e-9 m": settings(metres_per_pixel=1e-9),
    "a size of pixels of no number": settings(metres_per_pixel=float("nan")),
    "a size of pixels below zero": settings(metres_per_pixel=-3.0),
    "values of a type that nobody knows": settings(dtype="float99"),
    "an unknown setting": settings(more=1),
    "a pickle": lambda place, data: b"\x80\x02cos\nsystem\nq\0X\2\0\0\0lsq\1\x85q\2Rq\3.",
    "a ZIP": lambda place, data: b"PK\3\4" + b"\0" * 100,
}  # fmt: skip
MAY_WORK = {"values of a type that nobody knows", "a class with control characters", "a size of pixels of 1e-9 m", "100,000 more tensors"}  # fmt: skip
LINKS = {"/dev/zero": "/dev/zero", "a pipe": "fifo", "a folder": "folder", "a link to itself": "itself"}


def changed(change: Change) -> Callable[[Place], Path]:
    return lambda place: place.write("net.safetensors", change(place, (place.base / "net.safetensors").read_bytes()))


def linked(target: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        path = place.folder / "net.safetensors"
        if target == "fifo":
            os.mkfifo(path)
        elif target == "folder":
            path.mkdir()
        else:
            path.symlink_to(path if target == "itself" else target)
        return path

    return make


DOORS: dict[str, Callable[[Place, Path], list[str | Path]]] = {
    "predict": lambda place, file: [file, place.base / "image.tif", "--out", place.out / "maps", "--tile", "128", "--device", "cpu"],
    "evaluate": lambda place, file: [file, place.base / "collection", "--device", "cpu"],
    "profile": lambda place, file: [file, "--tile", "64", "--threads", "1"],
    "export": lambda place, file: [file, place.out / "net.onnx", "--tile", "64"],
    "study": lambda place, file: [place.base / "collection", "--out", place.out / "study", "--teacher", file, "--steps", "1"],
}  # fmt: skip


def case(name: str, door: str, make: Callable[[Place], Path], right: Right = "refused") -> Case:
    name = f"teacher: {name}" if door == "study" else name
    return Case(name, door, KIND, lambda place: DOORS[door](place, make(place)), right)


def right_of(name: str) -> Right:
    return "either" if name in MAY_WORK else "refused"


NAMES = list(CHANGES)
OTHER_DOORS = ["evaluate", "profile", "export"]
CASES: list[Case] = [
    *(case(name, "predict", changed(change), right_of(name)) for name, change in CHANGES.items()),
    *(case(name, OTHER_DOORS[index % 3], changed(CHANGES[name]), right_of(name)) for index, name in enumerate(NAMES)),
    *(case(name, "study", changed(CHANGES[name])) for name in NAMES[::9] if name not in MAY_WORK),
    *(case(f"20 changed bytes, {seed}", "predict", changed(flipped(seed))) for seed in range(6)),
    *(case(f"{name} for a checkpoint", door, linked(target)) for index, (name, target) in enumerate(LINKS.items()) for door in ("predict", OTHER_DOORS[index % 3])),
    case("a sound checkpoint", "predict", changed(lambda place, data: data), "works"),
    case("a sound checkpoint", "evaluate", changed(lambda place, data: data), "works"),
    case("a sound checkpoint", "export", changed(lambda place, data: data), "works"),
]  # fmt: skip
