"""Device, precision and processes of a training, and what its processes do together."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from kdcore.errors import SettingsError
from kdcore.inference.engines import choose_device
from kdcore.inference.evaluate import Share
from kdcore.training import processes
from kdcore.training.precision import choose_precision

ASK_EVERY = 10  # steps between agreements to stop on GPUs: each one waits for them


def make_fabric(device: str, devices: int, precision: Any, nodes: int = 1) -> Fabric:
    """Fabric for one process, or for this one of several, on CPUs or GPUs (DistributedDataParallel).

    What a scheduler's variables say of other tasks does not matter: torchrun's name the processes of a training.

    Args:
        device: auto, cpu or cuda.
        devices: processes on each machine.
        precision: of Fabric.
        nodes: machines.

    Raises:
        SettingsError: there is no such device here, or the processes have not been started.
    """
    wanted, here = devices * nodes, processes.processes_here()
    if wanted > 1 and processes.world() != wanted:
        raise SettingsError(
            f"hardware.devices x hardware.nodes is {wanted}, but the number of processes that were started is {processes.world()}. "
            "`kdcore study` starts them, and so does torchrun."
        )
    alone = wanted == 1
    if precision == "auto":
        precision = choose_precision(choose_device(device))
    if not alone:
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets in each process
    try:
        return Fabric(
            accelerator="auto" if device == "auto" else device,
            devices=1 if alone else here,
            num_nodes=1 if alone else wanted // here,
            strategy="auto" if alone else "ddp",
            precision=precision,
            plugins=[LightningEnvironment() if alone else TorchElasticEnvironment()],
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"device {device!r} cannot be used here ({reason}). Choose auto or cpu.") from error


def mean_over_ranks(fabric: Fabric, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Numbers of all processes' parts of a batch, averaged; waits for the device."""
    if fabric.world_size == 1:
        return {name: float(value.detach()) for name, value in terms.items()}
    values = torch.stack([value.detach().float() for value in terms.values()])
    return dict(zip(terms, fabric.all_reduce(values, reduce_op="mean").tolist(), strict=True))  # type: ignore[union-attr]


def agreeing(fabric: Fabric, should_stop: Callable[[], bool]) -> Callable[[], bool]:
    """Ask `should_stop` in rank 0 only, and let all processes stop after the same step."""
    if fabric.world_size == 1:
        return should_stop
    every = 1 if fabric.device.type == "cpu" else ASK_EVERY
    asked = 0

    def agreed() -> bool:
        nonlocal asked
        asked += 1
        if asked % every:
            return False
        wish = torch.tensor(int(fabric.is_global_zero and should_stop()), device=fabric.device)
        torch.distributed.broadcast(wish, 0)
        return bool(wish)

    return agreed


def align_buffers(fabric: Fabric, network: nn.Module) -> None:
    """Give each process rank 0's batch statistics: each has those of its own parts, and rank 0's are saved."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)


def share_of(fabric: Fabric) -> Share:
    """This process' share of a split that all score together."""
    if fabric.world_size == 1:
        return Share()

    def gather(value: Any) -> list[Any]:
        found: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(found, value)
        return found

    return Share(fabric.global_rank, fabric.world_size, gather)


def with_common_statistics(learner: nn.Module, fabric: Fabric) -> None:
    """Let batch norm take its statistics from the whole batch (SyncBatchNorm), in place.

    Raises:
        SettingsError: the processes compute on CPUs.
    """
    if fabric.device.type == "cpu":
        raise SettingsError(
            "hardware.sync_batch_norm: torch's SyncBatchNorm works on GPUs only. Leave it out, or choose the device cuda."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(learner)  # type: ignore[no-untyped-call]
