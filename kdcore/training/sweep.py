"""What each worker of a sweep does: the teacher once for all, then trial after trial, then the confirmation.

A trial is a run like any other, except that the test split is not read: it is looked at once, by the confirmation, with the
best setting and the default trained from fresh seeds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.errors import KdcoreError, RunError, Stopped, unexpected
from kdcore.evaluation.sweep_report import confirmation, sweep_report
from kdcore.files import write_json, write_text
from kdcore.jobs.locks import TakenError
from kdcore.jobs.plan import pixels, run_name, with_steps
from kdcore.jobs.progress import Progress, Report, Stage
from kdcore.jobs.small_files import read_dict
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.sweep_claims import Claim, Claims
from kdcore.jobs.sweep_confirm import planned_confirmation
from kdcore.jobs.sweep_folder import SweepFolder, SweepWorker
from kdcore.jobs.worker import Session
from kdcore.settings import Budget, Objective, Range, Recipe, RunSettings, SweepSettings, parse_network
from kdcore.teacher.soft_labels import FOLDER, open_soft_labels, regions_of
from kdcore.teacher.teacher import Teacher
from kdcore.training.fabric import make_fabric
from kdcore.training.precision import settle
from kdcore.training.probe import cost_of_step, make
from kdcore.training.run import execute
from kdcore.training.work import prepare

ASK_EVERY = 0.3  # seconds between looks whether it is our turn


def work(worker: SweepWorker, session: Session) -> None:
    """The work of one of a sweep's processes."""
    work_on_sweep(SweepFolder(worker.path), worker.index, session, session.stop)


def work_on_sweep(sweep: SweepFolder, worker: int, report: Report, should_stop: Callable[[], bool]) -> None:
    """Do trials until there are none left, then help with the confirmation and write the report.

    Args:
        sweep: the folder.
        worker: this worker's index.
        report: is told what happens.
        should_stop: asked after every step.

    Raises:
        Stopped: `should_stop` said so; everything goes on from there.
        KdcoreError: what ends the whole sweep: the data, the teacher, the storage, a full disk.
    """
    settings = sweep.settings
    data, checkpoints = prepare_for_all(sweep, report, should_stop)
    claims = Claims(sweep, worker)
    while True:
        if should_stop():
            raise Stopped(f"{sweep.path}: was stopped. Start it again to go on.")
        claim = claims.next()
        if claim is not None:
            work_on_trial(sweep, claims, claim, data, checkpoints, report, should_stop)
        elif claims.others_work():  # their trial is ours if they are killed
            report(Progress("", Stage.WAITING_FOR_TRIALS, 0, 1))
            time.sleep(ASK_EVERY)
        else:
            break
    if settings.confirm:
        confirm(sweep, data, checkpoints, report, should_stop)
    write_json(sweep.report_file, sweep_report(sweep))


def prepare_for_all(sweep: SweepFolder, report: Report, should_stop: Callable[[], bool]) -> tuple[Path, list[Path]]:
    """Whoever comes first makes the demo area, trains the teacher and measures speeds; the others wait and find them.

    Returns:
        The collection's file and the teacher's checkpoints.
    """
    turn = FileLock(sweep.path / "teacher.lock")
    while True:
        if should_stop():
            raise Stopped(f"{sweep.path}: was stopped. Start it again to go on.")
        try:
            turn.acquire(timeout=ASK_EVERY)
        except Timeout:
            report(Progress("", Stage.WAITING_FOR_TEACHER, 0, 1))
            continue
        break
    try:
        about, path = sweep.about, sweep.collection
        if about.demo is not None:
            path = write_demo(path, about.demo, report)
        report(Progress("", Stage.READING, 0, 1))
        collection = Collection.open(path)
        assert collection.path is not None
        check_same_data(sweep, collection)
        prepare(collection.path, sweep.settings.budget.crop)
        settle(sweep)
        checkpoints = train_teacher(sweep, collection.path, report, should_stop)
        if sweep.settings.seconds is not None:
            measure_steps(sweep, report)
    finally:
        turn.release()
    if checkpoints:
        keep_soft_labels(sweep, collection.path, checkpoints, report, should_stop)
    return collection.path, checkpoints


