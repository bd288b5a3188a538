"""Train: presets, knobs and their pictures, launching, watching."""

import json
import shlex
import shutil
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kdcore.cli.choices import study_settings
from kdcore.errors import RunError
from kdcore.jobs.library import Library
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.recipes import EVIDENCE
from kdcore.settings import ADDED, PRESETS, RECIPES, STUDY_PRESETS
from kdcore.ui import words
from kdcore.ui.choices import network_name
from kdcore.ui.timing import tell_measuring
from tests.pages.conftest import primary_buttons, text_of, words_of


def button(at, label):
    return next(button for button in at.button if button.label == label)


def begin_study(workspace: Path, state: str, **job) -> StudyFolder:
    """A study of the quick preset in some state, without a worker."""
    about = About(title=f"A {state} study", demo=0, created=3e9)
    study = StudyFolder.begin(workspace / "begun", STUDY_PRESETS["quick"], about)
    study.write_status(Status(state=state, device="cpu", **job))
    return study


class TestForm:
    def test_a_preset_sets_every_knob(self, workspace, open_page):
        at = open_page("train")
        at.segmented_control(key="preset").set_value("standard").run()
        preset = STUDY_PRESETS["standard"]
        assert at.number_input(key="steps").value == preset.budget.steps
        assert at.number_input(key="teacher_steps").value == preset.teacher.budget.steps
        assert at.number_input(key="crop").value == preset.budget.crop
        assert PRESETS[at.select_slider(key="student").value] == preset.student

    def test_the_formula_holds_the_chosen_numbers(self, workspace, open_page):
        at = open_page("train", temperature="4", alpha="0.3")
        assert (
            at.latex[0].value.strip("$\n") == r"\text{loss} = 0.7 \times \text{task} + 0.3 \times 16 \times \text{KL}"
        )

    def test_alpha_zero_is_said_to_be_the_student_alone(self, workspace, open_page):
        at = open_page("train")
        at.select_slider(key="alpha").set_value(0.0).run()
        assert "this is the student alone" in words_of(at)

    def test_a_real_pixel_shows_what_temperature_does(self, workspace, open_page):
        data = str(StudyFolder(workspace / "town").collection)
        at = open_page("train", temperature="20", data=data)
        assert at.selectbox(key="data").value == data
        sentence = next(c.value for c in at.caption if c.value.startswith("The teacher gives"))
        assert "At temperature 20 the student hears" in sentence
        before, after = (int(part.split("\u00a0%")[0].split()[-1]) for part in sentence.split("At temperature 20"))
        assert after < before  # softer

    def test_the_pixel_is_one_of_the_chosen_data(self, workspace, open_page):
        """The finished studies are on other data than the demo area, with other classes."""
        assert "Once a study on these data is finished" in words_of(open_page("train", data="demo"))

    def test_without_a_finished_study_there_is_no_pixel_yet(self, empty_workspace, open_page):
        assert "Once a study on these data is finished" in words_of(open_page("train"))

    def test_the_address_sets_the_form(self, workspace, open_page):
        at = open_page("train", preset="Standard", temperature="6", alpha="0.9", seeds="5")
        assert at.select_slider(key="temperature").value == 6
        assert at.select_slider(key="alpha").value == 0.9
        assert at.segmented_control(key="seeds").value == 5
        assert at.number_input(key="steps").value == STUDY_PRESETS["standard"].budget.steps

    def test_fewer_than_three_seeds_are_warned_about(self, workspace, open_page):
        at = open_page("train")
        assert "verdict is weak" not in words_of(at)
        at.segmented_control(key="seeds").set_value(2).run()
        assert "verdict is weak" in words_of(at)

    def test_without_measurements_no_time_is_made_up(self, empty_workspace, open_page):
        at = open_page("train")
        assert "were not measured on this machine yet" in words_of(at)
        assert "Measure" in [button.label for button in at.button]

    def test_space_for_the_teacher_s_answers_is_told_before_they_are_computed(self, empty_workspace, open_page):
        at = open_page("train")
        assert "soft labels of eight views take 385.4 MB on the disk" in words_of(at)
        at.selectbox(key="views").set_value("one").run()
        assert "soft labels of one view take 48.2 MB" in words_of(at)
        at.select_slider(key="alpha").set_value(0.0).run()
        assert "on the disk" not in words_of(at)

    def test_measuring_is_asked_for_and_what_goes_wrong_is_said(self, empty_workspace, open_page, monkeypatch):
        def fail(asked, progress):
            progress(Progress("distilled", Stage.TIMING_STEPS, 1, 3, subject=f"{empty_workspace}/.areas/demo-0"))
            raise RunError(f"{empty_workspace}/.devices: a study uses the device now.")

        monkeypatch.setattr("kdcore.jobs.question.Measurement.ask", fail)
        at = open_page("train")
        button(at, "Measure").click().run()
        assert not at.exception
        assert at.error[0].value == "\\.devices\\: a study uses the device now\\."
        assert str(empty_workspace) not in words_of(at)
        assert {"Measure", "Launch"} <= {button.label for button in at.button}  # where they were

    def test_which_network_is_measured_is_told_without_files(self):
        place = MagicMock()
        tell_measuring(Progress("distilled", Stage.TIMING_STEPS, subject="/secret/place"), place)
        (said,), _ = place.caption.call_args
        assert said == "Distilled student\\: measuring how long steps take …"

    def test_data_that_do_not_exist_are_not_chosen_from_the_address(self, workspace, open_page):
        at = open_page("train", data="/etc/passwd")
        assert at.selectbox(key="data").value == "demo"

    def test_settings_that_do_not_fit_get_a_sentence_instead_of_a_launch(self, workspace, open_page):
        at = open_page("train")
        at.number_input(key="crop").set_value(100).run()
        assert "multiple of 32" in at.error[0].value
        assert "Launch" not in [button.label for button in at.button]


