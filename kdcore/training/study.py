"""A study: teacher, student alone, distilled student and, with few labels, the student with all of them, for each seed.

Every run is a directory under `runs/` of the study's folder, so that a study that was interrupted, in whatever way, goes on
where it was when it is started again with the same settings.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdcore.data.batches import check_unlabelled
from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.evaluation.report import advantage, study_report
from kdcore.files import write_json
from kdcore.inference.engines import choose_device
from kdcore.inference.layers import write_layers
from kdcore.jobs.locks import TakenError, turn
from kdcore.jobs.plan import PlannedRun, asks_teacher, planned_runs, read_alone_steps, run_name, with_steps
from kdcore.jobs.progress import Progress, Report, Stage, counting, ignore
from kdcore.jobs.store import RunDirectory, list_runs
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.memory import check_room
from kdcore.ownership import write_own_json
from kdcore.settings import Arm, Budget, Recipe, RunSettings, StudySettings, fingerprint, save
from kdcore.teacher.soft_labels import FOLDER
from kdcore.training.places import open_places, score_places
from kdcore.training.precision import settle
from kdcore.training.probe import measure_alone_steps
from kdcore.training.run import evaluate_ensemble, execute
from kdcore.training.work import prepare

STUDENTS: tuple[Arm, ...] = ("alone", "distilled")
ASK_EVERY = 1.0  # seconds between looks whether another process has left a run
OTHER_SEEDS = 100_000  # added to a seed for the second arm of an A/A study


def run_study(
    collection_path: Path,
    settings: StudySettings,
    out: Path,
    report: Report = ignore,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run whatever of the study is not finished yet, and report.

    Args:
        collection_path: a collection's folder or YAML file.
        settings: of the study.
        out: the study's folder; made if it is not there.
        report: is told what happens.
        should_stop: asked after every step.

    Returns:
        The report, also written to `report.json`. See `kdcore.evaluation.report`.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: anything the user can mend. What is finished stays.
    """
    report(Progress("", Stage.READING, 0, 1))
    collection = Collection.open(collection_path)
    check_memory(settings, collection)
    places = open_places(settings, collection)
    settings = begin(out, settings, collection)
    assert collection.path is not None
    _, found = prepare(collection.path, settings.budget.crop, settings.labels)
    if settings.recipe.unlabelled:
        check_unlabelled(collection, found)  # told before hours of training
    report(Progress("", Stage.READING, 1, 1))

    while not work_on_runs(out, settings, collection, report, should_stop):
        report(Progress("", Stage.WAITING_FOR_RUNS, 0, 1))
        if should_stop():
            raise Stopped(f"{out}: was stopped. Start the study again with the same settings to go on.")
        time.sleep(ASK_EVERY)
    write_layers(out, collection, counting(report, Stage.LAYERS))
    score_places(out, settings, places, report)
    values = study_report(out)
    write_own_json(out / "report.json", values, overwrite=True)  # of this study, whoever wrote it
    return values


def work_on_runs(
    out: Path, settings: StudySettings, collection: Collection, report: Report, should_stop: Callable[[], bool]
) -> bool:
    """Do every run that nobody else works on and that needs nothing of a run that somebody else works on.

    Args:
        out: a study's folder that was begun.
        settings: of the study.
        collection: its data.
        report: is told what happens.
        should_stop: asked after every step.

    Returns:
        Whether every run is finished.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: what ends the study.
    """
    assert collection.path is not None
    checkpoints, complete = list(settings.teacher.checkpoints), True
    measured = read_alone_steps(out)
    for planned in planned_runs(settings, measured):
        taught = planned.arm == "distilled" or planned.budget is None
        measures = (
            planned.arm != "teacher" and settings.match == "seconds" and measured is None and asks_teacher(settings)
        )
        trained = bool(settings.teacher.checkpoints) or len(checkpoints) == len(settings.teacher.seeds)
        if (taught or measures) and not trained:  # another process trains the teacher
            complete = False
            continue
        try:
            if measures:
                with turn(out / ".timing.lock", f"{out}: another process measures steps.", patience=0):
                    measured = read_alone_steps(out)
                    if measured is None:
                        measured = match_seconds(out, settings, collection.path, checkpoints, report, should_stop)
            if planned.arm in ("alone", "all_labels") and measured is not None:
                planned = planned.model_copy(update={"budget": with_steps(settings.budget, measured)})
            run = do_run(out, planned, settings, collection, checkpoints, report, should_stop)
        except TakenError:
            complete = False
            continue
        if planned.arm == "teacher" and planned.budget is not None:
            checkpoints.append(run.best)
        elif planned.arm == "alone" and planned.seed == settings.seeds[0] and complete:
            note_advantage(out, settings)
    return complete


