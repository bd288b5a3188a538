"""Sweep: the form and its launch, every bad input, watching, what was found, and the way to Train."""

import json
from pathlib import Path

import pytest

from kdcore.errors import RunError
from kdcore.files import write_json
from kdcore.jobs.library import Library
from kdcore.jobs.locks import holding
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import PRESETS, STUDY_PRESETS, Range, SearchSpace
from kdcore.ui.sweep_choices import train_address
from tests.pages.conftest import HOSTILE, primary_buttons, words_of
from tests.training.sweeps import put_sweep

LUCK = {1: 0.50, 2: 0.52}  # the repeats of the centre
QUALITIES = {0: 0.49, **LUCK, 3: 0.61, 4: 0.33, 5: 0.47}


def button(at, label):
    return next(button for button in at.button if button.label == label)


@pytest.fixture
def launched(monkeypatch) -> list[tuple[str, int]]:
    """Sweeps whose workers were started, and how many; none really is."""
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr("kdcore.jobs.sweep_library.start", lambda sweep, workers: calls.append((sweep.id, workers)))
    return calls


def begin(workspace: Path, name: str = "first", **values) -> SweepFolder:
    """A sweep of six trials before any of them."""
    return put_sweep(workspace / "sweeps" / name, **({"space": SearchSpace(student="tiny")} | values))


def finish(sweep: SweepFolder, qualities: dict[int, float] = QUALITIES) -> SweepFolder:
    """All trials with those qualities, told as workers do; None ends a trial as failed."""
    claims = Claims(sweep)
    while (claim := claims.next()) is not None:
        claims.report(claim, 50, qualities[claim.number] / 2)
        claims.report(claim, 100, qualities[claim.number])
        measured = {"quality": qualities[claim.number], "size": 143_157.0, "latency": 120.0}
        claims.finish(claim, measured)
    return sweep


def running(sweep: SweepFolder, **status) -> None:
    """What a worker says that is alive."""
    sweep.worker(0).write_status(Status(state="running", **status))


