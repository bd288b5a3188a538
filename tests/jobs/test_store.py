import json

from kdcore.jobs.store import RunDirectory, RunStatus, list_runs


def test_measurements_are_read_from_a_step_on(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.read_metrics() == []
    for step in (1, 10, 20, 30):
        run.add_metrics({"step": step, "loss": step / 10})
    run.add_metrics({"step": 30, "validation_mean_ap": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 40, "lo')  # being written
    assert [line["step"] for line in run.read_metrics()] == [1, 10, 20, 30, 30]
    assert run.read_metrics(since=30) == [{"step": 30, "loss": 3.0}, {"step": 30, "validation_mean_ap": 0.5}]
    assert run.read_metrics(since=31) == []


def test_only_what_is_asked_for_is_parsed(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.metrics.write_text("".join(f'{{"step": {step}}}\n' for step in range(5000)))
    parsed = []
    real = json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or real(text))
    assert len(run.read_metrics(since=4990)) == 10
    assert len(parsed) == 11


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
