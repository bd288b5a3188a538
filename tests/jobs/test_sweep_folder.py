"""A sweep's folder and its bookkeeping, without any training: who works on which trial, and what a reader makes of it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdcore.errors import RunError, SettingsError
from kdcore.jobs import sweep_library
from kdcore.jobs.devices import host
from kdcore.jobs.locks import holding
from kdcore.jobs.status import Status
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import SweepFolder, list_sweeps
from kdcore.settings import Range, SearchSpace, SweepSettings, load, save, validate
from tests.jobs.studies import wait_for
from tests.training.sweeps import STUDENT, put_sweep, sweep_settings

ROOT = Path(__file__).parents[2]
MEASURED = {"quality": 0.5, "size": 1000.0, "latency": 20.0}


@pytest.fixture
def sweep(tmp_path):
    """Six trials: the student alone, the centre with two seeds, three of the search."""
    return put_sweep(tmp_path / "sweep")


def finish_all(claims: Claims) -> list[int]:
    done = []
    while (claim := claims.next()) is not None:
        done.append(claim.number)
        claims.finish(claim, MEASURED)
    return done


class TestSettings:
    def test_survive_yaml(self, tmp_path):
        settings = sweep_settings(
            space=SearchSpace(
                temperature=(1, 2, 4), learning_rate=Range(low=1e-4, high=1e-2, log=True), student=STUDENT
            )
        )
        save(settings, tmp_path / "sweep.yaml")
        assert load(SweepSettings, tmp_path / "sweep.yaml") == settings

    def test_search_temperature_and_alpha_by_default(self):
        space = SweepSettings().space
        assert space.searched == ("temperature", "alpha")
        assert space.centre()["alpha"] == 0.5
        assert space.centre()["temperature"] == pytest.approx(10**0.5)  # the middle of 1 and 10 by magnitude

    def test_the_centre_of_a_list_is_its_middle_entry(self):
        space = SearchSpace(temperature=[1, 2, 4], alpha=0.3, task=["cross_entropy", "cross_entropy+dice"])
        assert space.searched == ("temperature", "task")
        assert space.centre() == {
            "temperature": 2, "alpha": 0.3, "student": "small", "task": "cross_entropy", "distillation": "pixel",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (
                {"space": {"temperature": 2, "alpha": 0.5}},
                "the search space is empty: .* Give one of them a list or a range",
            ),
            ({"space": {"alpha": []}}, "alpha is empty; give one value, several, or a range"),
            ({"space": {"alpha": {"low": 0.5, "high": 0.5}}}, "0.5 to 0.5 holds nothing to search"),
            ({"space": {"temperature": {"low": 0, "high": 5, "log": True}}}, "starts above 0, not at 0"),
            ({"space": {"temperature": [0.5, 1]}}, "temperature can be 1 to 20, not 0.5"),
            ({"space": {"temperature": [2, 2]}}, "temperature lists a value twice"),
            ({"space": {"student": "huge"}}, "'huge' is no network"),
            ({"space": {"hint": [0, 101]}}, "hint can be 0 to 100, not 101"),
            (
                {"space": {"channels": [1, 3], "distillation": "channel"}},
                "channels is the loss of distillation: channel already",
            ),
            (
                {"space": {"hint": [1, 2]}, "teacher": {"seeds": [0, 1]}},
                "an ensemble of 2 networks .* set the recipe's .*hint: 0",
            ),
            (
                {"space": {"features": [1, 2]}, "seconds": 9},
                "soft labels, which hold no features; give budget.steps instead",
            ),
            ({"space": {"temprature": [1, 2]}}, "space.temprature: is not a setting"),
            ({"objectives": ["size"]}, "'size' cannot be measured: every trial has the same student"),
            ({"objectives": ["quality", "latency"]}, "'latency' cannot be measured"),
            ({"objectives": ["beauty"]}, "objectives.0: .*'quality', 'size' or 'latency' .*'beauty'"),
            ({"objectives": []}, "there is no objective"),
            ({"objectives": ["quality", "quality"]}, "names one twice"),
            ({"trials": 4}, "4 trials are too few: 1 of the student alone and 3 repeats .* at least 5"),
            ({"hardware": {"devices": 2}}, "a trial uses one device"),
        ],
    )
    def test_that_make_no_sense_are_one_sentence(self, values, words):
        with pytest.raises(SettingsError, match=words) as refusal:
            validate(SweepSettings, values, "sweep.yaml")
        assert len(str(refusal.value)) < 300

    def test_prune_with_one_objective_only(self):
        space = SearchSpace(student=["tiny", "small"])
        assert SweepSettings(space=space).prunes
        assert not SweepSettings(space=space, objectives=("quality", "size")).prunes
        assert not SweepSettings(pruning=False).prunes


class TestTheFolder:
    def test_is_found_again_and_extended(self, sweep):
        put_sweep(sweep.path)
        assert put_sweep(sweep.path, trials=9).settings.trials == 9

    def test_keeps_other_settings_and_other_data_out(self, sweep):
        with pytest.raises(RunError, match="holds a sweep with other settings"):
            put_sweep(sweep.path, seed=3)
        with pytest.raises(RunError, match="began with other data"):
            put_sweep(sweep.path, Path("/elsewhere/other.yaml"))
        put_sweep(sweep.path, Path("/moved/nowhere/collection.yaml"))  # the same data at another place
        assert sweep.collection == Path("/moved/nowhere/collection.yaml")

    def test_is_not_made_over_something_else(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(RunError, match="is not empty and holds no sweep"):
            put_sweep(tmp_path)

    def test_that_is_broken_says_so(self, sweep):
        sweep.settings_file.write_text("trials: many")
        assert sweep.progress().state == "broken"
        assert "trials" in sweep.progress().message

    @pytest.mark.parametrize("begun", [False, True])
    def test_that_nobody_has_begun_is_looked_at_without_writing(self, sweep, begun):
        """As on a disk that is full or cannot be written to; a killed process may have left an empty journal."""
        if begun:
            sweep.journal.touch()
        before = sorted(path.name for path in sweep.path.rglob("*"))
        assert sweep.trials() == []
        assert sweep.progress().state == "new"
        assert sorted(path.name for path in sweep.path.rglob("*")) == before

    def test_that_was_just_made_counts_as_running_for_its_workers_are_on_their_way(self, sweep):
        """So that a page that was drawn between the making and the start looks again."""
        about = sweep.about.model_copy(update={"created": time.time()})
        sweep.about_file.write_text(about.model_dump_json())
        assert sweep.progress().state == "running"

    def test_tells_how_far_it_is(self, sweep):
        assert sweep.progress().state == "new"
        claims = Claims(sweep)
        claims.finish(claims.next(), MEASURED)
        claim = claims.next()
        sweep.worker(0).write_status(Status(state="running"))
        with holding(sweep.worker(0).lock, "taken"):
            progress = sweep.progress()
        assert (progress.state, progress.over, progress.trials, progress.workers) == ("running", 1, 6, 1)
        assert progress.counts == {"finished": 1, "running": 1, "waiting": 1}
        claims.finish(claim, MEASURED)
        assert sweep.progress().state == "stopped"
        finish_all(claims)
        assert sweep.progress().state == "finished"

    def test_that_is_to_be_confirmed_is_finished_with_its_confirmation(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", confirm=2)
        finish_all(Claims(sweep))
        assert sweep.progress().state == "stopped"

    def test_of_failed_trials_only_has_nothing_to_confirm(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", confirm=2)
        claims = Claims(sweep)
        while (claim := claims.next()) is not None:
            claims.fail(claim, "the loss became nan")
        assert sweep.progress().state == "finished"
        assert sweep.progress().counts == {"failed": 6}

    def test_is_listed_beside_others_the_last_begun_first(self, tmp_path):
        first, second = put_sweep(tmp_path / "a"), put_sweep(tmp_path / "b")
        second.about_file.write_text(second.about.model_copy(update={"created": 2000.0}).model_dump_json())
        broken = put_sweep(tmp_path / "c")
        broken.about_file.write_text("{")
        (tmp_path / "no sweep").mkdir()
        assert list_sweeps(tmp_path) == [second, first, broken]
        assert list_sweeps(tmp_path / "nowhere") == []

    def test_says_why_its_workers_failed(self, sweep):
        sweep.worker(1).write_status(Status(state="failed", message="the disk is full"))
        progress = sweep.progress()
        assert (progress.state, progress.message) == ("failed", "the disk is full")


class TestTrials:
    def test_begin_with_the_student_alone_and_the_repeats(self, sweep):
        finish_all(Claims(sweep))
        trials = sweep.trials()
        assert [(trial.role, trial.seed) for trial in trials] == [
            ("baseline", 0), ("repeat", 0), ("repeat", 1), ("search", 0), ("search", 0), ("search", 0),
        ]  # fmt: skip
        assert trials[0].params["alpha"] == 0
        assert "temperature" not in trials[0].params  # it means nothing there
        assert trials[1].params == trials[2].params
        assert (
            trials[1].params["temperature"] == 3.162
        )  # the root of 10 with the four digits that are shown and trained with
        assert len({trial.params["alpha"] for trial in trials[3:]}) == 3
        assert all(1 <= trial.params["temperature"] <= 10 for trial in trials[3:])

    def test_of_the_student_alone_have_no_weight_of_a_loss(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", space=SearchSpace(alpha=0.5, hint=(0.5, 2.0), student=STUDENT))
        claims = Claims(sweep)
        claim = claims.next()
        assert claim.role == "baseline"
        (trial, *_) = sweep.trials()
        assert (trial.params["alpha"], "hint" in trial.params) == (0, False)

    def test_have_a_student_alone_of_every_size(self, tmp_path):
        space = SearchSpace(
            student=["tiny", "small"], alpha=(0.3, 0.6), learning_rate=Range(low=1e-4, high=1e-2, log=True)
        )
        sweep = put_sweep(tmp_path / "sweep", space=space)
        finish_all(Claims(sweep))
        first, second = sweep.trials()[:2]
        assert [first.params["student"], second.params["student"]] == ["tiny", "small"]
        assert first.params["alpha"] == second.params["alpha"] == 0  # though 0 is not among the searched ones
        assert first.params["learning_rate"] == pytest.approx(1e-3)

    def test_are_never_asked_for_twice_nor_too_often(self, sweep):
        one, other = Claims(sweep, 0), Claims(sweep, 1)
        claims = [worker.next() for worker in (one, other) * 3]
        assert [claim.number for claim in claims] == [0, 1, 2, 3, 4, 5]
        assert one.next() is None
        assert one.others_work()
        for claim in claims:
            one.finish(claim, MEASURED)
        assert not other.others_work()
        assert Claims(sweep).next() is None

    def test_of_more_workers_than_trials_are_as_many_as_wanted(self, sweep):
        workers = [Claims(sweep, index) for index in range(8)]
        claims = [worker.next() for worker in workers]
        assert sum(claim is not None for claim in claims) == 6

    def test_go_on_when_the_sweep_is_extended(self, sweep):
        assert finish_all(Claims(sweep)) == [0, 1, 2, 3, 4, 5]
        put_sweep(sweep.path, trials=8)
        assert finish_all(Claims(sweep)) == [6, 7]

    def test_that_were_stopped_go_on(self, sweep):
        claims = Claims(sweep)
        before = claims.next()
        claims.interrupt(before)
        assert sweep.trials()[0].state == "interrupted"
        again = Claims(sweep).next()
        assert (again.number, again.params, again.role) == (before.number, before.params, "baseline")
        assert sweep.trials()[0].state == "running"

    def test_tell_their_results(self, sweep):
        claims = Claims(sweep)
        claims.finish(claims.next(), MEASURED)
        claims.fail(claims.next(), "the loss became nan")
        pruned = claims.next()
        claims.report(pruned, 50, 0.25)
        claims.prune(pruned)
        done, failed, ended = sweep.trials()
        assert (done.state, done.values) == ("finished", MEASURED)
        assert (failed.state, failed.message, failed.values) == ("failed", "the loss became nan", {})
        assert (ended.state, ended.curve, ended.values) == ("pruned", {50: 0.25}, {})
        assert all(trial.over for trial in (done, failed, ended))

    def test_of_the_search_are_hopeless_where_every_finished_one_was_better(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", trials=9)
        claims = Claims(sweep)
        for score in (0.4, 0.6, 0.8, 0.9):
            claim = claims.next()
            assert not claims.report(claim, 50, score)
            claims.finish(claim, MEASURED)
        bad, middling = claims.next(), claims.next()
        assert not claims.report(bad, 20, 0.1)  # too early to say
        assert claims.report(bad, 50, 0.39)
        assert not claims.report(middling, 50, 0.41)  # below the median of 0.7, but not the worst

    def test_that_every_sweep_has_are_never_hopeless(self, sweep):
        claims = Claims(sweep)
        for score in (0.9, 0.8, 0.1):  # the student alone, and the centre twice
            claim = claims.next()
            assert not claims.report(claim, 50, score)
            claims.finish(claim, MEASURED)


def killed_while_it_worked(sweep: SweepFolder) -> None:
    """A process that takes a trial and is killed."""
    code = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from kdcore.jobs.sweep_claims import Claims
        from kdcore.jobs.sweep_folder import SweepFolder
        claim = Claims(SweepFolder(Path({str(sweep.path)!r}))).next()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL


class TestAKilledWorker:
    def test_loses_its_trial_to_the_next_one_which_does_it_again_once(self, sweep):
        killed_while_it_worked(sweep)
        assert sweep.trials()[0].state == "interrupted"
        done = finish_all(Claims(sweep))
        trials = sweep.trials()
        first = trials[0]
        assert (first.state, first.message) == ("failed", "its worker was killed; it is done again")
        again = trials[first.retried_as]
        assert (again.retry_of, again.state, again.role, again.params) == (0, "finished", "baseline", first.params)
        assert len(done) == 6  # the killed one and its second try count as one
        assert sum(trial.over for trial in trials) == 6
        assert sweep.progress().counts == {"finished": 6}

    def test_twice_leaves_a_failed_trial(self, sweep):
        killed_while_it_worked(sweep)
        claims = Claims(sweep)
        others = [claims.next(), claims.next()]  # the two repeats, which were waiting before the second try
        killed_while_it_worked(sweep)
        for claim in others:
            claims.finish(claim, MEASURED)
        finish_all(claims)
        trials = sweep.trials()
        (second,) = [trial for trial in trials if trial.retry_of == 0]
        assert (second.state, second.message, second.retried_as) == ("failed", "its worker was killed", None)
        assert sum(trial.over for trial in trials) == 6
        assert sweep.progress().counts == {"finished": 5, "failed": 1}

    def test_that_had_finished_its_training_is_not_done_again(self, sweep):
        killed_while_it_worked(sweep)
        report = sweep.run(0).report
        report.parent.mkdir(parents=True)
        report.write_text("{}")
        claim = Claims(sweep).next()
        assert claim.number == 0

    def test_in_the_middle_of_writing_leaves_a_journal_that_can_be_read(self, sweep):
        other = Claims(sweep)
        other.finish(other.next(), MEASURED)
        whole = sweep.journal.read_bytes()
        sweep.journal.write_bytes(whole + b'{"op_code":5,"worker_id":"x')
        other.finish(other.next(), MEASURED)  # it had the journal open all the time
        sweep.journal.write_bytes(sweep.journal.read_bytes() + b'{"op')
        finish_all(Claims(sweep))
        assert sweep.progress().counts == {"finished": 6}

    def test_while_it_held_the_journal_keeps_nobody_waiting(self, sweep, monkeypatch):
        sweep.study()
        code = textwrap.dedent(f"""
            import os, signal
            from pathlib import Path
            from kdcore.jobs.sweep_storage import SystemLock
            SystemLock(Path({str(sweep.journal)!r})).acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("Optuna's own lock file would cost 30 s"))
        Claims(sweep).next()