class TestForm:
    def test_without_sweeps_says_what_one_is_and_has_one_main_button(self, empty_workspace, open_page):
        at = open_page("sweep")
        assert at.title[0].value == "Which temperature and alpha?"
        assert "whether it matters at all, given how much results vary between runs" in words_of(at)
        assert primary_buttons(at) == ["Start the sweep"]

    def test_one_click_searches_temperature_and_alpha_on_the_demo_area(
        self, empty_workspace, open_page, launched, monkeypatch
    ):
        monkeypatch.setattr("kdcore.ui.sweep_form.available_cores", lambda: 4)
        at = open_page("sweep")
        button(at, "Start the sweep").click().run()
        assert not at.exception
        assert launched == [("demo-area-which-temperature-and-alpha", 2)]
        sweep = SweepFolder(empty_workspace / "sweeps" / launched[0][0])
        assert sweep.about.demo == 0
        assert sweep.collection == Workspace().areas / "demo-0"  # the area that studies use, too
        assert sweep.settings.space == SearchSpace(student="tiny")
        assert sweep.settings.trials >= 20
        assert at.query_params["sweep"] == sweep.id

    def test_a_sweep_is_made_of_what_was_chosen(self, workspace, open_page, launched):
        Library(Workspace()).remember(workspace / ".areas/town")
        at = open_page(
            "sweep", data=str(workspace / ".areas/town"), trials="30", trial_steps="70", repeats="4", workers="1"
        )
        at.select_slider(key="temperatures").set_value((2.0, 8.0))
        at.select_slider(key="alphas").set_value((0.3, 0.9))
        at.button_group(key="students").set_value(["tiny", "small"])
        at.button_group(key="more").set_value(["learning_rate", "task"]).run()
        at.select_slider(key="rates").set_value((1e-3, 1e-2))
        at.button_group(key="objectives").set_value(["quality", "size"])
        at.select_slider(key="confirm").set_value(3)
        at.text_input(key="sweep title").set_value("My **first** sweep").run()
        button(at, "Start the sweep").click().run()
        assert not at.exception
        assert launched == [("my-first-sweep", 1)]
        sweep = SweepFolder(workspace / "sweeps/my-first-sweep")
        assert sweep.collection == workspace / ".areas/town"
        assert sweep.settings.space == SearchSpace(
            temperature=Range(low=2, high=8, log=True),
            alpha=Range(low=0.3, high=0.9),
            learning_rate=Range(low=1e-3, high=1e-2, log=True),
            student=("tiny", "small"),
            task=("cross_entropy", "cross_entropy+dice"),
        )
        settings = sweep.settings
        assert (settings.trials, settings.repeats, settings.confirm, settings.budget.steps) == (30, 4, 3, 70)
        assert settings.objectives == ("quality", "size")

    def test_a_budget_in_seconds_and_an_earlier_teacher(self, workspace, open_page, launched):
        checkpoint = workspace / "town/runs/teacher-s0/checkpoints/best.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        at = open_page("sweep", data=str(StudyFolder(workspace / "town").collection))
        at.selectbox(key="sweep teacher").set_value(str(checkpoint))
        at.button_group(key="budget").set_value("seconds").run()
        at.number_input(key="trial_seconds").set_value(45.0).run()
        button(at, "Start the sweep").click().run()
        settings = SweepFolder(workspace / "sweeps" / launched[0][0]).settings
        assert settings.seconds == 45
        assert settings.teacher.checkpoints == (checkpoint,)

    def test_objectives_that_cannot_be_measured_are_not_offered(self, workspace, open_page):
        at = open_page("sweep", objectives="Size")
        assert at.button_group(key="objectives").options == ["Quality"]
        assert "Size and latency can be objectives once several students are chosen." in words_of(at)
        at.button_group(key="students").set_value(["tiny", "small"]).run()
        assert at.button_group(key="objectives").options == ["Quality", "Size", "Latency"]

    def test_an_empty_search_space_gets_a_sentence_and_loses_nothing(self, workspace, open_page):
        at = open_page("sweep", trials="33")
        at.select_slider(key="temperatures").set_value((2.0, 2.0))
        at.select_slider(key="alphas").set_value((0.5, 0.5)).run()
        assert "the search space is empty" in words_of(at)
        assert "Start the sweep" not in [button.label for button in at.button]
        at.select_slider(key="alphas").set_value((0.5, 0.6)).run()
        assert at.number_input(key="trials").value == 33
        assert primary_buttons(at) == ["Start the sweep"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda at: at.number_input(key="trials").set_value(3), "3 trials are too few: 1 of the student alone and 3 repeats"),
            (lambda at: at.button_group(key="students").set_value([]), "student is empty"),
            (lambda at: at.button_group(key="objectives").set_value([]), "there is no objective"),
            (lambda at: at.number_input(key="trial_crop").set_value(100), "multiple of 32"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_gets_a_sentence(self, workspace, open_page, change, words):
        at = open_page("sweep")
        change(at).run()
        assert len(at.error) == 1
        assert words in words_of(at)
        assert "Start the sweep" not in [button.label for button in at.button]

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("postgresql://me:secret@127.0.0.1:1/trials", "127.0.0.1 does not answer at port 1"),
            ("trials.db", "is no database that a sweep can use"),
        ],
    )
    def test_a_database_that_does_not_answer_gets_a_sentence_and_loses_nothing(
        self, workspace, open_page, launched, url, words
    ):
        at = open_page("sweep", trials="33")
        at.text_input(key="storage").set_value(url).run()
        button(at, "Start the sweep").click().run()
        assert words in words_of(at)
        assert "secret" not in words_of(at)
        assert "--storage" not in words_of(at)
        assert launched == []
        assert not (workspace / "sweeps").exists()
        assert at.number_input(key="trials").value == 33

    def test_a_study_at_work_is_told(self, workspace, open_page):
        study = StudyFolder.begin(
            workspace / "begun", STUDY_PRESETS["quick"], About(title=HOSTILE, demo=0, created=3e9)
        )
        study.write_status(Status(state="running", device="cpu"))
        with holding(study.path / "alive.lock", "taken"):
            at = open_page("sweep")
        assert "1 study is running on this machine" in words_of(at)


