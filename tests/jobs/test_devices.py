import os
import re
import time

import pytest

from kdcore.errors import RunError, SettingsError
from kdcore.jobs import devices
from kdcore.jobs.devices import gpus, host, kind_of, take
from kdcore.jobs.launch import queue_position
from kdcore.jobs.status import Status
from kdcore.settings import Hardware
from tests.jobs.studies import put_study


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: ["0", "1"])


def test_one_job_at_a_time_has_the_processor(tmp_path):
    first = take(tmp_path, Hardware(device="cpu"))
    assert first.name == "cpu"
    assert take(tmp_path, Hardware(device="cpu")) is None
    first.release()
    second = take(tmp_path, Hardware(device="cpu"))
    assert second is not None
    second.release()


def test_allocations_have_devices_of_their_own(tmp_path, two_gpus, monkeypatch):
    """Two jobs of a scheduler on one machine, each of which sees its own GPU as number 0."""
    taken = []
    for number in ("41", "42"):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        for hardware in (Hardware(device="cpu"), Hardware(device="cuda", devices=2)):
            taken.append(take(tmp_path, hardware))
            assert take(tmp_path, hardware) is None
    assert [found.name for found in taken] == ["cpu", "cuda:0, cuda:1"] * 2
    for found in taken:
        found.release()


@pytest.mark.parametrize(
    ("variable", "value"), [("SLURM_JOB_ID", "7"), ("PBS_JOBID", "7.server/x"), ("LSB_JOBID", "7")]
)
def test_a_study_does_not_wait_behind_one_of_another_allocation(tmp_path, monkeypatch, variable, value):
    studies = [put_study(tmp_path / name) for name in ("first", "second")]
    monkeypatch.setattr(devices.platform, "node", lambda: "node 1")
    queued = {"state": "queued", "launched": time.time(), "device": "cpu"}
    studies[0].write_status(Status(queued=1.0, host=host(), **queued))
    studies[1].write_status(Status(queued=2.0, host=host(), **queued))
    assert queue_position(studies[1]) == 1
    monkeypatch.setenv(variable, value)
    assert re.fullmatch(r"node-1-job-7[A-Za-z0-9.-]*", host())
    studies[1].write_status(Status(queued=2.0, host=host(), **queued))
    assert queue_position(studies[1]) == 0


def test_several_jobs_share_a_device_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("KDCORE_JOBS_PER_DEVICE", "2")
    taken = [take(tmp_path, Hardware(device="cpu")) for _ in range(3)]
    assert [found is not None for found in taken] == [True, True, False]
    for found in taken[:2]:
        found.release()


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_a_number_of_jobs_that_is_none_is_told(tmp_path, monkeypatch, text):
    monkeypatch.setenv("KDCORE_JOBS_PER_DEVICE", text)
    with pytest.raises(SettingsError, match="KDCORE_JOBS_PER_DEVICE"):
        take(tmp_path, Hardware(device="cpu"))


def test_each_job_gets_a_gpu_of_its_own_and_sees_no_other(tmp_path, two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    first, second = take(tmp_path, Hardware()), take(tmp_path, Hardware())
    assert [first.name, second.name] == ["cuda:0", "cuda:1"]
    assert take(tmp_path, Hardware()) is None
    second.show_only_these()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    first.release()
    third = take(tmp_path, Hardware())
    assert third.name == "cuda:0"


def test_a_job_on_two_gpus_gets_both_or_none(tmp_path, two_gpus):
    one = take(tmp_path, Hardware())
    assert take(tmp_path, Hardware(devices=2)) is None
    one.release()
    both = take(tmp_path, Hardware(devices=2))  # nothing was kept by the failed try
    assert both.name == "cuda:0, cuda:1"


def test_more_gpus_than_there_are_is_a_sentence(tmp_path, two_gpus):
    with pytest.raises(RunError, match=r"asks for 3 GPUs, but this machine shows 2"):
        take(tmp_path, Hardware(devices=3))


def test_a_gpu_where_there_is_none_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    with pytest.raises(RunError, match=r"asks for 1 GPU, but this machine shows none\. Choose the device auto or cpu"):
        take(tmp_path, Hardware(device="cuda"))


@pytest.mark.parametrize(
    ("present", "variable", "shown"),
    [
        (2, None, ["0", "1"]),
        (2, "1", ["1"]),
        (2, "", []),
        (2, "1,-1,0", ["1"]),  # CUDA reads up to the first that is none
        (4, "GPU-5f2c, GPU-77aa", ["GPU-5f2c", "GPU-77aa"]),
        (0, "0", []),
    ],
)
def test_gpus_are_those_that_cuda_will_show(monkeypatch, present, variable, shown):
    names = [f"nvidia{index}" for index in range(present)] + ["nvidiactl", "nvidia-uvm"]
    monkeypatch.setattr(devices.Path, "glob", lambda self, pattern: [self / name for name in names])
    monkeypatch.setattr(devices, "torch_can_use_gpus", lambda: True)
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert gpus() == shown


def test_auto_means_what_the_machine_has(monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    assert kind_of(Hardware()) == "cpu"
    monkeypatch.setattr(devices, "gpus", lambda: ["0"])
    assert kind_of(Hardware()) == "cuda"
    assert kind_of(Hardware(device="cpu")) == "cpu"


def test_a_torch_without_cuda_uses_no_gpu(monkeypatch):
    monkeypatch.setattr(devices, "version", lambda name: "2.14.1+cpu")
    assert gpus() == []