class TestRecipe:
    def test_sets_temperature_and_alpha_and_says_what_speaks_for_it(self, workspace, open_page):
        at = open_page("train")
        assert at.segmented_control(key="recipe").value == "unlabelled"  # the demo area has a district without labels
        assert EVIDENCE["unlabelled"] in text_of(at)
        at.segmented_control(key="recipe").set_value("patient").run()
        assert not at.exception
        assert (at.select_slider(key="temperature").value, at.select_slider(key="alpha").value) == (1, 1)
        assert words.RECIPES["patient"] in text_of(at)
        assert EVIDENCE["patient"] in text_of(at)

    def test_is_launched_as_a_whole(self, workspace, open_page, started):
        at = open_page("train", recipe="Unlabelled")
        button(at, "Launch").click().run()
        assert Workspace().study(started[0]).settings.recipe == RECIPES["unlabelled"]

    def test_that_needs_unlabelled_imagery_is_offered_where_there_is_some(self, workspace, open_page):
        town = str(StudyFolder(workspace / "town").collection)
        at = open_page("train", data=town)
        assert "Unlabelled" not in at.segmented_control(key="recipe").options
        assert "needs imagery without labels" in words_of(at)
        assert "Mean-teacher" not in at.segmented_control(key="recipe").options
        at.number_input(key="labels").set_value(25).run()
        assert {"Unlabelled", "Augmented"} <= set(at.segmented_control(key="recipe").options)
        assert "needs imagery without labels" not in words_of(at)

    def test_that_is_recommended_follows_the_data_until_another_is_chosen(self, workspace, open_page):
        town = str(StudyFolder(workspace / "town").collection)
        at = open_page("train", data=town)
        recipe = at.segmented_control(key="recipe")
        assert (recipe.value, at.select_slider(key="alpha").value) == ("classic", RECIPES["classic"].alpha)
        at.selectbox(key="data").set_value("demo").run()
        assert at.segmented_control(key="recipe").value == "unlabelled"
        assert at.select_slider(key="alpha").value == RECIPES["unlabelled"].alpha
        at.segmented_control(key="recipe").set_value("channel-wise").run()
        at.selectbox(key="data").set_value(town).run()
        assert at.segmented_control(key="recipe").value == "channel-wise"

    def test_that_is_recommended_is_not_to_leave_labels_unused(self, workspace, open_page):
        at = open_page("train", data=str(StudyFolder(workspace / "town").collection))
        at.number_input(key="labels").set_value(25).run()
        assert "Unlabelled" in at.segmented_control(key="recipe").options
        assert at.segmented_control(key="recipe").value == "classic"
        assert "share of the labels under" not in words_of(at)

    def test_of_an_address_with_a_share_of_the_labels_is_kept(self, workspace, open_page, started):
        town = str(StudyFolder(workspace / "town").collection)
        at = open_page("train", data=town, labels="25", recipe="Unlabelled")
        button(at, "Launch").click().run()
        settings = Workspace().study(started[0]).settings
        assert (settings.labels, settings.recipe) == (0.25, RECIPES["unlabelled"])

    def test_of_an_old_address_is_found_under_its_new_name(self, workspace, open_page, started):
        at = open_page("train", recipe="Features")
        assert at.segmented_control(key="recipe").value == "channel-wise"
        assert "'features' is called 'channel-wise' now" in words_of(at)
        button(at, "Launch").click().run()
        assert Workspace().study(started[0]).settings.recipe == RECIPES["channel-wise"]

    def test_that_is_recommended_leaves_the_knobs_of_the_address_alone(self, workspace, open_page):
        at = open_page("train", temperature="6", alpha="0.3")
        assert at.segmented_control(key="recipe").value == "unlabelled"
        assert (at.select_slider(key="temperature").value, at.select_slider(key="alpha").value) == (6, 0.3)

    def test_that_is_not_offered_any_more_gives_way_to_the_preset_s(self, workspace, open_page):
        at = open_page("train", recipe="unlabelled")
        assert at.segmented_control(key="recipe").value == "unlabelled"
        at.selectbox(key="data").set_value(str(StudyFolder(workspace / "town").collection)).run()
        assert not at.exception
        assert at.segmented_control(key="recipe").value == "classic"
        assert at.select_slider(key="alpha").value == 0.5

    def test_of_one_s_own_has_a_knob_for_each_part(self, workspace, open_page, started):
        at = open_page("train")
        assert "Mix crops" not in [box.label for box in at.selectbox]
        at.segmented_control(key="recipe").set_value("own").run()
        at.number_input(key="channels").set_value(2.5)
        at.selectbox(key="mix").set_value("cutmix")
        at.selectbox(key="augment").set_value("all")
        at.number_input(key="confidence").set_value(0.9)
        button(at, "Launch").click().run()
        recipe = Workspace().study(started[0]).settings.recipe
        assert (recipe.channels, recipe.mix, recipe.alpha) == (2.5, "cutmix", 0.5)
        assert (recipe.augment, recipe.confidence) == ("all", 0.9)

    def test_of_one_s_own_has_a_knob_for_each_added_loss(self, workspace, open_page, started):
        """One that compares features has the teacher asked at each step, without a word about it."""
        at = open_page("train")
        at.segmented_control(key="recipe").set_value("own").run()
        weights = {name: 0.5 * number for number, name in enumerate(ADDED, 1)}
        for name, weight in weights.items():
            assert at.number_input(key=name).label == ADDED[name].label
            at.number_input(key=name).set_value(weight)
        button(at, "Launch").click().run()
        recipe = Workspace().study(started[0]).settings.recipe
        assert (recipe.weights, recipe.teacher_sees) == (weights, "crop")

    def test_settings_of_the_address_are_launched(self, workspace, open_page, started):
        at = open_page("train", labels="10", teacher_seeds="2", teacher_flips="true", match="seconds", views="one")
        button(at, "Launch").click().run()
        settings = Workspace().study(started[0]).settings
        assert settings.hardware.cache_views == "one"
        assert (settings.labels, settings.match) == (0.1, "seconds")
        assert (settings.teacher.seeds, settings.teacher.flips) == ((0, 1), True)


