"""A sweep's workers, with real trainings of seconds: one teacher for all, the test split unread, no trial lost or done twice."""

import json
import os
import signal
from itertools import pairwise

import pytest

from kdcore.errors import RunError, Stopped
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.sweep_report import sweep_report
from kdcore.jobs import sweep_library
from kdcore.jobs.job import ALREADY_WORKED_ON
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import Stage
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import SweepFolder, SweepWorker
from kdcore.jobs.worker import main
from kdcore.settings import Recipe, SearchSpace, TeacherSettings
from kdcore.training import sweep as sweep_module
from kdcore.training.sweep import work_on_sweep
from tests.conftest import TINY, write_collection
from tests.jobs.studies import processes_of, wait_for
from tests.training.sweeps import BUDGET, STUDENT, put_sweep

LONG = BUDGET.model_copy(update={"steps": 60, "validate_every": 20, "save_every": 5})


def work(sweep: SweepFolder, should_stop=lambda: False) -> list[tuple[str, Stage]]:
    """One worker's share in this process; gives the stages it went through."""
    stages = []

    def tell(progress):
        if stages[-1:] != [(progress.run, progress.stage)]:
            stages.append((progress.run, progress.stage))

    work_on_sweep(sweep, 0, tell, should_stop)
    return stages


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("sweeps") / "collection")


@pytest.fixture(scope="module")
def done(collection, tmp_path_factory):
    """A finished sweep with its confirmation, and the stages of its worker; it must not be changed."""
    sweep = put_sweep(tmp_path_factory.mktemp("done") / "sweep", collection, confirm=2, pruning=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module, "time", None)  # one worker alone waits for nobody: it never sleeps
        return sweep, work(sweep)


@pytest.fixture
def ended():
    """Kills the workers of the sweeps that a test puts into the list."""
    sweeps = []
    yield sweeps
    for sweep in sweeps:
        for process in processes_of(sweep):
            os.kill(process, signal.SIGKILL)