def keep_soft_labels(
    sweep: SweepFolder, data: Path, checkpoints: Sequence[Path], report: Report, should_stop: Callable[[], bool]
) -> None:
    """Compute the teacher's soft labels of the scenes for all trials; workers share the windows.

    Raises:
        Stopped: `should_stop` said so.
    """
    settings, hardware = sweep.settings, sweep.settings.hardware
    collection, found = prepare(data, settings.budget.crop)
    names, numbers = collection.settings.class_names, collection.scenes[0].bands
    teacher = Teacher.load(checkpoints, names, collection.bands, numbers, flips=settings.teacher.flips)
    device = make_fabric(hardware.device, 1, hardware.precision).device
    with open_soft_labels(
        sweep.path.parent / FOLDER,
        collection,
        regions_of(found, unlabelled=False),
        teacher.to(device),
        checkpoints,
        hardware,
        device=device,
        report=report,
        log=sweep.log,
        should_stop=should_stop,
    ):
        pass


def check_same_data(sweep: SweepFolder, collection: Collection) -> None:
    """Note the data's hash the first time, and refuse other data later: trials on both could not be compared.

    Raises:
        RunError: files or collection.yaml have changed.
    """
    file = sweep.path / "data.hash"
    if not file.exists():
        write_text(file, collection.content_hash)
    elif file.read_text(encoding="utf-8") != collection.content_hash:
        raise RunError(
            f"{sweep.path}: this sweep began with other data (files or collection.yaml have changed since). Choose another --out."
        )


def train_teacher(sweep: SweepFolder, data: Path, report: Report, should_stop: Callable[[], bool]) -> list[Path]:
    """The checkpoints that teach all trials: given ones, or trained here, once; none where no trial listens to a teacher."""
    settings = sweep.settings
    if not listens(settings):
        return []
    if settings.teacher.checkpoints:
        return list(settings.teacher.checkpoints)
    checkpoints = []
    for seed in settings.teacher.seeds:
        run = RunDirectory.create(
            sweep.path / "teacher" / run_name("teacher", seed),
            RunSettings(
                arm="teacher",
                seed=seed,
                collection=data,
                network=settings.teacher.network,
                recipe=Recipe(alpha=0),
                budget=settings.teacher.budget,
                evaluation=settings.evaluation,
                hardware=settings.hardware,
            ),
        )
        execute(run, report, should_stop, test=False)
        if not run.report.exists():
            raise Stopped(f"{run.path}: was stopped. Start the sweep again to go on.")
        checkpoints.append(run.best)
    return checkpoints


def listens(settings: SweepSettings) -> bool:
    """Whether some trial, or the confirmation, has an alpha above 0."""
    alpha = settings.space.alpha
    return bool(settings.confirm) or isinstance(alpha, Range) or max(alpha) > 0


def measure_steps(sweep: SweepFolder, report: Report) -> None:
    """For a budget in seconds: how many steps fit, for each student with and without the teacher. Measured once, alone.

    The others wait meanwhile, so that every trial of a student has the same number of steps.
    """
    file, settings = sweep.path / "steps.json", sweep.settings
    if file.exists():
        return
    assert settings.seconds is not None
    members = len(settings.teacher.checkpoints or settings.teacher.seeds)
    steps = {}
    for student in settings.space.student:
        report(Progress("", Stage.TIMING_STEPS, 0, 1, student))
        for taught in (False, True):
            served = members * (8 if settings.teacher.flips else 1) if taught else 0
            network = make(parse_network(student))
            cost = cost_of_step(network, None, settings.budget, settings.hardware, served=served)
            steps[steps_key(student, taught)] = max(1, round(settings.seconds / (cost * pixels(settings.budget))))
    write_json(file, steps)


def steps_key(student: str, taught: bool) -> str:
    """How `steps.json` names a kind of training."""
    return f"{student}, {'distilled' if taught else 'alone'}"


def budget_of(settings: SweepSettings, params: Mapping[str, Any], steps: Mapping[str, int]) -> Budget:
    """A trial's budget: its own learning rate and, where the budget is in seconds, the steps that fit."""
    budget = settings.budget.model_copy(update={"learning_rate": params["learning_rate"]})
    return with_steps(budget, steps[steps_key(params["student"], params["alpha"] > 0)]) if steps else budget


