"""Power, from counters that are written by hand."""

import pytest

from kdcore.deploy import power
from kdcore.deploy.power import Meter


@pytest.fixture
def package(tmp_path):
    def make(name, microjoules):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text("1000000000\n")

    return make


def test_energy_over_time(tmp_path, package, monkeypatch):
    times = iter([0.0, 2.0, 10.0, 12.0])
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(times))
    package("intel-rapl:0", 5_000_000)
    package("intel-rapl:0:0", 0)  # a part of the first, which would be counted twice
    meter = Meter("cpu", tmp_path)
    assert meter.watts is None
    meter.begin()
    package("intel-rapl:0", 45_000_000)  # 40 J in 2 s
    package("intel-rapl:0:0", 30_000_000)
    meter.end()
    assert meter.watts == 20
    meter.begin()
    package("intel-rapl:0", 65_000_000)  # 20 J in 2 s; what lies between the intervals does not count
    meter.end()
    assert meter.watts == 15


def test_a_counter_that_starts_again(tmp_path, package, monkeypatch):
    times = iter([0.0, 1.0])
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(times))
    package("intel-rapl:0", 995_000_000)
    meter = Meter("cpu", tmp_path)
    meter.begin()
    package("intel-rapl:0", 5_000_000)
    meter.end()
    assert meter.watts == 10


def test_a_machine_that_does_not_tell(tmp_path, monkeypatch):
    meter = Meter("cpu", tmp_path / "nowhere")
    meter.begin()
    meter.end()
    assert meter.watts is None
    monkeypatch.setattr(power.shutil, "which", lambda name: None)
    meter = Meter("cuda")
    meter.begin()
    meter.end()
    assert meter.watts is None


def test_a_gpu_is_asked(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 312.5\n")
    tool.chmod(0o755)
    monkeypatch.setattr(power.shutil, "which", lambda name: str(tool))
    meter = Meter("cuda")
    meter.begin()
    meter.end()
    assert meter.watts == 312.5
    tool.write_text("#!/bin/sh\necho '[N/A]'\n")
    assert power.gpu_watts() == []
