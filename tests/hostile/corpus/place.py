"""What a case of the corpus is, and where its files are made."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import kdcore

EXAMPLE = Path(kdcore.__file__).parent / "example"
Right = Literal["works", "refused", "either"]
LONG = "9" * 6_000


@dataclass(frozen=True)
class Place:
    """Where a case lives.

    Attributes:
        folder: holds what a stranger sent; nothing may be written into it.
        out: the only folder that may be written to.
        base: sound files to build on (see `make_base`); never changed.
        address: of a listening port on this machine, 'http://127.0.0.1:PORT'; whoever asks it is counted.
    """

    folder: Path
    out: Path
    base: Path
    address: str

    def write(self, name: str, data: bytes | str) -> Path:
        """A file among the sent ones, replaced and not rewritten, since copies of sound files are links."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def copy(self, name: str, to: str | None = None) -> Path:
        """A sound file or folder of `base` among the sent ones."""
        source, target = self.base / name, self.folder / (to or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=os.link)
        else:
            shutil.copy(source, target)
        return target


Asked = list[str | Path] | Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One input that somebody sends.

    Attributes:
        name: short and unique.
        door: a command ('data inspect', 'predict', ...), 'upload', 'page' or 'tiles'.
        kind: what is wrong with it, for the table.
        make: makes the files; gives the command's arguments, or the function to call.
        right: 'works' (exit code 0; at 'data inspect' without a problem), 'refused' (a sentence), or 'either', where a change may be
            harmless as well as noticed.
        says: a regular expression that the answer must match.
        user: without the rights of root, which may read everything.
    """

    name: str
    door: str
    kind: str
    make: Callable[[Place], Asked]
    right: Right = "refused"
    says: str = ""
    user: bool = False


def make_base(base: Path) -> None:
    """Sound files: a collection, networks, rasters, a study."""
    from kdcore.models.checkpoint import CheckpointInfo, save_network
    from kdcore.models.networks import build_network
    from tests.conftest import TINY, paint, write_collection, write_raster
    from tests.onnx_files import write_pixelwise

    write_collection(base / "collection")
    names = ("land", "building", "water")
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=names)
    save_network(base / "net.safetensors", build_network(TINY, 3, 3, seed=0), info)
    yaml = "classes: {land: 0, building: 1, water: 2}\noutput: logits\n"
    write_pixelwise(base / "net.onnx", np.eye(3) / 50, yaml=yaml)
    rng = np.random.default_rng(1)
    image, labels = paint(rng, 96, 3)
    write_raster(base / "image.tif", image)
    write_raster(base / "mask.tif", labels)
    keep = ("maps", "layers", "checkpoints")
    shutil.copytree(EXAMPLE, base / "study", ignore=shutil.ignore_patterns(*keep))
    shutil.copytree(EXAMPLE, base / "whole")