class TestWatch:
    def test_a_running_sweep_tells_what_every_worker_does(self, workspace, open_page):
        sweep = begin(workspace)
        running(sweep, trial=None, stage="teacher-s0: training", done=12, total=300)
        with holding(sweep.worker(0).lock, "taken"):
            at = open_page("sweep", sweep="first")
        assert "Worker 1: teacher, seed 0: training, 12 of 300" in words_of(at)
        assert at.progress[0].text.replace("\\", "").startswith("0 of 6 trials have ended.")
        assert primary_buttons(at) == []

    def test_results_appear_while_it_runs(self, workspace, open_page):
        sweep = begin(workspace)
        claims = Claims(sweep)
        for quality in (0.49, 0.50, 0.52, 0.61):
            claims.finish(claims.next(), {"quality": quality, "size": 1.0, "latency": 1.0})
        running(sweep, trial=4, stage="trial 4: training", done=1, total=6)
        with holding(sweep.worker(0).lock, "taken"):
            at = open_page("sweep", sweep="first")
        assert at.progress[0].value == 66  # 4 of 6 trials
        assert [metric.label for metric in at.metric] == ["Best so far", "Student alone", "Teacher"]
        assert at.metric[0].value == "61.00"
        assert primary_buttons(at) == []

    def test_charts_are_drawn_anew_when_somebody_asks(self, workspace, open_page):
        """Streamlit builds a Plotly chart anew whenever its numbers change, and a zoom in it would be lost."""

        def trials_drawn() -> int:
            (chart,) = [chart for chart in at.get("plotly_chart") if "History" in chart.proto.id]
            return len(json.loads(chart.proto.spec)["data"][0]["ids"])

        def tell(quality: float) -> None:
            claims.finish(claims.next(), {"quality": quality, "size": 1.0, "latency": 1.0})

        sweep = begin(workspace, repeats=2)
        claims = Claims(sweep)
        tell(0.49)
        tell(0.50)
        running(sweep, trial=2, stage="trial 2: training", done=1, total=6)
        with holding(sweep.worker(0).lock, "taken"):
            at = open_page("sweep", sweep="first")
            assert trials_drawn() == 2
            tell(0.52)
            tell(0.61)
            at.run()
            assert trials_drawn() == 2
            assert at.metric[0].value == "61.00"  # what is said is of now
            button(at, "2 new trials").click().run()
            assert trials_drawn() == 3  # one of them has another seed
            assert "2 new trials" not in [button.label for button in at.button]
        tell(0.7)
        at.run()
        assert trials_drawn() == 4  # nothing runs any more: nobody has to ask

    def test_the_first_trial_is_drawn_unasked(self, workspace, open_page):
        sweep = begin(workspace)
        claims = Claims(sweep)
        claim = claims.next()
        running(sweep, trial=0, stage="trial 0: training", done=1, total=6)
        with holding(sweep.worker(0).lock, "taken"):
            at = open_page("sweep", sweep="first")
            assert not at.get("plotly_chart")
            claims.finish(claim, {"quality": 0.5, "size": 1.0, "latency": 1.0})
            at.run()
        assert [chart for chart in at.get("plotly_chart") if "History" in chart.proto.id]

    def test_stop_asks_the_workers_to_stop_and_says_so(self, workspace, open_page):
        sweep = begin(workspace)
        running(sweep)
        with holding(sweep.worker(0).lock, "taken"):
            at = open_page("sweep", sweep="first")
            button(at, "Stop").click().run()
        assert sweep.cancel_file.exists()
        assert at.progress[0].text.startswith("Stopping")
        assert button(at, "Stop").disabled

    def test_what_was_stopped_goes_on_with_as_many_workers(self, workspace, open_page, launched):
        sweep = begin(workspace)
        for index in range(3):
            sweep.worker(index).write_status(Status(state="stopped"))
        at = open_page("sweep", sweep="first")
        assert primary_buttons(at) == ["Resume"]
        button(at, "Resume").click().run()
        assert launched == [("first", 3)]

    def test_a_failed_sweep_shows_why_and_its_log(self, workspace, open_page):
        sweep = begin(workspace)
        sweep.worker(0).write_status(Status(state="failed", message="the disk is full. Free space, then resume."))
        sweep.log("the last words")
        at = open_page("sweep", sweep="first")
        assert "The disk is full. Free space, then resume." in words_of(at)
        assert "the last words" in at.code[0].value
        assert at.expander[-1].proto.expanded
        assert primary_buttons(at) == ["Resume"]

    def test_a_resume_that_is_not_possible_gets_a_sentence(self, workspace, open_page, monkeypatch):
        def fail(sweep, workers):
            raise RunError("first: is still saving its state. Start it again when it has stopped.")

        monkeypatch.setattr("kdcore.jobs.sweep_library.start", fail)
        begin(workspace).worker(0).write_status(Status(state="stopped"))
        at = open_page("sweep", sweep="first")
        button(at, "Resume").click().run()
        assert "is still saving its state" in words_of(at)

    def test_an_old_journal_gets_a_sentence(self, workspace, open_page):
        sweep = begin(workspace)
        sweep.journal.write_text('{"op_code": 99, "worker_id": "x"}\n')
        at = open_page("sweep", sweep="first")
        assert len(at.error) == 1
        assert "cannot be read as a journal of Optuna" in words_of(at)
        assert "--out" not in words_of(at)
        assert [button.label for button in at.button] == ["New sweep", "Delete …"]

    def test_a_sweep_that_is_not_there_is_told_and_another_one_shown(self, workspace, open_page):
        begin(workspace)
        at = open_page("sweep", sweep="gone")
        assert "There is no sweep “gone” on this machine (any more)." in words_of(at)
        assert at.query_params["sweep"] == "first"

    def test_several_sweeps_can_be_picked_and_another_begun(self, workspace, open_page):
        begin(workspace)
        begin(workspace, "second")
        at = open_page("sweep", sweep="first", trial="3")
        picker = at.selectbox(key="sweep picker")
        assert picker.options == ["sweep (first)", "sweep (second)"]
        picker.set_value("second").run()
        assert at.query_params["sweep"] == "second"
        assert "trial" not in at.query_params
        button(at, "New sweep").click().run()
        assert at.query_params["sweep"] == "new"
        assert primary_buttons(at) == ["Start the sweep"]

    def test_killed_trials_that_were_done_again_are_told(self, workspace, open_page):
        sweep = begin(workspace)
        Claims(sweep).next().lock.release()  # its worker is killed
        qualities = dict.fromkeys(range(7), 0.5)
        finish(sweep, qualities)
        at = open_page("sweep", sweep="first")
        assert "1 trial lost its worker and was done again." in words_of(at)