class TestLaunch:
    def test_a_study_is_made_of_what_was_chosen(self, workspace, open_page, started):
        Library(Workspace()).remember(workspace / ".areas/town")
        at = open_page(
            "train", data=str(workspace / ".areas/town"), temperature="8", alpha="0.2", steps="70", seeds="2"
        )
        at.text_input(key="title").set_value("My **first** try")
        button(at, "Launch").click().run()
        assert not at.exception
        assert started == ["my-first-try"]
        study = Workspace().study("my-first-try")
        assert study.collection == workspace / ".areas/town"
        recipe = study.settings.recipe
        assert (recipe.temperature, recipe.alpha, study.settings.seeds) == (8, 0.2, (0, 1))
        assert study.settings.budget.steps == 70
        assert at.query_params["study"] == "my-first-try"
        assert words_of(at).startswith("My **first** try")

    def test_several_shares_of_the_labels_are_a_study_each(self, workspace, open_page, started):
        at = open_page("train", preset="quick", recipe="classic")
        at.text_input(key="title").set_value("Town")
        at.number_input(key="labels").set_value(50)
        at.multiselect(key="shares").set_value([10, 100]).run()
        assert "3 studies, one for each share; the teacher is trained once." in words_of(at)
        button(at, "Launch").click().run()
        made = [Workspace(workspace).study(name) for name in started]
        assert [(study.title, study.settings.labels) for study in made] == [
            ("Town: 10 % of the labels", 0.1),
            ("Town: 50 % of the labels", 0.5),
            ("Town: 100 % of the labels", 1.0),
        ]
        first, *others = [study.settings.model_dump(exclude={"labels"}) for study in made]
        assert others == [first, first]
        assert not first["upper_bound"]

    def test_without_a_name_one_is_made_from_the_settings(self, workspace, open_page, started):
        at = open_page("train", temperature="3", alpha="0.7")
        button(at, "Launch").click().run()
        assert started == ["demo-area-t-3-alpha-0-7"]

    def test_a_launch_that_fails_gets_a_sentence(self, workspace, open_page, monkeypatch):
        def fail(*arguments):
            raise RunError("the disk is full. Free space, then launch again.")

        monkeypatch.setattr("kdcore.jobs.launch.create", fail)
        at = open_page("train")
        button(at, "Launch").click().run()
        assert not at.exception
        assert "the disk is full. Free space, then launch again." in words_of(at)

    def test_a_workspace_that_cannot_be_read_gets_a_sentence(self, open_page, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "file/studies"))
        assert "the workspace cannot be read" in words_of(open_page("train"))

    def test_an_earlier_teacher_can_be_reused(self, workspace, open_page, started):
        checkpoint = workspace / "town/runs/teacher-s0/checkpoints/best.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        at = open_page("train", data=str(StudyFolder(workspace / "town").collection))
        at.selectbox(key="teacher").set_value(str(checkpoint)).run()
        button(at, "Launch").click().run()
        teacher = Workspace().study(started[0]).settings.teacher
        assert teacher.checkpoints == (checkpoint,)
        assert teacher.network == StudyFolder(workspace / "town").settings.teacher.network

    def test_teachers_of_studies_with_one_name_are_told_apart(self, workspace, open_page):
        town, other = StudyFolder(workspace / "town"), StudyFolder(workspace / "hostile")
        other.write_about(other.about.model_copy(update={"title": town.title, "collection": town.about.collection}))
        for study in (town, other):
            (study.path / "runs/teacher-s0/checkpoints").mkdir(parents=True)
            (study.path / "runs/teacher-s0/checkpoints/best.safetensors").touch()
        options = open_page("train", data=str(town.collection)).selectbox(key="teacher").options
        reused = [option for option in options if option.startswith("Reuse")]
        assert len(reused) == len(set(reused)) == 2
        assert all(study.id in "".join(reused) for study in (town, other))


