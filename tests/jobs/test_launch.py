"""Launching, with a worker that only pretends; `tests/training/test_worker.py` has the real one."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.jobs import job as jobs
from kdcore.jobs.devices import host
from kdcore.jobs.launch import create, queue_position
from kdcore.jobs.locks import holding
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.worker import Journal
from kdcore.jobs.workspace import Workspace
from tests.disks import small_disk
from tests.jobs.studies import processes_of, put_study, tiny_study, wait_for, workspace_at

ROOT = Path(__file__).parents[2]
PRETEND = "tests.jobs.pretend_worker"


@pytest.fixture
def workspace(tmp_path):
    with workspace_at(tmp_path / "studies") as place:
        yield place


@pytest.fixture
def pretend(monkeypatch):
    monkeypatch.setattr(jobs, "WORKER", PRETEND)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def make(workspace: Workspace, title: str = "one", token: str = "token", **changes) -> StudyFolder:
    return create(workspace, title, Path("/data/banepa"), tiny_study(**changes), token)


def wait_for_state(study: StudyFolder, state: str) -> None:
    wait_for(lambda: study.state == state)


class TestMakingAStudy:
    def test_writes_what_a_worker_needs(self, workspace):
        study = make(workspace, "Banepa, T = 4")
        assert study.id == "banepa-t-4"
        assert study.settings == tiny_study()
        assert study.collection == Path("/data/banepa")
        assert (study.state, study.job.device, study.alive) == ("queued", "cpu", False)

    def test_on_the_demo_area(self, workspace):
        study = create(workspace, "Demo", "demo", tiny_study(), "t", demo_seed=7)
        assert study.collection == workspace.areas / "demo-7"

    def test_a_title_is_only_text(self, workspace):
        title = "<img src=x onerror=alert(1)>"
        study = make(workspace, title, "t")
        assert (study.id, study.title) == ("img-src-x-onerror-alert-1", title)
        assert study.path.parent == workspace.path

    @pytest.mark.parametrize(
        ("title", "slug"),
        [
            ("../../etc/passwd", "etc-passwd"),
            ("São Paulo (früh)", "sao-paulo-fruh"),
            ("研究", "study"),
            ("...", "study"),
            ("example", "example-2"),  # the bundled one keeps its name
            ("a" * 300, "a" * 60),
            ("line\none\x00two\u202e", "line-one-two"),
        ],
    )
    def test_any_title_gives_a_usable_folder(self, workspace, title, slug):
        study = make(workspace, title, "t")
        assert study.id == slug
        assert workspace.study(slug) == study
        assert len(study.title) <= 200
        assert study.title.isprintable()

    def test_without_a_title_is_refused(self, workspace):
        with pytest.raises(SettingsError, match="needs a title"):
            make(workspace, " \n ", "t")

    def test_the_same_title_twice_gives_two_folders(self, workspace):
        assert [make(workspace, "one", token).id for token in ("a", "b", "c")] == ["one", "one-2", "one-3"]

    def test_where_nothing_may_be_written_is_a_sentence(self, tmp_path, monkeypatch):
        def refuse(*args, **options):
            raise PermissionError(13, "Permission denied")

        workspace = Workspace(tmp_path / "studies")
        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(RunError, match=r"the workspace cannot be written to\. Set KDCORE_WORKSPACE"):
            make(workspace)

    def test_where_a_file_is_in_the_way_is_a_sentence(self, tmp_path):
        (tmp_path / "studies").touch()
        with pytest.raises(KdcoreError, match="could not be written"):
            make(Workspace(tmp_path / "studies"))

    def test_on_a_full_disk_leaves_nothing_and_can_be_tried_again(self, tmp_path):
        with small_disk(tmp_path / "disk", 64) as disk:
            workspace = Workspace(disk / "studies")
            ballast = disk / "ballast"
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(b"x" * 100_000)
            with pytest.raises(KdcoreError, match="the disk is full"):
                make(workspace)
            assert workspace.folders() == []
            ballast.unlink()
            assert make(workspace).state == "queued"  # the token was given back

    def test_by_a_process_that_is_killed_leaves_no_half_of_one(self, workspace):
        code = textwrap.dedent(f"""
            import os, signal
            from pathlib import Path
            from kdcore.jobs.naming import appear

            def fill(folder):
                folder.mkdir()
                (folder / "study.yaml").write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)

            appear(Path({str(workspace.path)!r}), "one", "study", (), fill)
        """)
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert workspace.studies()[:-1] == workspace.folders() == []
        make(workspace)
        assert [path.name for path in workspace.path.iterdir() if path.name != ".tokens"] == ["one"]


class TestTokens:
    def test_the_second_call_gives_the_same_study(self, workspace):
        assert make(workspace, "one", "token") == make(workspace, "two", "token")
        assert len(workspace.folders()) == 1

    def test_of_many_calls_at_once_one_makes_the_study(self, workspace):
        found, barrier = [], threading.Barrier(8)

        def click():
            barrier.wait()
            found.append(make(workspace, "one", "token").id)

        threads = [threading.Thread(target=click) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["one"] * 8
        assert len(workspace.folders()) == 1

    def test_many_people_at_once_each_get_a_study(self, workspace):
        found, barrier = [], threading.Barrier(8)

        def click(person: int):
            barrier.wait()
            found.append(make(workspace, "one", f"person-{person}").id)

        threads = [threading.Thread(target=click, args=(person,)) for person in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == ["one"] + [f"one-{number}" for number in range(2, 9)]
        assert all(study.settings == tiny_study() for study in workspace.folders())

    @pytest.mark.parametrize("token", ["../x", "", "a/b", "x" * 200])
    def test_are_slugs(self, workspace, token):
        with pytest.raises(SettingsError, match="is no usable token"):
            create(workspace, "one", "demo", tiny_study(), token)

    def test_of_long_ago_are_forgotten(self, workspace):
        make(workspace, "one", "old")
        os.utime(workspace.tokens / "old", (0, 0))
        make(workspace, "two", "new")
        assert [path.name for path in workspace.tokens.iterdir()] == ["new"]


class TestAWorker:
    def test_is_started_once_by_a_double_click(self, workspace, pretend):
        for _ in range(2):
            make(workspace, "one", "token").start()
        study = workspace.study("one")
        wait_for_state(study, "running")
        study.start()
        study.resume()
        assert len(processes_of(study)) == 1
        study.stop()
        wait_for_state(study, "stopped")
        assert (study.path / "lives").read_text().count("one more") == 1

    def test_is_started_once_by_people_who_resume_at_the_same_moment(self, workspace, pretend):
        study = put_study(workspace.path / "one", job=Status(state="stopped"))
        threads = [threading.Thread(target=study.resume) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(processes_of(study)) == 1
        wait_for_state(study, "running")

    def test_finds_another_one_and_ends(self, workspace, pretend):
        study = make(workspace)
        study.start()
        wait_for_state(study, "running")
        assert subprocess.run([sys.executable, "-m", PRETEND, study.KIND, str(study.path)], check=False).returncode == 3
        assert study.state == "running"

    def test_counts_its_seconds_whatever_the_clock_does(self, workspace, monkeypatch):
        study = put_study(workspace.path / "one")
        clock = SimpleNamespace(time=lambda: 1e9, monotonic=lambda: 100.0)
        monkeypatch.setattr("kdcore.jobs.worker.time", clock)
        journal = Journal(study, Status(state="queued", seconds=20.0))
        assert journal._seconds() == 20  # it waits
        journal.update(state="running", started=1e9)
        clock.time, clock.monotonic = lambda: 1e9 - 86_400, lambda: 107.5
        assert journal._seconds() == 27.5

    @pytest.mark.parametrize("ahead", [-3600.0, 3600.0, 4e9])
    def test_is_started_whatever_the_clock_said_at_the_launch(self, workspace, pretend, ahead):
        """A clock that was set back leaves a launch in the future."""
        status = Status(state="queued", queued=time.time() + ahead, launched=time.time() + ahead)
        study = put_study(workspace.path / "one", job=status)
        assert study.state == "interrupted"
        study.resume()
        wait_for_state(study, "running")

    def test_that_is_still_stopping_is_not_resumed(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="running"))
        with study.working():
            study.stop()
            with pytest.raises(RunError, match="is still saving its state"):
                study.resume()
            assert study.cancel_file.exists()

    def test_outlives_a_killed_parent_and_ctrl_c(self, workspace, pretend, monkeypatch):
        study = make(workspace)
        code = textwrap.dedent(f"""
            import os, signal, time
            from pathlib import Path
            from kdcore.jobs import job
            from kdcore.jobs.study_folder import StudyFolder
            job.WORKER = {PRETEND!r}
            StudyFolder(Path({str(study.path)!r})).start()
            print("started", flush=True)
            time.sleep(60)
        """)
        server = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT
        )
        assert server.stdout.readline() == b"started\n"
        wait_for_state(study, "running")
        (worker,) = processes_of(study)
        os.killpg(server.pid, signal.SIGINT)  # what a terminal sends to all that it started
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        time.sleep(0.2)
        assert study.state == "running"
        assert processes_of(study) == [worker]
        assert os.getsid(worker) == worker
        assert os.readlink(f"/proc/{worker}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{worker}/fd/1") == os.readlink(f"/proc/{worker}/fd/2") == str(study.log_file)

    def test_leaves_no_zombie(self, workspace, pretend):
        study = make(workspace)
        study.start()
        wait_for_state(study, "running")
        (worker,) = processes_of(study)
        study.stop()
        wait_for(lambda: not Path(f"/proc/{worker}").exists())

    def test_that_cannot_start_says_why(self, workspace, pretend):
        study = make(workspace, "cannot start")
        study.start()
        wait_for_state(study, "failed")
        assert study.job.message == "its worker could not start: ImportError: no torch here"

    def test_that_was_killed_can_be_resumed(self, workspace, pretend):
        study = make(workspace)
        study.start()
        wait_for_state(study, "running")
        os.kill(processes_of(study)[0], signal.SIGKILL)
        wait_for_state(study, "interrupted")
        study.resume()
        wait_for_state(study, "running")

    def test_is_not_started_for_what_cannot_run(self, workspace, tmp_path):
        broken = put_study(workspace.path / "broken")
        broken.settings_file.write_text("{")
        with pytest.raises(RunError, match="is no valid YAML"):
            broken.resume()
        bundled = StudyFolder(put_study(tmp_path / "package/example").path, read_only=True)
        for action in (bundled.start, bundled.resume, bundled.stop, bundled.delete):
            with pytest.raises(RunError, match="comes with the program and cannot be changed"):
                action()

    def test_that_the_system_cannot_start_is_a_sentence(self, workspace, monkeypatch):
        study = make(workspace)

        def refuse(*args, **options):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr("kdcore.jobs.job.subprocess.Popen", refuse)
        with pytest.raises(RunError, match=r"could not be started \(Cannot allocate memory\)"):
            study.start()
        assert study.state == "failed"


class TestStopping:
    def test_a_study_that_waits_without_a_process_ends_at_once(self, workspace):
        study = make(workspace)
        study.stop()
        assert study.state == "stopped"

    @pytest.mark.parametrize("state", ["finished", "failed", "stopped", "interrupted"])
    def test_what_does_not_run_is_a_sentence(self, workspace, state):
        written = "running" if state == "interrupted" else state
        study = put_study(workspace.path / "one", job=Status(state=written))
        with pytest.raises(RunError, match=rf"is not running \(its state is '{state}'\)"):
            study.stop()
        assert not study.cancel_file.exists()


class TestDeleting:
    def test_removes_everything(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="finished"))
        (study.path / "runs/alone-s0/maps").mkdir(parents=True)
        (workspace.path / ".deleted-by-a-process-that-was-killed").mkdir()
        study.delete()
        assert list(workspace.path.iterdir()) == []

    def test_is_refused_while_it_runs_or_waits(self, workspace, pretend):
        study = make(workspace)
        with pytest.raises(RunError, match=r"is running or waiting\. Stop it first: kdcore runs stop one"):
            study.delete()  # its worker may be on its way
        study.start()
        wait_for_state(study, "running")
        with pytest.raises(RunError, match="is running or waiting"):
            study.delete()
        assert study.settings_file.exists()
        study.stop()
        wait_for(lambda: study.state == "stopped" and not study.alive)
        study.delete()
        assert workspace.folders() == []

    def test_is_refused_while_its_networks_are_exported(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="finished"))
        (study.path / "deploy").mkdir()
        with (
            holding(study.path / "deploy/alive.lock", "taken"),
            pytest.raises(RunError, match="one: its networks are being exported and measured"),
        ):
            study.delete()
        study.delete()
        assert workspace.folders() == []

    def test_works_on_a_broken_one(self, workspace):
        study = put_study(workspace.path / "one")
        study.status_file.write_text("{")
        study.delete()
        assert workspace.folders() == []

    def test_is_refused_to_a_process_that_was_slower_than_a_worker(self, workspace, monkeypatch):
        study = put_study(workspace.path / "one", job=Status(state="stopped"))
        monkeypatch.setattr("kdcore.jobs.locks.PATIENCE", 0.05)
        monkeypatch.setattr(StudyFolder, "check_deletable", lambda study: None)
        with study.working(), pytest.raises(RunError, match="is running or waiting"):
            study.delete()
        assert study.settings_file.exists()


class TestTheQueue:
    def queued(self, workspace: Workspace, name: str, at: float, **changes) -> StudyFolder:
        status = {"state": "queued", "queued": at, "launched": time.time(), "device": "cpu", "host": host()}
        return put_study(workspace.path / name, job=Status(**(status | changes)))

    def test_is_first_come_first_served(self, workspace):
        names = {"late": 30.0, "early": 10.0, "middle": 20.0}
        studies = {name: self.queued(workspace, name, at) for name, at in names.items()}
        places = {name: queue_position(study) for name, study in studies.items()}
        assert places == {"early": 0, "middle": 1, "late": 2}

    def test_of_the_same_moment_has_an_order(self, workspace):
        assert [queue_position(self.queued(workspace, name, 5.0)) for name in "ab"] == [0, 1]

    def test_is_one_for_each_device_and_machine(self, workspace):
        own = self.queued(workspace, "own", 30.0)
        self.queued(workspace, "gpu", 10.0, device="cuda")
        self.queued(workspace, "elsewhere", 10.0, host="another-machine")
        assert queue_position(own) == 0

    def test_holds_nobody_who_runs_is_dead_or_broken(self, workspace):
        own = self.queued(workspace, "own", 30.0)
        self.queued(workspace, "running", 10.0, state="running")
        self.queued(workspace, "dead", 10.0, launched=time.time() - 100)
        self.queued(workspace, "broken", 10.0).status_file.write_text("{")
        assert queue_position(own) == 0
        assert queue_position(workspace.study("dead")) is None
        assert queue_position(workspace.study("running")) is None


def test_archived_studies_stay_but_are_marked(workspace):
    study = put_study(workspace.path / "one", title="Kept")
    study.archive(True)
    assert workspace.study("one").archived
    assert study.title == "Kept"
    study.archive(False)
    assert not workspace.study("one").archived
