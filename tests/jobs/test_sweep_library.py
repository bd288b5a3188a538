"""The sweeps of a workspace: made once, found, changed and deleted, and how long they would take. Nothing is trained."""

import threading
from statistics import mean

import pytest

from kdcore.errors import RunError, SettingsError
from kdcore.jobs import naming, sweep_library
from kdcore.jobs.forecast import Costs, sweep_seconds
from kdcore.jobs.job import hide
from kdcore.jobs.locks import holding
from kdcore.jobs.plan import pixels
from kdcore.jobs.status import Status
from kdcore.jobs.workspace import Workspace
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, SearchSpace, SweepSettings, TeacherSettings
from tests.training.sweeps import sweep_settings


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def sweep(workspace):
    return sweep_library.create(workspace, "Which alpha?", "demo", sweep_settings(), "first")


class TestMaking:
    def test_a_token_makes_one_sweep_and_a_title_many(self, workspace, sweep):
        assert sweep.id == "which-alpha"
        assert sweep_library.create(workspace, "Which alpha?", "demo", sweep_settings(), "first").id == sweep.id
        assert sweep_library.create(workspace, "Which alpha?", "demo", sweep_settings(), "second").id == "which-alpha-2"
        assert sweep.about.demo == 0
        assert sweep.collection == workspace.areas / "demo-0"

    def test_none_is_called_as_the_form_is_in_the_address(self, workspace):
        assert sweep_library.create(workspace, "New", "demo", sweep_settings(), "token").id == "new-2"

    def test_a_title_is_needed_and_a_form_that_failed_can_be_sent_again(self, workspace):
        with pytest.raises(SettingsError, match="the sweep needs a title"):
            sweep_library.create(workspace, " \n ", "demo", sweep_settings(), "token")
        assert sweep_library.create(workspace, "Now", "demo", sweep_settings(), "token").id == "now"

    def test_a_mistyped_database_is_told_before_anything_is_written(self, workspace):
        with pytest.raises(SettingsError):
            sweep_library.create(workspace, "Many", "demo", sweep_settings(storage="nonsense"), "token")
        assert not list(workspace.sweeps.glob("*"))

    def test_a_folder_appears_whole_or_not_at_all(self, tmp_path):
        def fill(folder):
            folder.mkdir()
            (folder / "half").touch()
            raise OSError("the disk is full")

        with pytest.raises(OSError, match="full"):
            naming.appear(tmp_path, "Title", "study", (), fill)
        assert not list(tmp_path.iterdir())

    def test_two_who_want_one_name_at_once_get_two(self, tmp_path):
        made, together = [], threading.Barrier(4)

        def fill(folder):
            folder.mkdir()
            (folder / "file").touch()
            together.wait(timeout=300)

        def make():
            made.append(naming.appear(tmp_path, "Title", "study", (), fill).name)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == ["title", "title-2", "title-3", "title-4"]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(made)


class TestFinding:
    def test_finds_what_there_is(self, workspace, sweep):
        assert sweep_library.find(workspace, sweep.id).settings == sweep.settings

    @pytest.mark.parametrize("id", ["another", "../which-alpha", "", "new"])
    def test_says_what_there_is_not(self, workspace, sweep, id):
        with pytest.raises(RunError, match="there is no such sweep"):
            sweep_library.find(workspace, id)


class TestChanging:
    def test_gives_it_more_trials(self, workspace, sweep):
        sweep_library.change(sweep, trials=40, confirm=2)
        found = sweep_library.find(workspace, sweep.id).settings
        assert (found.trials, found.confirm) == (40, 2)
        assert found.space == sweep.settings.space

    def test_refuses_what_makes_no_sense_and_one_that_runs(self, sweep):
        with pytest.raises(SettingsError):
            sweep_library.change(sweep, trials=-1)
        sweep.worker(0).write_status(Status(state="running"))
        with holding(sweep.worker(0).lock, "taken"), pytest.raises(RunError, match="is running"):
            sweep_library.change(sweep, trials=40)


class TestDeleting:
    def test_removes_all_of_it(self, workspace, sweep):
        sweep.worker(0).write_status(Status(state="stopped"))
        sweep_library.delete(sweep)
        assert not sweep.path.exists()
        assert not list(workspace.sweeps.iterdir())

    def test_one_that_runs_or_begins_to_run_stays(self, sweep):
        sweep.worker(0).write_status(Status(state="running"))
        for lock in (sweep.worker(0).lock, sweep.path / "launch.lock"):
            with holding(lock, "taken"), pytest.raises(RunError, match="Stop it first"):
                sweep_library.delete(sweep)
            assert sweep.settings_file.exists()

    def test_what_an_earlier_deletion_left_goes_with_the_next(self, workspace, sweep):
        other = sweep_library.create(workspace, "Other", "demo", sweep_settings(), "other")
        hide(other.path)  # and killed before the rest
        sweep_library.delete(sweep)
        assert not list(workspace.sweeps.iterdir())


class TestForecast:
    STEP = Budget(steps=100, batch_size=2, crop=64)
    COSTS = Costs(
        alone={("cpu", PRESETS["base"]): [3.0], ("cpu", PRESETS["tiny"]): [1.0], ("cpu", PRESETS["small"]): [2.0]},
        taught={("cpu", PRESETS[name], PRESETS["base"], 0): [cost] for name, cost in (("tiny", 1.1), ("small", 2.2))},
        overhead=[1.5],
    )

    def settings(self, **values) -> SweepSettings:
        teacher = TeacherSettings(network=PRESETS["base"], budget=self.STEP)
        base = {"teacher": teacher, "budget": self.STEP, "trials": 10, "confirm": 3, "hardware": Hardware(device="cpu")}
        return SweepSettings(**(base | {"space": SearchSpace(student="tiny")} | values))

    def test_by_hand(self):
        """A teacher, ten trials, and a confirmation of three seeds by two, shared by two workers."""
        step = pixels(self.STEP) * 100
        assert Recipe().teacher_sees == "scene"  # so the teacher's answers cost no step anything
        assert sweep_seconds(self.settings(), self.COSTS, 2) == pytest.approx(1.5 * step * (3 + 1.1 * 16 / 2))

    def test_students_of_several_sizes_count_by_their_mean(self):
        step = pixels(self.STEP) * 100
        both = self.settings(space=SearchSpace(student=["tiny", "small"]))
        assert sweep_seconds(both, self.COSTS, 1) == pytest.approx(1.5 * step * (3 + mean([1.1, 2.2]) * 16))

    def test_trials_of_a_fixed_time_take_that_time(self):
        seconds = sweep_seconds(self.settings(seconds=60.0), self.COSTS, 1)
        assert seconds == pytest.approx(1.5 * (3 * pixels(self.STEP) * 100 + 60 * 16))

    def test_what_was_not_measured_is_not_guessed(self):
        assert sweep_seconds(self.settings(), Costs(), 1) is None
        assert sweep_seconds(self.settings(space=SearchSpace(student="light")), self.COSTS, 1) is None

    def test_a_teacher_that_exists_is_not_trained(self, tmp_path):
        given = TeacherSettings(network=PRESETS["base"], checkpoints=(tmp_path / "best.safetensors",))
        step = pixels(self.STEP) * 100
        assert sweep_seconds(self.settings(teacher=given), self.COSTS, 1) == pytest.approx(1.5 * step * 1.1 * 16)
