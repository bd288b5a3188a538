"""A study's process, with real trainings of seconds."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.jobs import launch
from kdcore.jobs.devices import take
from kdcore.jobs.job import ALREADY_WORKED_ON
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.worker import STOPPED, main
from kdcore.jobs.workspace import Workspace
from kdcore.settings import Budget, Hardware, Recipe, RunSettings, TeacherSettings
from kdcore.training import worker
from kdcore.training.study import reuse_teacher
from kdcore.training.worker import work
from kdcore.ui.stages import message_of
from tests.conftest import TINY
from tests.disks import mounted, small_disk
from tests.jobs.studies import BUDGET, processes_of, tiny_study, wait_for, workspace_at

ROOT = Path(__file__).parents[2]
LONG = Budget(steps=120, batch_size=2, crop=64, validate_every=60, save_every=15)


@pytest.fixture
def workspace(tmp_path):
    with workspace_at(tmp_path / "studies") as place:
        yield place


@pytest.fixture
def study(workspace, make_collection):
    return launch.create(workspace, "one", make_collection(), tiny_study(), "token")


def weights(study: StudyFolder) -> dict[str, dict]:
    """Best weights of every run; of the students also weights and optimiser at the last step (a reused teacher has none)."""
    runs = study.runs()
    states = [run.state for run in runs if run.settings.arm != "teacher"]
    return {str(file.relative_to(study.path)): load_file(file) for file in [run.best for run in runs] + states}


def assert_same_weights(first: StudyFolder, second: StudyFolder) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].keys() == other[name].keys()
        for key in one[name]:
            assert (one[name][key] == other[name][key]).all(), f"{name}: {key}"


class TestItsProcess:
    @pytest.mark.slow  # three processes import torch, which takes several seconds each
    def test_outlives_the_server_and_sigkill_and_takes_its_turn(self, workspace, make_collection):
        """Two studies, launched by a server that is killed. The first one's worker is killed too, in mid-training; the second
        takes its turn; the first is resumed behind it. Both are the same study, so they must end with the same weights.
        """
        collection = make_collection()
        settings = tiny_study(budget=LONG, teacher=TeacherSettings(network=TINY, budget=BUDGET))
        code = textwrap.dedent(f"""
            import os, signal
            from pathlib import Path
            from kdcore.jobs import launch
            from kdcore.jobs.workspace import Workspace
            from kdcore.settings import StudySettings
            settings = StudySettings.model_validate_json({settings.model_dump_json()!r})
            for name in ("first", "second"):
                study = launch.create(Workspace(Path({str(workspace.path)!r})), name, Path({str(collection)!r}), settings, name)
                study.start()
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
        first, second = workspace.study("first"), workspace.study("second")

        # A study that waits has not imported torch, and knows its place.
        wait_for(lambda: first.state == "running" and second.job.stage is Stage.WAITING)
        assert launch.queue_position(second) == 0
        (waiting,) = processes_of(second)
        assert "torch" not in Path(f"/proc/{waiting}/maps").read_text()
        assert resident_megabytes(waiting) < 100

        wait_for(lambda: first.progress().runs[1].step >= 30)  # the student alone is in mid-training
        (worker_of_first,) = processes_of(first)
        os.kill(worker_of_first, signal.SIGKILL)
        killed = time.time()
        wait_for(lambda: first.state == "interrupted")
        assert 30 <= first.progress().runs[1].step < 120
        first.resume()
        assert first.state == "queued"

        wait_for(lambda: second.finished)
        wait_for(lambda: first.finished)
        assert second.job.started >= killed
        # Not the end of the second job: it is written once its device is free again.
        assert first.job.started >= (second.path / "report.json").stat().st_mtime
        assert_same_weights(first, second)
        assert first.report()["arms"]["distilled"]["mean_ap"] == second.report()["arms"]["distilled"]["mean_ap"]
        assert all(study.page.exists() and (study.layers / "layers.json").exists() for study in (first, second))
        progress = first.progress()
        assert progress.step == progress.steps


def resident_megabytes(process: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) / 1024