class TestASweep:
    def test_trains_one_teacher_and_every_trial(self, done):
        sweep, _ = done
        assert sweep.progress().state == "finished"
        assert [run.path.name for run in sweep.teacher_runs()] == ["teacher-s0"]
        trials = sweep.trials()
        assert [trial.state for trial in trials] == ["finished"] * 6
        for trial in trials:
            settings = sweep.run(trial.number).settings
            assert settings.recipe.alpha == trial.params["alpha"]
            assert settings.seed == trial.seed
            assert settings.network.encoder == "tu-test_resnet"
            assert settings.budget == BUDGET  # the same for all
            if trial.role == "baseline":
                assert (settings.arm, settings.teacher) == ("alone", ())
            elif settings.arm == "distilled":
                assert settings.recipe.temperature == trial.params["temperature"]
                assert settings.teacher == (sweep.teacher_runs()[0].best,)

    def test_judges_trials_by_what_their_runs_report(self, done):
        sweep, _ = done
        for trial in sweep.trials():
            report = sweep.run(trial.number).read_report()
            assert trial.values["quality"] == report["validation"]["mean_ap"]
            assert trial.values["size"] == report["parameters"]
            assert trial.values["latency"] == pytest.approx(1000 / report["megapixels_per_second"], abs=1e-3)
            assert list(trial.curve) == [50, 100]  # validated at steps 3 and 6 of 6
            assert max(trial.curve.values()) == pytest.approx(trial.values["quality"], abs=1e-6)

    def test_never_reads_the_test_split_before_the_confirmation(self, done):
        sweep, stages = done
        first = next(number for number, (run, _) in enumerate(stages) if run.startswith(("best", "default")))
        assert not any(stage is Stage.SCORING_TEST for _, stage in stages[:first])
        for run in [*sweep.teacher_runs(), *(sweep.run(trial.number) for trial in sweep.trials())]:
            assert not run.scores.exists()
            assert not run.maps.exists()
            assert run.read_report()["test"] is None

    def test_repeats_of_the_centre_differ_in_their_seed_only(self, done):
        sweep, _ = done
        one, other = (trial for trial in sweep.trials() if trial.role == "repeat")
        first, second = (sweep.run(trial.number).settings for trial in (one, other))
        assert first.model_copy(update={"seed": second.seed}) == second
        assert one.values["quality"] != other.values["quality"]

    def test_confirms_the_best_with_fresh_seeds_against_the_default_once(self, done):
        sweep, _ = done
        told = json.loads((sweep.path / "confirm/report.json").read_text())
        best = max((trial for trial in sweep.trials() if trial.seed == 0), key=lambda trial: trial.values["quality"])
        assert told["trial"] == best.number
        assert told["best"]["alpha"] == best.params["alpha"]
        assert (told["default"]["temperature"], told["default"]["alpha"]) == (2.0, 0.5)
        assert not {trial.seed for trial in sweep.trials()} & set(told["seeds"])
        values = {
            name: [
                RunDirectory(sweep.path / f"confirm/{name}-s{seed}").read_report()["test"]["mean_ap"]
                for seed in told["seeds"]
            ]
            for name in ("best", "default")
        }
        expected = 100 * (sum(values["best"]) - sum(values["default"])) / 2
        assert told["comparison"]["mean_ap_points"]["mean"] == pytest.approx(expected)
        assert told["sentence"] in sweep.report_file.read_text()
        before = (sweep.path / "confirm/report.json").stat().st_mtime_ns
        assert not any(stage is Stage.SCORING_TEST for _, stage in work(sweep))
        assert (sweep.path / "confirm/report.json").stat().st_mtime_ns == before

    def test_notes_when_each_trial_began_and_ended(self, done):
        times = [(trial.started, trial.ended) for trial in done[0].trials()]
        assert all(started < ended for started, ended in times)
        assert all(ended <= started for (_, ended), (started, _) in pairwise(times))  # one worker: one after the other

    def test_leaves_runs_like_any_other_without_what_only_resumes_them(self, done):
        sweep, _ = done
        run = sweep.run(0)
        assert run.status.state == "finished"
        assert run.best.exists()
        assert not run.state.exists()
        assert Scores.load(run.validation_scores).tiles

    def test_with_several_objectives_measures_them(self, collection, tmp_path):
        space = SearchSpace(student=["tiny", STUDENT], alpha=(0.3, 0.6), temperature=2)
        sweep = put_sweep(tmp_path / "sweep", collection, space=space, objectives=("quality", "size"), trials=5)
        work(sweep)
        trials = sweep.trials()
        assert all(trial.values["size"] > 0 for trial in trials)
        assert len({trial.values["size"] for trial in trials}) == 2
        assert sweep.study().get_trials()[0].values == [trials[0].values["quality"], trials[0].values["size"]]

    def test_without_a_teacher_to_listen_to_trains_none(self, collection, tmp_path):
        space = SearchSpace(student=STUDENT, alpha=0, temperature=2, learning_rate=(1e-3, 5e-3, 1e-2))
        sweep = put_sweep(tmp_path / "sweep", collection, space=space, trials=4)
        work(sweep)
        assert sweep.teacher_runs() == []
        assert [trial.state for trial in sweep.trials()] == ["finished"] * 4

    def test_searches_the_weight_of_an_added_loss(self, collection, tmp_path):
        space = SearchSpace(temperature=2, alpha=0.5, hint=(0.5, 2.0), student=STUDENT)
        sweep = put_sweep(tmp_path / "sweep", collection, space=space, trials=4, confirm=1, pruning=False)
        work(sweep)
        recipes = [sweep.run(trial.number).settings.recipe for trial in sweep.trials()]
        assert [recipe.weights for recipe in recipes[:3]] == [{}, {"hint": 0.5}, {"hint": 0.5}]  # alone, centre, centre
        assert recipes[0].alpha == 0
        assert recipes[3].weights["hint"] in (0.5, 2.0)
        assert all("hint" in sweep.run(number).read_metrics()[0] for number in (1, 2, 3))
        # It meets the default, which has none.
        default, best = (RunDirectory(sweep.path / f"confirm/{name}-s10000").settings for name in ("default", "best"))
        assert (default.recipe, set(best.recipe.weights)) == (Recipe(), {"hint"})
        assert "hint" in sweep_report(sweep)["confirmation"]["sentence"]

    def test_takes_a_teacher_from_checkpoints(self, done, collection, tmp_path):
        given = done[0].teacher_runs()[0].best
        teacher = TeacherSettings(network=TINY, checkpoints=(given,))
        sweep = put_sweep(tmp_path / "sweep", collection, teacher=teacher, trials=4)
        work(sweep)
        assert sweep.teacher_runs() == []
        assert sweep.run(1).settings.teacher == (given,)

    def test_with_a_budget_in_seconds_gives_every_trial_of_a_kind_the_same_steps(
        self, collection, tmp_path, monkeypatch
    ):
        measured = []

        def cost(network, teacher, budget, hardware, *, served=0):  # a step takes 20 ms, with a teacher 40 ms
            measured.append(served)
            return (0.04 if served else 0.02) / (budget.batch_size * budget.crop**2)

        monkeypatch.setattr(sweep_module, "cost_of_step", cost)
        sweep = put_sweep(tmp_path / "sweep", collection, seconds=0.2, trials=5)
        work(sweep)
        work(put_sweep(sweep.path, collection, seconds=0.2, trials=6))
        assert measured == [0, 1]  # once for each kind, however often the sweep goes on
        for trial in sweep.trials():
            settings = sweep.run(trial.number).settings
            assert settings.budget.steps == {"alone": 10, "distilled": 5}[settings.arm]
        assert {sweep.run(trial.number).settings.arm for trial in sweep.trials()} == {"alone", "distilled"}


