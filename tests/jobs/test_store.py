import json

import pytest

from kdcore.jobs.store import RunDirectory, RunStatus, list_runs


def test_measurements_are_read_as_far_as_they_are_written(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.read_metrics() == []
    for step in (1, 10, 20, 30):
        run.add_metrics({"step": step, "loss": step / 10})
    run.add_metrics({"step": 30, "validation_mean_ap": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 40, "lo')  # being written
    assert [line["step"] for line in run.read_metrics()] == [1, 10, 20, 30, 30]


@pytest.mark.parametrize(
    "line",
    ['{"step": 1, "loss": "many"}', '{"step": 1, "validation_mean_ap": [0.5]}', '{"step": "1", "loss": 1}', '[1, 2]', '{"loss": 1}',
     '{"step": 1, "loss": 1' + "0" * 400 + "}", '{"step": 1' + "0" * 30 + ', "loss": 1}', '{"step": 1, "loss": Infinity}'],
)  # fmt: skip
def test_what_is_no_measurement_is_left_out_so_that_charts_can_be_drawn(tmp_path, line):
    run = RunDirectory(tmp_path)
    run.add_metrics({"step": 1, "loss": 0.5, "mask": None, "validation_mean_ap": float("nan")})
    with run.metrics.open("a") as file:
        file.write(line + "\n")
    (read,) = run.read_metrics()
    assert read["loss"] == 0.5


def test_of_many_measurements_some_are_read_with_all_validations_and_the_last(tmp_path):
    run = RunDirectory(tmp_path)
    lines = [{"step": step, "loss": 1.0} for step in range(5000)]
    lines[777] = {"step": 777, "validation_mean_ap": 0.5}
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 50')
    found = [line["step"] for line in run.read_metrics(most=101)]  # every 50th of 5,001 lines
    assert found == sorted([*range(0, 5000, 50), 777, 4999])


def test_time_by_the_clock_adds_up_over_resumptions(tmp_path, monkeypatch):
    clock = iter([100.0, 107.0, 500.0, 503.0])
    monkeypatch.setattr("kdcore.jobs.store.time.monotonic", lambda: next(clock))
    run = RunDirectory(tmp_path)
    with run.working():
        run.write_status(RunStatus(state="running", step=1))
    again = RunDirectory(tmp_path)
    with again.working():
        again.set_state("finished")
    assert again.status.elapsed == 10.0
    again.set_state("finished", "looked at")  # by a process that does not work on it
    assert again.status.elapsed == 10.0


def test_half_copied_runs_are_not_listed(tmp_path):
    for name in ("alone-s0", ".teacher-s0-copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.yaml").touch()
    assert [run.path.name for run in list_runs(tmp_path)] == ["alone-s0"]