class TestResults:
    @pytest.fixture
    def sweep(self, workspace) -> SweepFolder:
        return finish(begin(workspace))

    def test_shows_the_best_beside_the_student_alone(self, sweep, open_page):
        at = open_page("sweep", sweep="first")
        assert [metric.value for metric in at.metric] == ["61.00", "49.00", "–"]
        assert at.metric[1].delta == "the best trial has +12.00 points"
        assert at.metric[0].delta.startswith("trial 3: temperature ")
        assert primary_buttons(at) == ["Use these settings"]

    def test_says_large_whether_the_settings_matter(self, workspace, open_page):
        luck = {0: 0.49, 1: 0.20, 2: 0.90, **{number: 0.50 + 0.01 * (number % 2) for number in range(3, 14)}}
        finish(begin(workspace, trials=14, pruning=False), luck)  # seeds differ by 70 points, settings by 1 to 31
        at = open_page("sweep", sweep="first")
        heading = next(m.value for m in at.markdown if m.value.startswith("####"))
        assert "The settings do not matter here." in heading

    def test_says_large_that_six_trials_are_too_few_to_say(self, workspace, open_page):
        luck = {0: 0.49, 1: 0.40, 2: 0.60, 3: 0.50, 4: 0.51, 5: 0.49}
        finish(begin(workspace), luck)
        at = open_page("sweep", sweep="first")
        heading = next(m.value for m in at.markdown if m.value.startswith("####"))
        assert "It is too early to say whether the settings matter." in heading
        assert "4 trials with different settings have finished, a verdict takes 10" in words_of(at)

    def test_has_every_figure_with_a_sentence_and_a_text_for_who_cannot_see_it(self, sweep, open_page):
        at = open_page("sweep", sweep="first")
        charts = at.get("plotly_chart")
        assert [subheader.value for subheader in at.subheader] == [
            "Temperature and alpha", "Trial 3: the best", "Settings or seeds?", "Importance", "History", "Learning curves",
            "Each setting", "All settings at once", "Trials",
        ]  # fmt: skip
        assert len(charts) == 6  # importances come with ten trials of the search; trial 3 left no curve of its own
        assert all(chart.proto.alt for chart in charts)
        assert "importances are told from 10 on" in words_of(at)

    def test_several_students_have_a_front(self, workspace, open_page):
        space = SearchSpace(student=("tiny", "small"))
        finish(begin(workspace, space=space, trials=8), dict.fromkeys(range(8), 0.5))
        at = open_page("sweep", sweep="first")
        assert "Quality against parameters" in [subheader.value for subheader in at.subheader]

    def test_the_table_has_a_row_a_trial(self, sweep, open_page):
        at = open_page("sweep", sweep="first")
        table = at.dataframe[0].value
        assert list(table["Trial"]) == [0, 1, 2, 3, 4, 5]
        assert list(table["What"])[:3] == ["student alone", "repeat, seed 0", "repeat, seed 1"]
        assert list(table["Mean AP"]) == pytest.approx([49, 50, 52, 61, 33, 47])

    def test_the_address_names_the_trial_that_is_looked_at(self, sweep, open_page):
        at = open_page("sweep", sweep="first", trial="4")
        assert "Trial 4" in [subheader.value for subheader in at.subheader]
        assert "Mean AP 33.00." in words_of(at)

    def test_can_be_downloaded(self, sweep, open_page):
        at = open_page("sweep", sweep="first")
        assert [download.proto.label for download in at.get("download_button")] == ["Report (JSON)", "Trials (CSV)"]


