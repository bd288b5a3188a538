import json
import time

import pytest

from kdcore.errors import RunError
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.settings import Hardware
from tests.jobs.studies import put_study, tiny_study


@pytest.fixture
def study(tmp_path):
    return put_study(tmp_path / "studies/one", title="One <b>")


class TestTheStateOfItsJob:
    def test_is_what_the_file_says_where_that_can_be_true(self, study):
        for state in ("finished", "failed", "stopped"):
            study.write_status(Status(state=state, message="a sentence"))
            assert (study.job.state, study.job.message) == (state, "a sentence")

    @pytest.mark.parametrize("file", ["steps.json", "advantage.json"])
    def test_is_broken_where_a_file_that_every_look_reads_is(self, study, file):
        (study.path / file).write_text("[")
        assert study.state == "broken"
        assert file in study.job.message
        assert "emove the file" in study.job.message

    def test_running_is_true_while_a_process_lives(self, study):
        study.write_status(Status(state="running"))
        with study.working():
            assert study.alive
            assert study.state == "running"
        assert study.state == "interrupted"
        assert "Resume" in study.job.message

    def test_queued_needs_a_process_only_after_a_while(self, study):
        study.write_status(Status(state="queued", queued=time.time()))
        assert study.state == "queued"
        study.write_status(Status(state="queued", queued=time.time() - 60))
        assert study.state == "interrupted"
        with study.working():
            assert study.state == "queued"
        study.write_status(Status(state="queued", queued=time.time() - 3600, launched=time.time()))
        assert study.state == "queued"  # it waited long before, but its worker was only just started

    def test_is_told_from_the_rest_where_there_is_no_file(self, study):
        assert study.state == "interrupted"
        with study.working():
            assert study.state == "running"
        parts = {key: {} for key in ("arms", "data", "settings")} | {"comparison": {"sentence": "No difference."}}
        (study.path / "report.json").write_text(json.dumps(parts))
        assert study.state == "finished"

    def test_that_ends_between_two_looks_is_not_taken_for_interrupted(self, study, monkeypatch):
        study.write_status(Status(state="running"))

        def ends_now(self):
            self.write_status(Status(state="finished"))
            return False

        monkeypatch.setattr(StudyFolder, "alive", property(ends_now))
        assert study.status.state == "finished"


class TestBeginning:
    def test_the_same_study_again_is_the_same_folder(self, study):
        again = StudyFolder.begin(study.path, tiny_study())
        assert again == study
        assert again.title == "One <b>"

    def test_other_hardware_is_no_other_study(self, study):
        StudyFolder.begin(study.path, tiny_study(hardware=Hardware(device="cpu", readers=3)))
        assert study.settings.hardware.readers == 3  # read anew, not from a memory of the old file

    def test_other_settings_are_refused_and_nothing_is_changed(self, study):
        before = study.settings_file.read_bytes()
        with pytest.raises(RunError, match="holds a study with other settings"):
            StudyFolder.begin(study.path, tiny_study(seeds=(5,)))
        assert study.settings_file.read_bytes() == before

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters/a.txt").touch()
        with pytest.raises(RunError, match="is not empty and holds no study"):
            StudyFolder.begin(tmp_path / "letters", tiny_study())
        with pytest.raises(RunError, match="is a file, not a folder"):
            StudyFolder.begin(tmp_path / "letters/a.txt", tiny_study())

    def test_data_may_have_moved_but_not_become_a_demo_area(self, study, tmp_path):
        StudyFolder.begin(study.path, tiny_study(), About(title="other", collection=tmp_path / "moved"))
        assert (study.title, study.collection) == ("One <b>", tmp_path / "moved")
        with pytest.raises(RunError, match="began with other data"):
            StudyFolder.begin(study.path, tiny_study(), About(title="other", demo=0))


class TestWhatItKnows:
    def test_the_demo_area_lies_beside_the_studies(self, tmp_path):
        study = put_study(tmp_path / "studies/demo", collection=None, demo=3)
        assert study.collection == tmp_path / "studies/.areas/demo-3"

    def test_a_folder_without_title_is_called_by_its_name(self, tmp_path):
        study = StudyFolder.begin(tmp_path / "older", tiny_study())
        assert study.title == "older"
        assert study.created == pytest.approx(time.time(), abs=60)
        with pytest.raises(RunError, match="does not say on which data"):
            _ = study.collection
        (study.path / "data.json").write_text(json.dumps({"collection": "/data/collection.yaml"}))
        assert str(study.collection) == "/data/collection.yaml"

    def test_a_report_there_is_none_of_is_a_sentence(self, study):
        study.write_status(Status(state="stopped"))
        with pytest.raises(RunError, match=r"is not finished, so it has no report\. Its state is 'stopped'"):
            study.report()
        assert not study.finished

    def test_runs_are_found_by_name_and_nowhere_else(self, study):
        with pytest.raises(RunError, match="has no run 'alone-s0'"):
            study.run("alone-s0")
        with pytest.raises(RunError, match="has no run"):
            study.run("../../one")

    def test_the_end_of_a_long_log_is_read_alone(self, study):
        assert study.log_tail() == ""
        study.log_file.write_text("".join(f"line {index} ä\n" for index in range(50_000)), encoding="utf-8")
        assert study.log_tail(2) == "line 49998 ä\nline 49999 ä"