class TestStorage:
    def test_can_be_a_database(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", storage=f"sqlite:///{tmp_path / 'sweeps.db'}")
        killed_while_it_worked(sweep)
        finish_all(Claims(sweep))
        assert not sweep.journal.exists()
        assert sweep.progress().counts == {"finished": 6}

    def test_serves_several_sweeps(self, tmp_path):
        url = f"sqlite:///{tmp_path / 'sweeps.db'}"
        one, other = put_sweep(tmp_path / "one", storage=url), put_sweep(tmp_path / "other", storage=url)
        about = other.about.model_copy(update={"created": 2000.0})
        other.about_file.write_text(about.model_dump_json())
        finish_all(Claims(one))
        assert other.trials() == []

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("sqlite:////nowhere/at/all.db", "cannot be used .*unable to open database file"),
            ("postgresql://me:secret@127.0.0.1:1/sweeps", "127.0.0.1 does not answer at port 1"),
            ("mysql+pymysql://me:secret@nowhere.invalid/sweeps", "nowhere.invalid does not answer at port 3306"),
            ("redis://localhost", "is no database that a sweep can use. Write sqlite:///FILE"),
            ("my sweeps", "is no database that a sweep can use"),
            ("postgresql://me:secret@host:port/sweeps", "is no URL"),
        ],
    )
    def test_that_does_not_answer_is_one_sentence_without_the_password(self, tmp_path, url, words):
        sweep = put_sweep(tmp_path / "sweep", storage=url)
        with pytest.raises(SettingsError, match=words) as refusal:
            sweep_library.start(sweep, 1)
        assert "secret" not in str(refusal.value)
        assert sweep.workers() == {}  # nothing was started

    def test_without_its_driver_is_one_sentence(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"postgresql+nosuchdriver://me:secret@127.0.0.1:{server.getsockname()[1]}/sweeps"
            with pytest.raises(SettingsError, match=r"--storage .*nosuchdriver") as refusal:
                put_sweep(tmp_path / "sweep", storage=url).study()
        assert "secret" not in str(refusal.value)

    def test_of_another_sweep_is_refused(self, sweep, tmp_path):
        other = put_sweep(tmp_path / "other")
        other.about_file.write_text(other.about.model_copy(update={"created": 2000.0}).model_dump_json())
        other.study()
        sweep.journal.write_bytes(other.journal.read_bytes())
        with pytest.raises(RunError, match="is the journal of another sweep"):
            sweep.study()

    def test_with_other_objectives_is_refused(self, tmp_path):
        space = SearchSpace(student=["tiny", "small"])
        sweep = put_sweep(tmp_path / "sweep", space=space)
        sweep.study()
        save(sweep.settings.model_copy(update={"objectives": ("quality", "size")}), sweep.settings_file)
        with pytest.raises(RunError, match=r"holds a sweep with other objectives \(maximize\)"):
            sweep.study()

    @pytest.mark.parametrize(
        "text",
        [
            "epoch,loss\n1,0.5\n",
            '{"op_code": 99, "worker_id": "a"}\n',
            '{"op_code": 4, "worker_id": "a", "study_id": 0}\n{"op_code": 0}\n',
            '["a list"]\n',
            "\x00\x01\x02\n",
        ],
    )
    def test_journal_that_is_broken_or_old_is_one_sentence(self, sweep, text):
        sweep.journal.write_text(text)
        with pytest.raises(RunError, match=r"cannot be read as a journal of Optuna .* begin again with another --out"):
            sweep.study()
        assert sweep.progress().state == "broken"
        assert sweep.journal.read_text() == text  # it is left alone

    def test_folder_that_cannot_be_written_to_is_one_sentence(self, sweep):
        sweep.journal.mkdir()
        with pytest.raises(Exception, match=r"journal.log: could not be written"):
            sweep.study()

    def test_is_not_written_to_by_a_look(self, sweep):
        Claims(sweep).next()
        before = sweep.journal.read_bytes()
        for _ in range(3):
            assert sweep.progress().state == "stopped"
        assert sweep.journal.read_bytes() == before

    @pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
    def test_that_cannot_be_written_to_can_be_read(self, sweep, monkeypatch, error):
        claim = Claims(sweep).next()
        number = claim.number
        claim.lock.release()

        def refuse(*_, **__):
            raise OSError(error, "not here", str(sweep.journal))

        monkeypatch.setattr("kdcore.jobs.sweep_storage.FileLock.acquire", refuse)
        assert [trial.number for trial in sweep.trials()][:1] == [number]
        assert sweep.progress().state == "stopped"


class TestLaunching:
    def test_refuses_an_unreasonable_number_of_workers(self, sweep):
        with pytest.raises(SettingsError, match="0 workers"):
            sweep_library.start(sweep, 0)

    def test_leaves_living_workers_alone(self, sweep, monkeypatch):
        started = []

        def start(module, arguments, log, environment):
            started.append(int(arguments[2]))
            return SimpleNamespace(wait=lambda: 0)

        monkeypatch.setattr("kdcore.jobs.job.start_detached", start)
        sweep.worker(0).write_status(Status(state="running", host=host()))
        with holding(sweep.worker(0).lock, "taken"):
            assert sweep_library.start(sweep, 3) == [1, 2]
        assert started == [1, 2]
        assert sweep_library.start(sweep, 3) == [0]  # it said running, but it was killed

    def test_starts_workers_beside_those_of_another_machine(self, sweep, monkeypatch):
        monkeypatch.setattr("kdcore.jobs.job.start_detached", lambda *arguments: SimpleNamespace(wait=lambda: 0))
        sweep.worker(1).write_status(Status(state="running", host="another"))
        with holding(sweep.worker(1).lock, "taken"):
            assert sweep_library.start(sweep, 2) == [0, 2]
            assert sweep_library.start(sweep, 2) == []  # they are on their way

    def test_waits_for_workers_that_are_stopping(self, sweep):
        sweep.worker(0).write_status(Status(state="running"))
        with holding(sweep.worker(0).lock, "taken"):
            sweep_library.stop(sweep)
            with pytest.raises(RunError, match="is still saving its state"):
                sweep_library.start(sweep, 1)

    def test_of_a_stop_without_workers_says_so(self, sweep):
        with pytest.raises(RunError, match="no worker is running"):
            sweep_library.stop(sweep)

    def test_tells_of_a_worker_that_could_not_start(self, sweep, monkeypatch):
        monkeypatch.setattr("kdcore.jobs.job.WORKER", "kdcore.no_such_module")
        sweep_library.start(sweep, 1)
        wait_for(lambda: sweep.progress().state == "failed")
        assert "no_such_module" in sweep.progress().message


def test_reading_a_sweep_needs_no_torch(sweep):
    finish_all(Claims(sweep))
    code = (
        "import sys; from pathlib import Path; from kdcore.jobs.sweep_folder import SweepFolder; "
        f"SweepFolder(Path({str(sweep.path)!r})).progress(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, env=os.environ).returncode == 0