class TestUseTheseSettings:
    def test_the_train_page_launches_exactly_the_trials_settings(self, workspace, open_page, launched, started):
        space = SearchSpace(
            student=("tiny", "small"),
            learning_rate=Range(low=1e-4, high=1e-2, log=True),
            task=("cross_entropy", "cross_entropy+dice"),
            distillation=("pixel", "channel"),
            hint=(0.5, 2.0),
        )
        sweep = finish(begin(workspace, space=space, trials=14), {number: 0.3 + 0.01 * number for number in range(14)})
        at = open_page("sweep", sweep="first")
        button(at, "Use these settings").click().run()
        assert not at.exception
        assert button(at, "Launch")  # AppTest forgets at the next run that the page was switched, so it is opened again
        at = open_page("train", **train_address(sweep.settings, sweep.trials()[13], 10, "demo"))
        button(at, "Launch").click().run()
        assert not at.exception
        settings = Workspace().study(started[0]).settings
        trial = sweep.trials()[13]
        recipe = settings.recipe
        assert {
            "temperature": recipe.temperature, "alpha": recipe.alpha, "task": recipe.task,
            "distillation": recipe.distillation, "learning_rate": settings.budget.learning_rate, "hint": recipe.hint,
        } == {name: value for name, value in trial.params.items() if name != "student"}  # fmt: skip
        assert settings.student == PRESETS[trial.params["student"]]
        budget = sweep.settings.budget
        assert (settings.budget.steps, settings.budget.batch_size, settings.budget.crop) == (
            10,
            budget.batch_size,
            budget.crop,
        )

    def test_a_student_that_train_does_not_offer_is_told(self, workspace, open_page):
        finish(begin(workspace, space=SearchSpace(student="unet/tu-test_resnet")))
        at = open_page("sweep", sweep="first")
        assert "The Train page offers the named students only" in words_of(at)
        assert "Use these settings" not in [button.label for button in at.button]


class TestActions:
    @pytest.fixture
    def sweep(self, workspace) -> SweepFolder:
        return finish(begin(workspace))

    def test_confirm_trains_the_best_and_the_default_from_fresh_seeds(self, sweep, open_page, launched):
        at = open_page("sweep", sweep="first")
        button(at, "Confirm with 3 fresh seeds").click().run()
        assert not at.exception
        assert sweep.settings.confirm == 3
        assert [id for id, _ in launched] == ["first"]

    def test_the_confirmation_is_shown_with_its_sentence(self, sweep, open_page):
        words = "Not confirmed, no detectable difference: the best setting against the default."
        compared = {"verdict": "no detectable difference"}
        write_json(sweep.path / "confirm/report.json", {"comparison": compared, "sentence": words})
        at = open_page("sweep", sweep="first")
        assert words in words_of(at)
        assert "The test split was read once" in words_of(at)
        assert not any(button.label.startswith("Confirm") for button in at.button)

    def test_more_trials_extend_it(self, sweep, open_page, launched):
        at = open_page("sweep", sweep="first")
        at.number_input(key="more trials").set_value(4).run()
        button(at, "Go on with them").click().run()
        assert sweep.settings.trials == 10
        assert [id for id, _ in launched] == ["first"]

    def test_delete_asks_once_more(self, sweep, open_page):
        at = open_page("sweep", sweep="first")
        button(at, "Delete …").click().run()
        assert "This cannot be undone." in words_of(at)
        assert "database" not in words_of(at)
        assert {"Delete", "Keep"} <= {button.label for button in at.button}
        assert sweep.path.exists()

    def test_what_a_database_holds_is_said_to_stay(self, empty_workspace, open_page):
        url = f"sqlite:///{empty_workspace}/trials.db"
        finish(begin(empty_workspace, storage=url))
        at = open_page("sweep", sweep="first")
        button(at, "Delete …").click().run()
        assert "What the database holds of it stays there" in words_of(at)
