"""A study: teacher, student alone and distilled student under one budget, for each seed.

Every run is a directory under `runs/` of the study's folder, so that a study that was interrupted, in whatever way, goes on
where it was when it is started again with the same settings.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError, RunError
from kdcore.evaluation.report import study_report
from kdcore.files import write_json
from kdcore.runs.store import RunDirectory, list_runs
from kdcore.settings import Budget, Recipe, RunSettings, StudySettings, fingerprint, load, save
from kdcore.training.run import Reporter, evaluate_ensemble, execute, prepare

OTHER_SEEDS = 100_000  # added to a seed for the second arm of an A/A study


def run_study(
    collection_path: Path,
    settings: StudySettings,
    out: Path,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run whatever of the study is not finished yet, and report.

    Args:
        collection_path: a collection's folder or YAML file.
        settings: of the study.
        out: the study's folder; made if it is not there.
        reporter: is told what happens.
        should_stop: asked after every step.

    Returns:
        The report, also written to `report.json`. See `kdcore.evaluation.report`.

    Raises:
        KdcoreError: anything the user can mend. What is finished stays.
    """
    reporter = reporter or Reporter()
    reporter.report("reading the data", 0, 1)
    collection = Collection.open(collection_path)
    assert collection.path is not None
    begin(out, settings, collection)
    prepare(collection.path, settings.budget.crop)
    reporter.report("reading the data", 1, 1)

    def run(name: str, run_settings: RunSettings) -> RunDirectory:
        directory = RunDirectory.create(out / "runs" / name, run_settings)
        execute(directory, named(reporter, name), should_stop)
        if not directory.report.exists():
            raise RunError(f"{directory.path}: was stopped. Start the study again with the same settings to go on.")
        return directory

    common = {"collection": collection.path, "evaluation": settings.evaluation, "hardware": settings.hardware}
    checkpoints = list(settings.teacher.checkpoints)
    if not checkpoints:
        for seed in settings.teacher.seeds:
            teacher_settings = RunSettings(
                arm="teacher",
                seed=seed,
                network=settings.teacher.network,
                recipe=Recipe(alpha=0),
                budget=settings.teacher.budget,
                **common,
            )
            reuse_teacher(out, f"teacher-s{seed}", teacher_settings, collection.content_hash)
            checkpoints.append(run(f"teacher-s{seed}", teacher_settings).best)
    if settings.teacher.checkpoints or len(checkpoints) > 1:
        directory = RunDirectory.create(
            out / "runs" / "teacher",
            RunSettings(
                arm="teacher",
                seed=0,
                network=settings.teacher.network,
                recipe=Recipe(alpha=0),
                budget=Budget(steps=1),
                teacher=tuple(checkpoints),
                **common,
            ),
        )
        evaluate_ensemble(directory, checkpoints, collection, named(reporter, "teacher"))

    student = {"network": settings.student, "budget": settings.budget, **common}
    for seed in settings.seeds:
        run(f"alone-s{seed}", RunSettings(arm="alone", seed=seed, recipe=alone(settings.recipe), **student))
        if settings.control == "same recipe":
            run(
                f"distilled-s{seed}",
                RunSettings(arm="distilled", seed=seed + OTHER_SEEDS, recipe=alone(settings.recipe), **student),
            )
        else:
            run(
                f"distilled-s{seed}",
                RunSettings(arm="distilled", seed=seed, recipe=settings.recipe, teacher=tuple(checkpoints), **student),
            )
    report = study_report(out)
    write_json(out / "report.json", report)
    return report


def alone(recipe: Recipe) -> Recipe:
    """The same recipe without the teacher."""
    return recipe.model_copy(update={"alpha": 0.0, "unlabelled": 0.0})


def begin(out: Path, settings: StudySettings, collection: Collection) -> None:
    """Make the study's folder, or check that what is there is this study on this data.

    Raises:
        RunError: the folder holds something else; it is left alone.
    """
    file, data_file = out / "study.yaml", out / "data.json"
    data = {
        "name": collection.settings.name,
        "collection": str(collection.path),
        "hash": collection.content_hash,
        "metres_per_pixel": collection.metres_per_pixel,
        "classes": list(collection.settings.class_names),
        "colours": [entry.colour for entry in collection.settings.classes],
    }
    if file.exists():
        before = load(StudySettings, file)
        place = {"hardware": settings.hardware}
        if before.model_copy(update=place) != settings:
            raise RunError(
                f"{out}: holds a study with other settings; a study is never overwritten. Choose another --out."
            )
        if data_file.exists() and json.loads(data_file.read_text())["hash"] != data["hash"]:
            raise RunError(
                f"{out}: this study began with other data (files or collection.yaml have changed since). Choose another --out."
            )
    elif out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: is not empty and holds no study. Choose another --out.")
    save(settings, file)
    write_json(data_file, data)


def reuse_teacher(out: Path, name: str, settings: RunSettings, data_hash: str) -> None:
    """Copy a finished teacher of a neighbouring study if its settings and data are the same.

    What is compared: network, budget, seed, evaluation, precision and the hash of the data.
    """
    target = out / "runs" / name
    if target.exists():
        return
    wanted = teacher_fingerprint(settings, data_hash)
    for neighbour in sorted(out.parent.glob("*/runs")) if out.parent.is_dir() else []:
        for run in list_runs(neighbour):
            if not run.path.name.startswith("teacher-s") or not run.report.exists() or not run.best.exists():
                continue
            try:
                same = teacher_fingerprint(run.settings, run.read_report()["data"]) == wanted
            except (KdcoreError, KeyError):
                continue  # a broken neighbour is no reason to stop
            if same:
                temporary = target.with_name(f".{name}-copy")
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.copytree(run.path, temporary, ignore=shutil.ignore_patterns("alive.lock", "state.safetensors"))
                save(settings, temporary / "settings.yaml")
                RunDirectory(temporary).log(f"reused from {run.path}: same settings and data")
                temporary.rename(target)
                return


def teacher_fingerprint(settings: RunSettings, data_hash: str) -> str:
    """What must agree for a teacher to be the same."""
    return fingerprint(
        settings.network,
        settings.budget,
        settings.evaluation,
        settings.recipe,
        settings.seed,
        settings.hardware.precision,
        data_hash,
    )


def named(reporter: Reporter, run: str) -> Reporter:
    """A reporter that puts the run's name before each stage."""
    return Reporter(lambda stage, done, total: reporter.report(f"{run}: {stage}", done, total))