class TestHopelessTrials:
    def test_end_early(self, collection, tmp_path, monkeypatch):
        sweep = put_sweep(tmp_path / "sweep", collection, trials=5)
        real = Claims.report

        def hopeless(self, claim, percent, score):
            real(self, claim, percent, score)
            return claim.role == "search" and percent == 50

        monkeypatch.setattr(Claims, "report", hopeless)
        work(sweep)
        states = [(trial.role, trial.state) for trial in sweep.trials()]
        assert (
            states
            == [("baseline", "finished"), ("repeat", "finished"), ("repeat", "finished")] + [("search", "pruned")] * 2
        )
        status = sweep.run(3).status
        assert (status.state, status.step) == ("stopped", 3)
        assert "every finished trial was better" in status.message
        assert sweep.progress().state == "finished"
        spread = json.loads(sweep.report_file.read_text())["spread"]
        assert (spread["percent"], spread["repeats"], spread["trials"]) == (50, 2, 3)

    def test_that_diverge_are_failed_and_the_sweep_goes_on(self, collection, tmp_path):
        space = SearchSpace(student=STUDENT, alpha=0, temperature=2, learning_rate=(5e-3, 9.9, 1e-3))
        budget = BUDGET.model_copy(update={"clip": None, "warmup": 0.0})
        sweep = put_sweep(tmp_path / "sweep", collection, space=space, trials=4, budget=budget)
        real = sweep_module.execute

        def diverge(run, *args, **options):
            if run.path.name == "0003":
                raise RunError("loss became nan at step 2")
            real(run, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweep_module, "execute", diverge)
            work(sweep)
        assert [trial.state for trial in sweep.trials()] == ["finished"] * 3 + ["failed"]
        assert sweep.trials()[3].message == "loss became nan at step 2"


class TestStopping:
    def test_keeps_the_trial_which_goes_on_exactly(self, done, collection, tmp_path):
        undisturbed = done[0]
        sweep = put_sweep(tmp_path / "sweep", collection, confirm=2, pruning=False)
        asked = []

        def stop() -> bool:
            asked.append(sweep.run(1).status.step if sweep.run(1).path.exists() else 0)
            return asked[-1] >= 1

        with pytest.raises(Stopped):
            work(sweep, stop)
        assert sweep.trials()[1].state == "interrupted"
        assert 1 <= sweep.run(1).status.step < 6
        work(sweep)
        values = [[trial.values["quality"] for trial in each.trials()[:3]] for each in (sweep, undisturbed)]
        assert values[0] == values[1]
        assert all(trial.retried_as is None for trial in sweep.trials())

    def test_on_other_data_is_refused(self, collection, tmp_path):
        own = write_collection(tmp_path / "data")
        sweep = put_sweep(tmp_path / "sweep", own)
        work(sweep)
        put_sweep(sweep.path, own, trials=7)
        write_collection(tmp_path / "data", classes=2)
        with pytest.raises(RunError, match="began with other data"):
            work(sweep)