def do_run(
    out: Path,
    planned: PlannedRun,
    settings: StudySettings,
    collection: Collection,
    checkpoints: Sequence[Path],
    report: Report,
    should_stop: Callable[[], bool],
) -> RunDirectory:
    """Do one run of a study, from wherever it stands.

    Raises:
        TakenError: another process works on it.
        Stopped: `should_stop` said so.
        KdcoreError: what ends the study.
    """
    assert collection.path is not None
    run_settings = settings_of(planned, settings, collection.path, checkpoints)
    with turn(out / ".begin.lock", f"{out}: another process begins a run."):
        if planned.arm == "teacher" and planned.budget is not None:
            reuse_teacher(out, planned.name, run_settings, collection.content_hash)
        run = RunDirectory.create(out / "runs" / planned.name, run_settings)
    if run.alive:  # not waited for: there may be other runs to do
        raise TakenError(f"{run.path}: another process works on it.")
    if planned.budget is None:
        evaluate_ensemble(run, list(checkpoints), collection, report)
        return run
    execute(run, report, should_stop, soft_labels=out.parent / FOLDER)
    if not run.report.exists():
        raise Stopped(f"{run.path}: was stopped. Start the study again with the same settings to go on.")
    return run


def check_memory(settings: StudySettings, collection: Collection) -> None:
    """Refuse steps and windows that cannot fit into the memory of this machine, before anything is made.

    Raises:
        SettingsError: says which setting, and how much it would take.
    """
    if choose_device(settings.hardware.device).type != "cpu":
        return
    window = settings.evaluation.window + 2 * settings.evaluation.halo
    scenes = max(scene.height * scene.width for scene in collection.scenes)
    networks = [("", settings.student, settings.budget, settings.recipe.unlabelled)]
    if not settings.teacher.checkpoints:
        networks.append(("teacher.", settings.teacher.network, settings.teacher.budget, 0.0))
    logits = len(collection.settings.scored)
    for prefix, network, budget, unlabelled in networks:
        step = round(budget.batch_size * (1 + unlabelled)) * budget.crop**2
        what = f"{prefix}budget: batch_size {budget.batch_size}, crop {budget.crop}"
        check_room(network, collection.bands, logits, step, True, what)
        seen, what = min(window**2, scenes), f"evaluation: window {settings.evaluation.window}"
        check_room(network, collection.bands, logits, seen, False, what)


def match_seconds(
    out: Path,
    settings: StudySettings,
    collection: Path,
    checkpoints: Sequence[Path],
    report: Report,
    should_stop: Callable[[], bool],
) -> int:
    """Measure, once for all seeds, how many steps the student alone does while the distilled student trains."""
    seed = settings.seeds[0]
    alone, distilled = (
        settings_of(
            PlannedRun(name=run_name(arm, seed), arm=arm, seed=seed, budget=settings.budget),
            settings,
            collection,
            checkpoints,
        )
        for arm in STUDENTS
    )
    steps = measure_alone_steps(out, alone, distilled, report, should_stop)
    StudyFolder(out).log(
        f"the student alone does {steps} steps in the time of the distilled student's {settings.budget.steps}"
    )
    return steps


def note_advantage(out: Path, settings: StudySettings) -> None:
    """Say, once a teacher and a student alone are there, whether the one can teach the other: in `advantage.json` and in the log."""
    study = StudyFolder(out)
    found = advantage(settings, study.teacher_run(), [study.run(run_name("alone", settings.seeds[0]))])
    if found is not None and found != study.advantage:
        write_json(study.advantage_file, found)
        study.log(found["sentence"])