class TestStopping:
    def test_while_it_trains_and_resuming_ends_with_the_same_weights(self, workspace, make_collection):
        undisturbed = launch.create(workspace, "undisturbed", make_collection(), tiny_study(), "other")
        work(undisturbed)
        study = launch.create(workspace, "one", undisturbed.collection, tiny_study(), "token")  # else it would be first

        def press_stop(progress: Progress) -> None:
            if (progress.run, progress.stage, progress.done) == ("alone-s0", Stage.TRAINING, 1):
                study.stop()
                time.sleep(0.25)  # the cancel file is looked for five times a second

        with pytest.raises(Stopped):
            work(study, press_stop)
        assert (study.state, study.job.message) == ("stopped", STOPPED)
        assert study.progress().runs[1].state == "stopped"
        assert 1 <= study.progress().runs[1].step < 6
        assert not study.alive
        assert not study.cancel_file.exists()
        assert not study.finished

        report = work(study)
        assert report == study.report()
        assert study.finished
        assert_same_weights(study, undisturbed)

    def test_outside_of_a_training_takes_effect_at_once(self, study):
        def press_stop(progress: Progress) -> None:
            if (progress.run, progress.stage) == ("teacher-s0", Stage.SCORING_TEST):
                study.cancel_file.touch()
                time.sleep(0.25)

        stages = []
        with pytest.raises(Stopped):
            work(study, lambda told: (stages.append((told.run, told.stage)), press_stop(told)))
        assert stages[-1] == ("teacher-s0", Stage.SCORING_TEST)
        assert study.state == "stopped"
        work(study)
        assert study.finished

    def test_while_it_waits_needs_no_torch(self, workspace, study, monkeypatch):
        monkeypatch.setattr(worker, "compute", lambda *args: pytest.fail("it must not begin"))
        other_job = take(workspace.devices, Hardware())
        ended = []

        def wait() -> None:
            try:
                work(study)
            except Stopped as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_for(lambda: study.alive and study.job.stage is Stage.WAITING)
        assert (study.state, message_of(study.job)) == ("queued", "waits for cpu; it is next")
        study.stop()
        thread.join(300)
        assert ended
        assert study.state == "stopped"
        other_job.release()

    def test_before_its_process_lived_is_not_forgotten(self, study, monkeypatch):
        monkeypatch.setattr(worker, "compute", lambda *args: pytest.fail("it must not begin"))
        study.stop()  # a moment after the launch, while Python was still starting
        with pytest.raises(Stopped):
            work(study)
        assert study.state == "stopped"
        assert not study.cancel_file.exists()

    def test_a_terminal_that_starts_it_again_means_it(self, study, monkeypatch):
        monkeypatch.setattr(worker, "compute", lambda *args: {"all": "done"})
        study.stop()
        assert work(study, forget_stop=True) == {"all": "done"}

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_by_a_signal_saves_the_state_too(self, study, monkeypatch, number):
        before = signal.getsignal(number)

        def shut_down(study, devices, session):
            os.kill(os.getpid(), number)
            assert session.stop()
            raise Stopped("as run_study does")

        monkeypatch.setattr(worker, "compute", shut_down)
        with pytest.raises(Stopped):
            work(study)
        assert study.state == "stopped"
        assert signal.getsignal(number) is before

    def test_by_a_second_signal_is_at_once(self, study, monkeypatch):
        def never_looks(study, devices, session):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)

        monkeypatch.setattr(worker, "compute", never_looks)
        with pytest.raises(Stopped):
            work(study)
        assert study.state == "stopped"


def fill_up(file: Path) -> None:
    """Write until the disk is full."""
    with pytest.raises(OSError, match="No space"), file.open("wb", buffering=0) as opened:
        opened.writelines(itertools.repeat(b"x" * 4096))


class TestFailing:
    def test_on_what_the_user_can_mend_says_it(self, study):
        moved = study.collection.parent.rename(study.collection.parent.with_name("moved"))
        with pytest.raises(KdcoreError):
            work(study)
        assert study.state == "failed"
        assert "there is no such folder or file" in study.job.message
        moved.rename(study.collection.parent)
        work(study)  # and it can go on
        assert (study.state, study.job.message) == ("finished", "")

    def test_on_what_nobody_foresaw_says_what_and_keeps_the_traceback(self, study, monkeypatch):
        def surprise(*args):
            raise ZeroDivisionError("of the unforeseen kind")

        monkeypatch.setattr("kdcore.training.study.study_report", surprise)
        monkeypatch.setattr("kdcore.training.study.planned_runs", lambda settings, alone_steps: ())
        with pytest.raises(ZeroDivisionError):
            work(study)
        assert (study.state, study.job.message) == ("failed", "ZeroDivisionError: of the unforeseen kind")
        assert "Traceback" in study.log_tail()
        assert "in surprise" in study.log_tail()
        assert not study.alive

    def test_on_a_full_disk_says_so_on_that_disk(self, tmp_path, make_collection):
        with small_disk(tmp_path / "disk", 8192) as disk:
            study = launch.create(Workspace(disk), "one", make_collection(), tiny_study(), "token")
            ballast = disk / "ballast"

            def fill(progress: Progress) -> None:
                if (progress.run, progress.stage) == ("teacher-s0", Stage.TRAINING) and not ballast.exists():
                    fill_up(ballast)

            with pytest.raises(KdcoreError, match="the disk is full"):
                work(study, fill)
            assert study.state == "failed"
            assert "the disk is full" in study.job.message
            ballast.unlink()
            assert mounted(disk, 65536)
            work(study)
            assert study.finished

    def test_on_a_gpu_that_torch_cannot_use_is_a_sentence(self, workspace, make_collection, monkeypatch):
        settings = tiny_study(hardware=Hardware(device="cuda"))
        monkeypatch.setattr("kdcore.jobs.devices.gpus", lambda: ["0"])
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        study = launch.create(workspace, "one", make_collection(), settings, "token")
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(RunError, match="asks for a GPU, but the installed torch"):
            work(study)
        assert study.state == "failed"