class TestWatch:
    def test_the_command_runs_the_same_study(self, workspace, open_page):
        at = open_page("train", study="town")
        settings, command = (block.value for block in at.code[-2:])
        study = StudyFolder(workspace / "town")
        assert settings == study.settings_file.read_text().strip()
        words = shlex.split(command)
        assert words[:2] == ["kdcore", "study"]
        assert words[2] == str(study.collection)
        assert study_settings("quick", Path(words[words.index("--settings") + 1]), {}) == study.settings

    def test_a_running_study_tells_what_it_does(self, workspace, open_page):
        study = begin_study(workspace, "running", stage="alone-s1: training", done=120, total=300)
        with holding(study.path / "alive.lock", "taken"):
            at = open_page("train", study="begun")
        assert "Student alone, seed 1: training, 120 of 300" in at.progress[0].text.replace("\\", "")
        assert [button.label for button in at.button] == ["Stop training"]

    def test_the_bar_grows_with_every_step_and_nothing_is_said_to_be_over_while_it_is_scored(
        self, workspace, open_page
    ):
        run = workspace / "begun/runs/teacher-s0"
        steps = STUDY_PRESETS["quick"].teacher.budget.steps
        shown = []
        for stage, step in (("training", 100), ("training", 200), ("scoring test", steps)):
            shutil.rmtree(workspace / "begun", ignore_errors=True)
            study = begin_study(workspace, "running", stage=stage, run="teacher-s0", done=1, total=4)
            run.mkdir(parents=True)
            values = {"state": "running", "step": step, "steps": steps, "seconds": step / 10, "elapsed": step / 10}
            (run / "status.json").write_text(json.dumps(values | {"updated": time.time()}))
            with holding(study.path / "alive.lock", "taken"):
                at = open_page("train", study="begun")
            shown.append(at.progress[0].value)
            assert "Time left: roughly" in at.progress[0].text
        assert 0 < shown[0] < shown[1] < shown[2] < 100

    def test_scores_are_explained_where_there_are_any(self, workspace, open_page):
        run = begin_study(workspace, "stopped").path / "runs/teacher-s0"
        run.mkdir(parents=True)
        (run / "status.json").write_text(json.dumps({"state": "stopped", "step": 20, "steps": 500}))
        said = []
        for line in ({"step": 10, "loss": 0.6}, {"step": 20, "validation_mean_ap": 0.7}):
            with (run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            said.append(text_of(open_page("train", study="begun")))
        assert ["This is where arms can be compared." in text for text in said] == [False, True]
        assert ["Scores appear here with the first validation." in text for text in said] == [True, False]

    def test_a_waiting_study_tells_its_place_in_the_queue(self, workspace, open_page):
        first = StudyFolder.begin(workspace / "first", STUDY_PRESETS["quick"], About(title="First", demo=0))
        first.write_status(Status(state="queued", device="cpu", queued=1.0, launched=4e9))
        second = begin_study(workspace, "queued", queued=2.0, launched=4e9)
        with holding(first.path / "alive.lock", "taken"), holding(second.path / "alive.lock", "taken"):
            at = open_page("train", study="begun")
        assert "1 study before this one" in at.progress[0].text

    def test_stop_asks_the_worker_to_stop_and_says_so(self, workspace, open_page):
        study = begin_study(workspace, "running", stage="teacher-s0: training", done=1, total=300)
        with holding(study.path / "alive.lock", "taken"):
            at = open_page("train", study="begun")
            button(at, "Stop training").click().run()
        assert study.cancel_file.exists()
        assert at.progress[0].text.startswith("Stopping")
        assert button(at, "Stop training").disabled

    @pytest.mark.parametrize("state", ["stopped", "failed", "running"])  # 'running' without a process: interrupted
    def test_what_does_not_run_can_be_resumed(self, state, workspace, open_page, monkeypatch):
        resumed = []
        monkeypatch.setattr(StudyFolder, "resume", lambda study: resumed.append(study.id))
        begin_study(workspace, state, message="It went wrong.")
        at = open_page("train", study="begun")
        assert primary_buttons(at) == ["Resume"]
        button(at, "Resume").click().run()
        assert resumed == ["begun"]

    def test_a_failed_study_shows_why_and_its_log(self, workspace, open_page):
        study = begin_study(workspace, "failed", message="The disk is full. Free space, then resume.")
        study.log("the last words")
        at = open_page("train", study="begun")
        assert "The disk is full. Free space, then resume." in words_of(at)
        assert "the last words" in at.code[0].value
        assert at.expander[0].proto.expanded

    def test_a_finished_study_shows_its_result_and_ticks_no_more(self, workspace, open_page):
        at = open_page("train", study="town")
        assert [metric.label for metric in at.metric][:2] == ["Score out of 100", "Size"]
        assert primary_buttons(at) == ["See the map"]
        assert len(at.get("vega_lite_chart")) == 2

    def test_that_it_is_too_early_is_said_once(self, workspace, open_page):
        file = workspace / "town/report.json"
        report = json.loads(file.read_text())
        report["comparison"] |= {
            "verdict": "too early to say",
            "sentence": "Too early to say: the student came out below.",
        }
        file.write_text(json.dumps(report))
        said = words_of(open_page("train", study="town"))
        assert "Too early to say] The student came out below." in said
        assert said.lower().count("too early to say") == 1

    def test_another_study_begins_with_the_same_data(self, workspace, open_page):
        at = open_page("train", study="town")
        button(at, "Start another study").click().run()
        assert at.selectbox(key="data").value == str(StudyFolder(workspace / "town").collection)

    def test_a_broken_study_says_what_is_wrong(self, workspace, open_page):
        study = begin_study(workspace, "running")
        study.settings_file.write_text("budget: [")
        at = open_page("train", study="begun")
        assert "is no valid YAML" in text_of(at).replace("\\", "")

    def test_studies_at_work_are_offered_to_be_watched(self, workspace, open_page):
        study = begin_study(workspace, "running")
        with holding(study.path / "alive.lock", "taken"):
            at = open_page("train")
        assert "A running study" in words_of(at)
        assert "Watch" in [link.value for link in at.page_link]


class TestATeacherThatCanHardlyTeach:
    SENTENCE = "The teacher is only 0.8 points better than the student alone on validation (-0.5 to +2.1): it can hardly teach anything."

    def report(self, workspace, clear):
        file = workspace / "town/report.json"
        report = json.loads(file.read_text())
        report["teacher_advantage"] = {"clear": clear, "sentence": self.SENTENCE}
        file.write_text(json.dumps(report))

    def test_is_told_while_the_distilled_student_is_trained(self, workspace, open_page):
        study = begin_study(workspace, "running", stage="distilled-s0: training", done=1, total=300)
        study.advantage_file.write_text(json.dumps({"clear": False, "sentence": self.SENTENCE}))
        with holding(study.path / "alive.lock", "taken"):
            at = open_page("train", study="begun")
        assert self.SENTENCE in words_of(at)
        assert [found.label for found in at.button] == ["Stop training"]

    def test_can_be_trained_on_once_the_study_is_finished(self, workspace, open_page, started):
        self.report(workspace, clear=False)
        best = workspace / "town/runs/teacher-s0/checkpoints/best.safetensors"
        best.parent.mkdir(parents=True)
        best.touch()
        at = open_page("train", study="town")
        assert self.SENTENCE in words_of(at)
        assert primary_buttons(at) == ["See the map"]
        button(at, "Continue training the teacher").click().run()
        assert not at.exception
        assert started == ["town-first-try-teacher-trained-on"]
        before, after = StudyFolder(workspace / "town"), Workspace().study(started[0])
        assert after.collection == before.collection
        assert after.settings.teacher.start == (best,)
        assert after.settings.teacher.budget.steps == 2 * before.settings.teacher.budget.steps
        assert after.settings.student == before.settings.student
        assert at.query_params["study"] == started[0]

    def test_whose_weights_are_gone_gets_a_sentence(self, workspace, open_page, started):
        self.report(workspace, clear=False)
        at = open_page("train", study="town")
        button(at, "Continue training the teacher").click().run()
        assert started == []
        assert "weights are not there any more" in words_of(at)

    def test_a_clearly_better_teacher_needs_no_word(self, workspace, open_page):
        self.report(workspace, clear=True)
        at = open_page("train", study="town")
        assert self.SENTENCE not in words_of(at)
        assert "Continue training the teacher" not in [found.label for found in at.button]

    def test_is_told_before_it_is_reused(self, workspace, open_page):
        """The teacher's scores are those of the student alone, so it cannot be better."""
        runs = workspace / "town/runs"
        checkpoint = runs / "teacher-s0/checkpoints/best.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        shutil.copy(runs / "alone-s0/scores-validation.npz", runs / "teacher-s0/scores-validation.npz")
        for run in runs.iterdir():
            report = json.loads((run / "report.json").read_text())
            (run / "report.json").write_text(json.dumps(report | {"data": "the same"}))
        town = StudyFolder(workspace / "town")
        at = open_page("train", data=str(town.collection), student=network_name(town.settings.student))
        assert "it can hardly teach anything" not in words_of(at)
        at.selectbox(key="teacher").set_value(str(checkpoint)).run()
        assert not at.exception
        assert "it can hardly teach anything" in words_of(at)
        assert "The student alone is that of \u201cTown, first try\u201d." in words_of(at)
        at.select_slider(key="student").set_value("medium").run()  # of which no study tells anything
        assert "it can hardly teach anything" not in words_of(at)


class TestWatchedCrop:
    """The pictures that trainings write of one place."""

    def draw(self, run: Path, step: str) -> None:
        texts = PngInfo()
        texts.add_text("step", step)
        run.joinpath("watched").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(run / "watched/prediction.png", pnginfo=texts)

    def shown(self, at) -> str:
        return next((part.proto.body for part in at.get("html") if 'class="kdcore-watched"' in part.proto.body), "")

    def test_an_older_study_shows_none(self, workspace, open_page):
        assert self.shown(open_page("train", study="town")) == ""

    def test_each_arm_has_its_latest_picture_with_its_step(self, workspace, open_page):
        self.draw(workspace / "town/runs/teacher-s0", "300")
        self.draw(workspace / "town/runs/distilled-s0", "100")
        body = self.shown(open_page("train", study="town"))
        assert 'alt="Teacher, step 300 of 400"' in body
        assert 'alt="Distilled student, step 100 of 400"' in body
        assert 'aria-label="Student alone, no picture yet"' in body
        assert 'aria-label="Photo"' in body  # there is none, so an empty frame

    @pytest.mark.parametrize("step", ["<img src=x>", "-1", "9" * 30, ""])
    def test_what_is_no_step_and_no_picture_is_left_out(self, workspace, open_page, step):
        self.draw(workspace / "town/runs/teacher-s0", step)
        (workspace / "town/runs/alone-s0/watched").mkdir()
        (workspace / "town/runs/alone-s0/watched/prediction.png").write_bytes(b"<svg onload=alert(1)>")
        body = self.shown(open_page("train", study="town"))
        assert "<img src=x>" not in body
        assert "svg" not in body
        assert 'aria-label="Student alone, no picture yet"' in body