def settings_of(
    planned: PlannedRun, study: StudySettings, collection: Path, checkpoints: Sequence[Path]
) -> RunSettings:
    """What one run of a study is to do; `checkpoints` are its teacher's networks."""
    recipe, seed, teacher, start = study.recipe, planned.seed, tuple(checkpoints), None
    if planned.arm == "teacher":
        recipe, teacher = Recipe(alpha=0), () if planned.budget else teacher
        if planned.budget and study.teacher.start:
            start = study.teacher.start[study.teacher.seeds.index(seed)]
    elif planned.arm != "distilled" or study.control == "same recipe":
        recipe, teacher = recipe.alone, ()
        seed += OTHER_SEEDS if planned.arm == "distilled" else 0
    elif recipe.mean_teacher:
        teacher = ()
    budget = planned.budget or Budget(steps=1)
    largest = max(study.budget.crop, 0 if study.teacher.checkpoints else study.teacher.budget.crop)
    return RunSettings(
        arm=planned.arm,
        seed=seed,
        collection=collection,
        network=study.teacher.network if planned.arm == "teacher" else study.student,
        recipe=recipe,
        budget=budget,
        evaluation=study.evaluation,
        hardware=study.hardware,
        teacher=teacher,
        teacher_flips=bool(teacher) and study.teacher.flips,
        labels={"teacher": study.teacher.labels, "all_labels": 1.0}.get(planned.arm, study.labels),
        buffer=None if largest == budget.crop else largest,  # all arms are scored on the same ground
        start=start,
    )


def begin(out: Path, settings: StudySettings, collection: Collection) -> StudySettings:
    """Make the study's folder, or check that what is there is this study on this data.

    Returns:
        The settings, with what was left open.

    Raises:
        RunError: the folder holds something else; it is left alone.
    """
    data = {
        "name": collection.settings.name,
        "collection": str(collection.path),
        "hash": collection.content_hash,
        "metres_per_pixel": collection.metres_per_pixel,
        "classes": list(collection.settings.class_names),
        "colours": [entry.colour for entry in collection.settings.classes],
    }
    study = StudyFolder.begin(out, settings)
    before = study.data
    if before is not None and before.get("hash") != data["hash"] and study.runs():  # else data that were mended
        raise RunError(
            f"{out}: this study began with other data (files or collection.yaml have changed since). Choose another --out."
        )
    hardware = settle(study)
    write_json(out / "data.json", data)  # by which others see that runs can be taken
    return settings.model_copy(update={"hardware": hardware})


def reuse_teacher(out: Path, name: str, settings: RunSettings, data_hash: str) -> None:
    """Copy a finished teacher of a neighbouring study if its settings and data are the same.

    What is compared: network, budget, seed, evaluation, precision and the hash of the data.
    """
    target = out / "runs" / name
    if target.exists():
        return
    wanted = teacher_fingerprint(settings, data_hash)
    for neighbour in sorted(out.parent.glob("[!.]*/runs")) if out.parent.is_dir() else []:
        for run in list_runs(neighbour):
            if not run.report.exists() or not run.best.exists():
                continue
            try:
                same = run.trained_teacher and teacher_fingerprint(run.settings, run.read_report()["data"]) == wanted
            except (KdcoreError, KeyError):
                continue  # a broken neighbour is no reason to stop
            if same and copy_teacher(run, target, settings):
                return


def copy_teacher(run: RunDirectory, target: Path, settings: RunSettings) -> bool:
    """Copy a run under a hidden name, then give it its own: it is there whole or not at all.

    Returns:
        False where the run was deleted meanwhile.

    Raises:
        KdcoreError: the disk is full.
    """
    temporary = target.with_name(f".{target.name}-copy")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(run.path, temporary, ignore=shutil.ignore_patterns("alive.lock", "state.safetensors"))
        save(settings, temporary / "settings.yaml")
        RunDirectory(temporary).log(f"reused from {run.path}: same settings and data")
        temporary.rename(target)
    except OSError as error:
        if not run.report.exists():
            return False
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise KdcoreError(f"{target}: the teacher of {run.path} could not be copied ({reason}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def teacher_fingerprint(settings: RunSettings, data_hash: str) -> str:
    """What must agree for a teacher to be the same."""
    return fingerprint(
        settings.network,
        settings.budget,
        settings.evaluation,
        settings.recipe,
        settings.seed,
        settings.hardware.precision,
        str(settings.start),
        settings.labels,
        data_hash,
    )