class TestItsProcesses:
    @pytest.mark.slow  # three processes import torch, which takes several seconds each
    def test_survive_that_one_is_killed_in_the_middle(self, collection, tmp_path, ended):
        """Two workers; one is killed with SIGKILL in mid-training. The other ends the sweep, which is then extended."""
        sweep = put_sweep(tmp_path / "sweep", collection, trials=10, budget=LONG)
        ended.append(sweep)
        assert sweep_library.start(sweep, 2) == [0, 1]
        wait_for(lambda: sum(trial.over for trial in sweep.trials()) >= 2)
        wait_for(lambda: (found := sweep.worker(1).said()) and found.trial is not None and found.done >= 10)
        victim = sweep.worker(1).said().trial
        lines = sweep.log_file.read_text().splitlines()
        (process,) = {int(line.rsplit(" ", 1)[1]) for line in lines if "worker 1: started" in line}
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: sweep.alive == [0])
        killed = sweep.trials()[victim]
        assert killed.state in ("interrupted", "finished", "failed")

        wait_for(lambda: sweep.progress().state == "finished")
        trials = sweep.trials()
        assert sum(trial.over for trial in trials) == 10
        assert sweep.progress().counts.keys() <= {"finished", "pruned"}
        retried = [trial for trial in trials if trial.retried_as is not None]
        if killed.state == "interrupted":
            assert [trial.number for trial in retried] == [victim]
            again = trials[retried[0].retried_as]
            assert (again.params, again.seed, again.role) == (killed.params, killed.seed, killed.role)
        assert len({(str(t.params), t.seed, t.role) for t in trials if t.over}) == 10
        assert len(list((sweep.path / "trials").glob("0*"))) == len(trials)  # every run belongs to one trial

        put_sweep(sweep.path, collection, trials=12, budget=LONG)
        assert sweep_library.start(sweep, 1) == [0]
        wait_for(lambda: sweep.progress().state == "finished")
        assert sum(trial.over for trial in sweep.trials()) == 12
        assert json.loads(sweep.report_file.read_text())["counts"]["finished"] >= 4

    @pytest.mark.slow  # a process imports torch, which takes several seconds
    def test_stop_when_asked_and_go_on(self, collection, tmp_path, ended):
        sweep = put_sweep(tmp_path / "sweep", collection, trials=4, budget=LONG)
        ended.append(sweep)
        sweep_library.start(sweep, 1)
        wait_for(lambda: (found := sweep.worker(0).said()) and found.trial is not None and found.done >= 10)
        sweep_library.stop(sweep)
        wait_for(lambda: not sweep.alive)
        assert sweep.progress().state == "stopped"
        stopped = [trial for trial in sweep.trials() if trial.state == "interrupted"]
        assert len(stopped) <= 1  # it may just have ended
        sweep_library.start(sweep, 1)
        wait_for(lambda: sweep.progress().state == "finished")
        assert len(sweep.trials()) == 4

    def test_say_what_they_do_and_why_they_failed(self, collection, tmp_path, monkeypatch):
        sweep = put_sweep(tmp_path / "sweep", tmp_path / "gone/collection.yaml")
        assert main([SweepWorker.KIND, str(sweep.path), "0"]) == 2
        assert sweep.progress().state == "failed"
        assert "gone" in sweep.progress().message
        assert "worker 0: failed" in sweep.log_tail()

    def test_keep_the_traceback_of_what_nobody_foresaw(self, collection, tmp_path, monkeypatch):
        sweep = put_sweep(tmp_path / "sweep", collection)
        monkeypatch.setattr(sweep_module, "work_on_sweep", lambda *args: 1 / 0)
        assert main([SweepWorker.KIND, str(sweep.path), "0"]) == 1
        assert sweep.progress().message == "ZeroDivisionError: division by zero"
        assert "Traceback" in sweep.log_tail()

    def test_are_one_each(self, collection, tmp_path, monkeypatch):
        sweep = put_sweep(tmp_path / "sweep", collection)
        monkeypatch.setattr("kdcore.jobs.locks.PATIENCE", 0.05)
        with holding(sweep.worker(0).lock, "taken"):
            assert main([SweepWorker.KIND, str(sweep.path), "0"]) == ALREADY_WORKED_ON
