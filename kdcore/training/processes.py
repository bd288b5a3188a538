"""One run in several processes: progress comes back to the parent, a wish to stop goes to the children, errors stay sentences."""

import multiprocessing
import queue
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from kdcore.errors import KdcoreError, RunError
from kdcore.jobs.progress import Progress, Report

Work = Callable[[Fabric, Any, Report, Callable[[], bool]], None]

ASK_EVERY = 10  # steps between agreements to stop: each one makes all processes wait for each other
GPU_FULL = "the GPU's memory is full. Lower batch_size or crop, or use precision bf16-mixed."


def launch(fabric: Fabric, work: Work, run: Any, report: Report, should_stop: Callable[[], bool]) -> None:
    """Do `work(fabric, run, report, should_stop)` here, or in as many new processes as `fabric` wants.

    Args:
        fabric: not launched yet.
        work: a function of a module; it and `run` are sent to the processes.
        run: what to work on.
        report: is told what happens, always in this process.
        should_stop: asked in this process.

    Raises:
        KdcoreError: what the work raised, in whichever process.
    """
    if fabric.world_size == 1:
        fabric.launch()
        work(fabric, run, report, should_stop)
        return
    context = multiprocessing.get_context("spawn")
    messages, stop, ended = context.Queue(), context.Event(), threading.Event()
    failures: list[KdcoreError] = []

    def listen() -> None:
        while True:
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                if ended.is_set():
                    return
            else:
                if isinstance(message, KdcoreError):
                    failures.append(message)
                else:
                    report(message)
            if should_stop():
                stop.set()

    listener = threading.Thread(target=listen, name="listener", daemon=True)
    listener.start()
    try:
        fabric.launch(partial(work_in_child, work=work, run=run, messages=messages, stop=stop))
    except ProcessRaisedException as error:
        ended.set()
        listener.join()
        if failures:
            raise failures[0] from error
        raise
    except ProcessExitedException as error:
        raise RunError(
            f"process {error.error_index} of {fabric.world_size} was ended by the system ({error}), most often for want of memory. "
            "Lower batch_size, crop or devices, then resume."
        ) from error
    finally:
        ended.set()
        listener.join()


def work_in_child(fabric: Fabric, work: Work, run: Any, messages: "Queue[Any]", stop: Event) -> None:
    """What each of several processes does."""
    asked = 0

    def agreed_to_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked % ASK_EVERY == 0 and bool(fabric.broadcast(stop.is_set()))

    def report(progress: Progress) -> None:
        if fabric.is_global_zero:
            messages.put(progress)

    try:
        work(fabric, run, report, agreed_to_stop)
    except KdcoreError as error:
        messages.put(error)
        raise
    except torch.OutOfMemoryError as error:
        messages.put(RunError(GPU_FULL))
        raise RunError(GPU_FULL) from error
