"""Which precision a study trains with where its settings leave that open."""

import pytest
import torch

from kdcore.data.collection import Collection
from kdcore.errors import RunError, SettingsError
from kdcore.evaluation.label_curve import share_studies
from kdcore.jobs import locks
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.settings import Hardware, RunSettings, load_study, save
from kdcore.training import label_curve, precision
from kdcore.training.fabric import make_fabric
from kdcore.training.study import begin
from tests.conftest import write_collection
from tests.jobs.studies import put_study, tiny_study
from tests.training.sweeps import put_sweep

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


def test_float16_without_a_gpu_is_refused_before_anything_is_trained(tmp_path):
    """Fabric would train in bfloat16, and the report would say float16."""
    study = put_study(tmp_path / "study", tiny_study(hardware=Hardware(device="cpu", precision="16-mixed")))
    with pytest.raises(SettingsError, match="16-mixed needs a GPU"):
        precision.settle(study)


def put_run(folder, study):
    """A run that was begun, as far as its settings say so."""
    run = RunSettings(
        arm="teacher",
        seed=0,
        collection="/nowhere/collection.yaml",
        network=study.teacher.network,
        recipe=study.recipe.alone,
        budget=study.teacher.budget,
    )
    save(run, folder / "settings.yaml")


def test_is_refused_where_runs_were_made_with_another_one(tmp_path):
    settings = tiny_study(hardware=Hardware(precision="32-true"))
    study = put_study(tmp_path / "study", settings)
    changed = settings.model_copy(update={"hardware": Hardware(precision="bf16-mixed")})
    StudyFolder.begin(study.path, changed)  # there is no run yet
    put_run(study.path / "runs/teacher-s0", settings)
    before = study.settings_file.read_bytes()
    with pytest.raises(RunError, match=r"hardware\.precision was bf16-mixed .* 32-true could not be compared"):
        StudyFolder.begin(study.path, settings)
    assert study.settings_file.read_bytes() == before
    StudyFolder.begin(study.path, changed.model_copy(update={"hardware": Hardware(device="cpu", readers=3)}))


def test_is_refused_where_trials_were_made_with_another_one(tmp_path):
    sweep = put_sweep(tmp_path / "sweep", hardware=Hardware(precision="bf16-mixed"))
    put_run(sweep.path / "trials/0000", tiny_study())
    before = sweep.settings_file.read_bytes()
    with pytest.raises(RunError, match=r"hardware\.precision was bf16-mixed .* 32-true"):
        put_sweep(sweep.path, hardware=Hardware(precision="32-true"))
    assert sweep.settings_file.read_bytes() == before


def test_is_there_before_others_take_runs(tmp_path, monkeypatch):
    """A process that helps looks for `data.json`."""
    collection, out = Collection.open(write_collection(tmp_path / "collection")), tmp_path / "study"

    def choose(_):
        assert not (out / "data.json").exists()
        return "bf16-mixed"

    monkeypatch.setattr(precision, "choose_precision", choose)
    assert begin(out, tiny_study(hardware=OPEN), collection).hardware.precision == "bf16-mixed"


def test_is_not_lost_where_another_process_writes_the_settings_at_that_moment(can, tmp_path, monkeypatch):
    """One that was given the same study with other hardware."""
    monkeypatch.setattr(locks, "TURN", 0)
    study = put_study(tmp_path / "study", tiny_study(hardware=OPEN))

    def write(settings, file):
        with pytest.raises(RunError, match="is being begun by another process"):
            StudyFolder.begin(study.path, tiny_study(hardware=Hardware(readers=5)))
        save(settings, file)

    monkeypatch.setattr(precision, "save", write)
    can("amx_bf16")
    assert precision.settle(study) == study.settings.hardware == OPEN.model_copy(update={"precision": "bf16-mixed"})


def test_is_one_for_all_shares_of_a_label_curve_also_those_that_are_added_elsewhere(can, tmp_path, monkeypatch):
    """Else the teacher would be trained again, in other numbers, and one curve would show two of them."""
    monkeypatch.setattr(label_curve, "work", lambda *_, **__: None)
    for made in ("label_curve", "write_own_json", "write_label_page"):
        monkeypatch.setattr(label_curve, made, lambda *_, **__: {})

    def run(*shares, **hardware):
        settings = tiny_study(hardware=Hardware(device="cpu", **hardware))
        label_curve.run_label_curve(tmp_path, settings, shares, About(title="curve"), unlabelled=False)
        return {load_study(path / "study.yaml").hardware.precision for path in share_studies(tmp_path).values()}

    can("avx512_bf16")
    assert run(0.5, 1.0) == {"bf16-mixed"}
    can()
    assert run(0.25, 0.5, 1.0) == {"bf16-mixed"}
    put_run(tmp_path / "labels-1/runs/teacher-s0", tiny_study())
    with pytest.raises(RunError, match=r"hardware\.precision was bf16-mixed"):
        run(0.1, 0.5, precision="32-true")
