"""Measuring: who computes when, what is counted, and what becomes of a file that cannot be run."""

import json
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from kdcore.deploy import measure as measuring
from kdcore.deploy import profile
from kdcore.deploy.export import export_onnx
from kdcore.deploy.profile import Job, Size, engines_for, fastest, jobs_for, measure, network_size
from kdcore.deploy.record import EngineSpeed
from kdcore.errors import CheckpointError, SettingsError
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network, count_parameters
from tests.conftest import TINY

TILE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small checkpoint and an ONNX file of a network of the same kind."""
    folder = tmp_path_factory.mktemp("profile")
    network = build_network(TINY, 3, 1, [100.0] * 3, [50.0] * 3, seed=0).eval()
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(folder / "a.safetensors", network, info)
    export_onnx(folder / "a.safetensors", folder / "a.onnx", tile=TILE)
    return folder, network


def speed(engine, megapixels) -> EngineSpeed:
    return EngineSpeed(engine=engine, device="x", milliseconds=1, megapixels_per_second=megapixels, peak_mb=1)


def test_every_engine_is_measured_in_a_process_of_its_own(files, monkeypatch):
    folder, _ = files
    monkeypatch.setattr(profile, "ROUND_SECONDS", 0.05)
    jobs = [
        Job(folder / "a.safetensors", "torch"),
        Job(folder / "a.onnx", "onnxruntime"),
        Job(folder / "a.onnx", "openvino"),
    ]
    told = []
    ballast = np.ones(600_000_000 // 8)  # of this process, not of those that are measured
    measured = measure(jobs, tile=TILE, threads=1, progress=lambda done, total: told.append((done, total)))
    assert ballast.sum() > 0
    assert measured.failed == {}
    for job in jobs:
        found = measured.speeds[job]
        assert found.engine == job.engine
        assert found.milliseconds > 0
        assert found.megapixels_per_second == pytest.approx(TILE**2 / 1e3 / found.milliseconds, rel=0.02)
        assert found.peak_mb > 20
    in_torch, *others = (measured.speeds[job].peak_mb for job in jobs)
    assert max(others) < 600  # neither the ballast nor torch is in it
    assert max(others) < in_torch
    assert told[-1] == (profile.ROUNDS, profile.ROUNDS)
    assert told == sorted(told)


def test_an_onnx_file_is_measured_without_torch(files):
    folder, _ = files
    code = (
        "import io, sys; from kdcore.deploy import measure; sys.stdin = io.StringIO('2\\n');"
        f"measure.main([{str(folder / 'a.onnx')!r}, 'onnxruntime', 'cpu', '1', '64']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ready, times, peak = map(json.loads, done.stdout.splitlines())
    assert ready == {"ready": True, "pixels": TILE**2, "device": "cpu"}
    assert len(times["seconds"]) == 2
    assert peak["peak_bytes"] > 10e6


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "f32"), ("openvino-bf16", "bf16")])
def test_openvino_is_measured_in_the_precision_of_its_name(files, monkeypatch, engine, precision):
    folder, _ = files
    asked = []
    compiled = measuring.compile_network

    def compile_network(*given):
        asked.append(given[-1])
        return compiled(*given)

    monkeypatch.setattr(measuring, "compile_network", compile_network)
    run, size, device = measuring.open_run(folder / "a.onnx", engine, "cpu", 1, 512)
    run()
    assert (asked, size, device) == ([precision], TILE**2, "cpu")


def test_a_file_that_cannot_be_run_does_not_stop_the_others(files, tmp_path, monkeypatch):
    folder, _ = files
    monkeypatch.setattr(profile, "ROUND_SECONDS", 0.01)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    jobs = [Job(broken, "onnxruntime"), Job(folder / "a.onnx", "onnxruntime")]
    measured = measure(jobs, tile=TILE, threads=1)
    assert list(measured.speeds) == [jobs[1]]
    assert measured.failed[jobs[0]].startswith(f"{broken}: cannot be measured in onnxruntime (")


class Pretend:
    """A runner that writes down when it computes."""

    def __init__(self, job, order):
        self.job, self.order = job, order

    def run(self):
        self.order.append(self.job.path.name)
        if self.job.path.name == "dies":
            raise CheckpointError("dies: it ended")

    def finish(self):
        return speed(self.job.engine, 1)


@pytest.fixture
def order(monkeypatch):
    """Who was started and who computed, in order."""
    order = []

    @contextmanager
    def running(job, tile, threads):
        order.append(f"start {job.path.name}")
        yield Pretend(job, order)

    monkeypatch.setattr(profile, "running", running)
    monkeypatch.setattr(profile, "ROUNDS", 2)
    return order


def test_engines_take_turns(order, monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "free_memory", lambda: 1e12)
    measure([Job(tmp_path / name, "torch") for name in ("a", "b")])
    assert order == ["start a", "start b", "a", "b", "a", "b"]


def test_where_memory_is_short_fewer_live_at_once(order, monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "free_memory", lambda: 1e8)
    told = []
    measure([Job(tmp_path / name, "torch") for name in ("a", "b")], progress=lambda *args: told.append(args))
    assert order == ["start a", "a", "a", "start b", "b", "b"]
    assert told[-1] == (4, 4)


def test_one_that_ends_in_the_middle_is_told(order, monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "free_memory", lambda: 1e12)
    jobs = [Job(tmp_path / name, "torch") for name in ("dies", "b")]
    measured = measure(jobs)
    assert order == ["start dies", "start b", "dies", "b", "b"]
    assert measured.failed == {jobs[0]: "dies: it ended"}
    assert list(measured.speeds) == [jobs[1]]


def test_sizes_of_both_kinds_of_files(files):
    folder, network = files
    size = network_size(folder / "a.safetensors")
    assert size == Size(count_parameters(network), size.macs_per_pixel, (folder / "a.safetensors").stat().st_size / 1e6)
    again = network_size(folder / "a.onnx")
    assert again.macs_per_pixel == pytest.approx(size.macs_per_pixel)


def test_engines_that_fit_a_file(files, tmp_path):
    folder, _ = files
    assert engines_for(folder / "a.safetensors") == ["torch"]
    assert engines_for(folder / "a.onnx") == ["onnxruntime", "openvino"]
    assert engines_for(folder / "a.onnx", ["openvino", "torch"]) == ["openvino"]
    assert engines_for(folder / "a.onnx", ["openvino-bf16", "torch"]) == ["openvino-bf16"]  # only where it is named
    with pytest.raises(SettingsError, match="is run by onnxruntime, openvino, openvino-bf16, but torch was asked for"):
        engines_for(folder / "a.onnx", ["torch"])
    on_cpu = [job for job in jobs_for(folder / "a.onnx") if job.device == "cpu"]
    assert [job.engine for job in on_cpu] == ["onnxruntime", "openvino"]


def test_the_fastest_comes_first():
    speeds = [speed("torch", 1.0), speed("openvino", 3.0), speed("onnxruntime", 2.0)]
    assert [each.engine for each in fastest(speeds)] == ["openvino", "onnxruntime", "torch"]
    assert fastest([]) == []
