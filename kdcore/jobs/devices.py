"""Which devices of this machine a job may use, and the locks that give them to one job at a time. Never imports torch.

A waiting job costs 40 MB this way; with torch imported it would be most of a gigabyte.
"""

import os
import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from kdcore.errors import RunError, SettingsError
from kdcore.files import explain_write_error
from kdcore.settings import Hardware

Kind = Literal["cpu", "cuda"]
ALLOCATIONS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID")  # of Slurm, LSF and PBS


def host() -> str:
    """This machine's name, as part of a file's name: a workspace may be shared by several machines.

    Inside a scheduler's allocation its number belongs to it, for that has devices of its own: each may call its GPU number 0.
    """
    allocation = next((os.environ[name] for name in ALLOCATIONS if os.environ.get(name)), None)
    name = platform.node() if allocation is None else f"{platform.node()}-job-{allocation}"
    return re.sub(r"[^A-Za-z0-9.-]", "-", name) or "here"


def gpus() -> list[str]:
    """The GPUs that CUDA will show to a process started now, as `CUDA_VISIBLE_DEVICES` would name them."""
    if not torch_can_use_gpus():
        return []
    present = len([path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)])
    if not present and Path("/dev/dxg").exists():
        present = 1  # Windows Subsystem for Linux
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not present or chosen is None:
        return [str(index) for index in range(present)]
    names = [name.strip() for name in chosen.split(",")]
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))  # as CUDA reads it
    return names[:end]


@cache
def torch_can_use_gpus() -> bool:
    """Whether the installed torch was built with CUDA, told from its version."""
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def kind_of(hardware: Hardware) -> Kind:
    """What `device: auto` means on this machine."""
    if hardware.device == "auto":
        return "cuda" if gpus() else "cpu"
    return hardware.device


def jobs_per_device() -> int:
    """How many jobs may share a device: `KDCORE_JOBS_PER_DEVICE`, else one.

    Raises:
        SettingsError: the variable is no number from 1 up.
    """
    text = os.environ.get("KDCORE_JOBS_PER_DEVICE", "1")
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"KDCORE_JOBS_PER_DEVICE={text}: write a whole number from 1 up, or unset it.")
    return int(text)


@dataclass
class Devices:
    """Devices that are ours until `release`, or until this process dies."""

    kind: Kind
    ids: tuple[str, ...]
    locks: ExitStack

    @property
    def name(self) -> str:
        """'cpu', or 'cuda:0' and so on."""
        return "cpu" if self.kind == "cpu" else ", ".join(f"cuda:{index}" for index in self.ids)

    def show_only_these(self) -> None:
        """Hide other jobs' GPUs from CUDA; works only before torch looks for devices."""
        if self.kind == "cuda":
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.ids)

    def release(self) -> None:
        """Let the next job have them."""
        self.locks.close()


def take(folder: Path, hardware: Hardware) -> Devices | None:
    """Take what `hardware` asks for, all of it or nothing.

    Args:
        folder: where the locks of the devices lie.
        hardware: of the study.

    Returns:
        The devices, or None while other jobs use them.

    Raises:
        RunError: this machine does not have what is asked for.
        KdcoreError: the folder cannot be written to.
    """
    kind = kind_of(hardware)
    candidates: Sequence[str] = ("",) if kind == "cpu" else gpus()
    wanted = 1 if kind == "cpu" else hardware.devices
    if len(candidates) < wanted:
        raise RunError(
            f"the study asks for {wanted} GPU{'s' if wanted > 1 else ''}, but this machine shows {len(candidates) or 'none'}. "
            "Choose the device auto or cpu, or fewer devices."
        )
    locks = ExitStack()
    ids: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for candidate in candidates:
            if len(ids) < wanted and take_one(folder, f"{host()}-{kind}{candidate}", locks):
                ids.append(candidate)
    except OSError as error:
        locks.close()
        raise explain_write_error(folder, error) from error
    if len(ids) < wanted:
        locks.close()
        return None
    return Devices(kind, tuple(ids), locks)


def take_one(folder: Path, name: str, locks: ExitStack) -> bool:
    """Take one of a device's places, if one is free."""
    for place in range(jobs_per_device()):
        try:
            locks.enter_context(FileLock(folder / f"{name}-{place}.lock").acquire(timeout=0))
        except Timeout:
            continue
        return True
    return False
