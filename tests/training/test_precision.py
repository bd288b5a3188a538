"""Which precision a study trains with where its settings leave that open."""

import pytest
import torch

from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import Hardware, load_study, save
from kdcore.training import precision
from kdcore.training.fabric import make_fabric
from tests.jobs.studies import tiny_study

OPEN = Hardware(device="cpu")


@pytest.fixture
def can(monkeypatch):
    """Say what the processor can."""

    def tell(*names):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True) | {"amx_int8": True})

    return tell


@pytest.mark.parametrize(
    ("abilities", "chosen"), [((), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_bf16",), "bf16-mixed")]
)
def test_is_bfloat16_where_the_processor_computes_with_it(can, abilities, chosen):
    can(*abilities)
    assert precision.choose_precision(torch.device("cpu")) == chosen
    assert make_fabric("cpu", 1, "auto")._precision.precision == chosen


def test_is_chosen_once_and_kept_when_the_study_goes_on_elsewhere(can, tmp_path):
    settings = tiny_study().model_copy(update={"hardware": OPEN})
    study = StudyFolder.begin(tmp_path / "study", settings)
    (study.path / "runs").mkdir()
    can("avx512_bf16")
    assert precision.settle(study).precision == "bf16-mixed"
    assert "precision bf16-mixed: faster here" in study.log_tail()
    can()  # another processor
    again = StudyFolder.begin(tmp_path / "study", settings)
    assert precision.settle(again).precision == "bf16-mixed"
    assert load_study(again.settings_file).hardware.precision == "bf16-mixed"


def test_that_a_person_chose_stays(can, tmp_path):
    can("avx512_bf16")
    save(tiny_study().model_copy(update={"hardware": Hardware(precision="32-true")}), tmp_path / "study.yaml")
    assert precision.settle(StudyFolder(tmp_path)).precision == "32-true"