def run_settings(
    sweep: SweepFolder, params: Mapping[str, Any], seed: int, data: Path, checkpoints: Sequence[Path]
) -> RunSettings:
    """What one training of a sweep is to do."""
    settings = sweep.settings
    steps = (
        (read_dict(sweep.path / "steps.json") or {}) if settings.seconds is not None else {}
    )  # as `measure_steps` found
    alpha = float(params["alpha"])
    asked = {name: value for name, value in params.items() if name in Recipe.model_fields}
    recipe = Recipe.model_validate(asked | {"alpha": alpha or Recipe().alpha})
    return RunSettings(
        arm="distilled" if alpha > 0 else "alone",
        seed=seed,
        collection=data,
        network=params["student"],
        recipe=recipe if alpha > 0 else recipe.alone,
        budget=budget_of(settings, params, steps),
        evaluation=settings.evaluation,
        hardware=settings.hardware,
        teacher=tuple(checkpoints) if alpha > 0 else (),
        teacher_flips=settings.teacher.flips and alpha > 0,
    )


def work_on_trial(
    sweep: SweepFolder,
    claims: Claims,
    claim: Claim,
    data: Path,
    checkpoints: Sequence[Path],
    report: Report,
    should_stop: Callable[[], bool],
) -> None:
    """Train one trial and tell what came of it.

    Raises:
        Stopped: the trial goes on the next time.
        KdcoreError: something that the next trial would meet, too; this one then goes on, too.
    """
    hopeless, spent = False, 0

    def note(step: int, score: float) -> None:
        nonlocal hopeless, spent
        spent = step
        hopeless = hopeless or claims.report(claim, round(100 * step / budget.steps), score)

    def of_trial(progress: Progress) -> None:
        report(replace(progress, trial=claim.number))

    try:
        settings = run_settings(sweep, claim.params, claim.seed, data, checkpoints)
        budget = settings.budget
        run = RunDirectory.create(sweep.run(claim.number).path, settings)
        soft_labels = sweep.path.parent / FOLDER
        execute(run, of_trial, lambda: hopeless or should_stop(), test=False, on_score=note, soft_labels=soft_labels)
    except RunError as error:  # a diverged training, a full GPU: the next setting may do better
        claims.fail(claim, str(error))
        sweep.log(f"trial {claim.number} failed: {error}")
        return
    except (KdcoreError, KeyboardInterrupt):
        claims.interrupt(claim)
        raise
    except Exception as error:
        claims.fail(claim, unexpected(error))
        raise
    if run.report.exists():
        claims.finish(claim, measured(run))
        run.state.unlink(missing_ok=True)  # only to resume from; a sweep has many trials
    elif hopeless:
        words = f"ended early after {spent} steps: every finished trial was better by then"
        run.write_status(run.status.model_copy(update={"state": "stopped", "step": spent, "message": words}))
        claims.prune(claim)
        run.state.unlink(missing_ok=True)
    else:
        claims.interrupt(claim)
        raise Stopped(f"{sweep.path}: was stopped. Start it again to go on.")


def measured(run: RunDirectory) -> dict[Objective, float]:
    """All that a finished trial can be judged by, whether it is an objective or not."""
    report = run.read_report()
    return {
        "quality": report["validation"]["mean_ap"],
        "size": report["parameters"],
        "latency": round(1000 / report["megapixels_per_second"], 4),
    }


def confirm(
    sweep: SweepFolder, data: Path, checkpoints: Sequence[Path], report: Report, should_stop: Callable[[], bool]
) -> None:
    """Train the best setting and the default from fresh seeds, and compare them on the test split, once.

    Workers share the trainings, and wait for each other's: one that is given up is taken by another.
    """
    folder = sweep.path / "confirm"
    if (folder / "report.json").exists():
        return
    with FileLock(sweep.path / "ask.lock"):
        plan = planned_confirmation(sweep)
    if plan is None:
        return
    runs = {
        (name, seed): RunDirectory.create(
            folder / f"{name}-s{seed}", run_settings(sweep, params, seed, data, checkpoints)
        )
        for seed in plan.seeds
        for name, params in (("default", plan.default), ("best", plan.best))
    }
    while left := [run for run in runs.values() if not run.report.exists()]:
        for run in left:
            if run.alive:
                continue  # another worker does it; it is ours if that one is killed
            try:
                execute(run, report, should_stop, soft_labels=sweep.path.parent / FOLDER)
            except TakenError:
                continue
            if not run.report.exists():
                raise Stopped(f"{run.path}: was stopped. Start the sweep again to go on.")
        if all(run.report.exists() for run in left):
            break
        report(Progress("", Stage.WAITING_FOR_TRIALS, 0, 1))
        if should_stop():
            raise Stopped(f"{sweep.path}: was stopped. Start it again to go on.")
        time.sleep(ASK_EVERY)
    write_json(folder / "report.json", confirmation(sweep, plan))