class TestItsProtocol:
    def test_says_what_it_does_at_most_twice_a_second(self, study, monkeypatch):
        written = []
        real = StudyFolder.write_status
        monkeypatch.setattr(
            StudyFolder, "write_status", lambda self, job: (written.append((time.monotonic(), job)), real(self, job))
        )

        def busy(study, devices, session):
            for step in range(1500):
                session.update(state="running", run="alone-s0", stage=Stage.TRAINING, done=step, total=1500)
                time.sleep(0.001)
            return {}

        monkeypatch.setattr(worker, "compute", busy)
        work(study)
        times = [when for when, job in written[1:-1]]  # the first and the last word are not held back
        assert len(times) >= 2
        assert min(b - a for a, b in pairwise(times)) > 0.45
        assert (written[1][1].run, written[1][1].stage) == ("alone-s0", Stage.TRAINING)
        assert (written[-1][1].state, written[-1][1].stage) == ("finished", None)

    def test_counts_the_time_that_it_works_over_all_resumptions(self, study, monkeypatch):
        def half_a_second(study, devices, session):
            session.update(state="running", started=time.time())
            time.sleep(0.5)
            return {}

        monkeypatch.setattr(worker, "compute", half_a_second)
        work(study)
        work(study)
        assert 1.0 <= study.job.seconds < 3.0
        assert study.job.ended >= study.job.started > study.job.queued

    def test_leaves_a_study_alone_that_another_process_works_on(self, study, monkeypatch):
        monkeypatch.setattr("kdcore.jobs.locks.PATIENCE", 0.05)
        before = study.job
        with study.working():
            assert main([study.KIND, str(study.path)]) == ALREADY_WORKED_ON
        assert study.job == before

    def test_makes_the_demo_area_that_is_asked_for(self, workspace, make_collection, monkeypatch):
        made = []

        def write_demo(folder, seed, report):
            made.append((folder, seed))
            report(Progress("", Stage.DEMO_AREA, 0, 1))
            return make_collection()

        monkeypatch.setattr("kdcore.data.demo.write_demo", write_demo)
        monkeypatch.setattr("kdcore.training.study.planned_runs", lambda settings, alone_steps: ())
        study = launch.create(workspace, "demo", "demo", tiny_study(), "token", demo_seed=4)
        with pytest.raises(RunError, match="is not finished"):  # there are no runs to report on
            work(study)
        assert made == [(workspace.areas / "demo-4", 4)]
        assert study.data["name"] == "small"


class TestReusingATeacher:
    @pytest.fixture
    def teacher(self, tmp_path):
        """Settings of a teacher, and a finished run of it in a study called 'first'."""
        settings = RunSettings(
            arm="teacher",
            seed=0,
            collection=tmp_path / "collection.yaml",
            network=TINY,
            recipe=Recipe(alpha=0),
            budget=BUDGET,
        )
        run = RunDirectory.create(tmp_path / "studies/first/runs/teacher-s0", settings)
        run.checkpoints.mkdir()
        run.best.write_text("weights")
        run.state.write_text("of the optimiser")
        run.report.write_text('{"data": "hash", "parameters": 1, "steps": 1, "seconds": 1.0}')
        return settings

    def reused(self, tmp_path: Path, settings: RunSettings, data: str = "hash") -> RunDirectory:
        reuse_teacher(tmp_path / "studies/second", "teacher-s0", settings, data)
        return RunDirectory(tmp_path / "studies/second/runs/teacher-s0")

    def test_copies_what_a_student_needs(self, tmp_path, teacher):
        run = self.reused(tmp_path, teacher)
        assert run.best.read_text() == "weights"
        assert run.settings == teacher
        assert not run.state.exists()
        assert [path.name for path in run.path.parent.iterdir()] == ["teacher-s0"]

    def test_needs_the_same_data_and_settings(self, tmp_path, teacher):
        assert not self.reused(tmp_path, teacher, "other data").path.exists()
        longer = teacher.model_copy(update={"budget": BUDGET.model_copy(update={"steps": 7})})
        assert not self.reused(tmp_path, longer).path.exists()

    def test_does_not_look_into_studies_that_are_being_deleted(self, tmp_path, teacher):
        (tmp_path / "studies/first").rename(tmp_path / "studies/.deleted-1")
        assert not self.reused(tmp_path, teacher).path.exists()

    def test_goes_on_without_one_that_vanishes_meanwhile(self, tmp_path, teacher, monkeypatch):
        def vanish(source, target, **options):
            shutil.rmtree(source)
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr("kdcore.training.study.shutil.copytree", vanish)
        assert not self.reused(tmp_path, teacher).path.exists()

    def test_on_a_full_disk_leaves_nothing_half(self, tmp_path, teacher):
        with small_disk(tmp_path / "disk", 64) as disk:
            neighbours = disk / "studies"
            shutil.copytree(tmp_path / "studies", neighbours)
            fill_up(disk / "ballast")
            with pytest.raises(KdcoreError, match="No space left"):
                reuse_teacher(neighbours / "second", "teacher-s0", teacher, "hash")
            assert list(neighbours.glob("second/runs/*")) == []
