"""Several processes of one run: what is told, asked and raised comes through; `test_run.py` starts real ones."""

import time

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from kdcore.errors import RunError, TrainingDiverged
from kdcore.jobs.progress import Progress, Stage, ignore
from kdcore.training.processes import launch


class TwoProcesses:
    """Stands for Fabric: does the work of rank 0 here, and raises what Fabric raises for work that fails elsewhere."""

    world_size = 2
    is_global_zero = True

    def launch(self, work):
        try:
            work(self)
        except Exception as error:
            raise ProcessRaisedException(str(error), 0, 0) from None

    def broadcast(self, value):
        return value


def never() -> bool:
    return False


def test_progress_comes_back_in_order():
    told = []

    def work(fabric, run, report, should_stop):
        for step in range(5):
            report(Progress("one", Stage.TRAINING, step, 5))

    launch(TwoProcesses(), work, None, told.append, never)
    assert told == [Progress("one", Stage.TRAINING, step, 5) for step in range(5)]


def test_other_ranks_do_not_report():
    told = []
    fabric = TwoProcesses()
    fabric.is_global_zero = False

    launch(
        fabric,
        lambda fabric, run, report, should_stop: report(Progress("one", Stage.TRAINING, 1, 5)),
        None,
        told.append,
        never,
    )
    assert told == []


def test_a_wish_to_stop_reaches_the_work():
    steps = []

    def work(fabric, run, report, should_stop):
        while not should_stop():
            steps.append(1)
            report(Progress("one", Stage.TRAINING, len(steps), 1000))
            time.sleep(0.005)

    launch(TwoProcesses(), work, None, ignore, lambda: len(steps) >= 15)
    assert len(steps) % 10 == 9  # all processes look at the same steps, every tenth


def test_an_error_that_the_user_can_mend_stays_its_sentence():
    def work(fabric, run, report, should_stop):
        raise TrainingDiverged("Lower the learning rate.")

    with pytest.raises(TrainingDiverged, match=r"^Lower the learning rate\.$"):
        launch(TwoProcesses(), work, None, ignore, never)


def test_a_full_gpu_becomes_a_sentence():
    def work(fabric, run, report, should_stop):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match=r"GPU's memory is full\. Lower batch_size"):
        launch(TwoProcesses(), work, None, ignore, never)


def test_a_programming_error_is_not_hidden():
    def work(fabric, run, report, should_stop):
        raise ZeroDivisionError("division by zero")

    with pytest.raises(ProcessRaisedException, match="division by zero"):
        launch(TwoProcesses(), work, None, ignore, never)


def test_a_process_that_the_system_ended():
    class Killed(TwoProcesses):
        def launch(self, work):
            raise ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 0, -9, "SIGKILL")

    with pytest.raises(RunError, match=r"process 1 of 2 was ended by the system .*SIGKILL.*then resume"):
        launch(Killed(), lambda *everything: None, None, ignore, never)
