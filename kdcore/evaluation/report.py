"""A study's report: what each arm reached, what it cost, and what the difference is worth.

Everything comes from the run directories' `scores.npz`, `maps/` and `report.json`; no network is needed.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from kdcore.errors import DataError, RunError
from kdcore.evaluation.advantage import teacher_advantage, teacher_parts
from kdcore.evaluation.compare import compare_arms
from kdcore.evaluation.levels import NODATA, decide
from kdcore.evaluation.places import by_scene, places_report
from kdcore.evaluation.scores import Scores
from kdcore.jobs.plan import asks_teacher, run_name, teacher_run
from kdcore.jobs.store import RunDirectory, list_runs
from kdcore.reading import read_json
from kdcore.settings import Arm, StudySettings, load_study

STUDENTS: tuple[Arm, ...] = ("alone", "distilled", "all_labels")


def arm_runs(study: Path) -> dict[str, list[RunDirectory]]:
    """The finished runs of each arm, by seed; an ensemble stands for its members. `all_labels` is there where it was trained.

    Raises:
        RunError: no study, or an arm without a finished run, or arms whose seeds do not pair.
    """
    if not (study / "study.yaml").is_file():
        raise RunError(f"{study}: holds no study. Name the folder that was given to `kdcore study --out`.")
    settings = load_study(study / "study.yaml")
    runs = {run.path.name: run for run in list_runs(study / "runs")}
    names = {
        "teacher": [teacher_run(settings).name],
        **{
            arm: [run_name(arm, seed) for seed in settings.seeds]
            for arm in STUDENTS
            if arm != "all_labels" or settings.trains_all_labels
        },
    }
    for wanted in names.values():
        missing = [name for name in wanted if name not in runs or not runs[name].report.exists()]
        if missing:
            raise RunError(
                f"{study}: {missing[0]} is not finished. Start the study again with the same settings to go on."
            )
    return {arm: [runs[name] for name in wanted] for arm, wanted in names.items()}


def study_report(study: Path) -> dict[str, Any]:
    """Put the report together.

    Returns:
        `arms` (teacher, alone, distilled and, with few labels, all_labels: parameters, steps, seconds, mean_ap, mean_iou, classes, seeds ...), `comparison`
        (points with intervals, share of the gap closed, verdict), `scenes` and `places` (see
        `kdcore.evaluation.places`), `teacher_advantage` (on validation; None where no teacher is asked), `settings`, `data` and `formula`; plain JSON values.

    Raises:
        RunError: the study is not finished.
    """
    runs = arm_runs(study)
    settings = load_study(study / "study.yaml")
    scores = {arm: [Scores.load(run.scores) for run in directories] for arm, directories in runs.items()}
    data = read_json(study / "data.json")
    if not isinstance(data, dict) or not {"name", "metres_per_pixel", "classes"} <= data.keys():
        raise RunError(
            f"{study / 'data.json'}: does not say what the data are. Start the study again with the same settings."
        )
    comparison = compare_arms(scores, data["metres_per_pixel"])
    arms = {arm: arm_report([run.read_report() for run in directories]) for arm, directories in runs.items()}
    members = [run for run in list_runs(study / "runs") if run.trained_teacher]
    together = [run for run in runs["teacher"] if not run.trained_teacher]
    if members and together:
        reports = [run.read_report() for run in members]
        arms["teacher"] |= {
            "steps": sum(r["steps"] for r in reports),
            "seconds": round(sum(r["seconds"] for r in reports), 1),
        }
        arms["teacher"]["members"] = [
            {"seed": r["seed"], "mean_ap": r["test"]["mean_ap"], "mean_iou": r["test"]["mean_iou"]} for r in reports
        ]
    parts = teacher_parts([*members, *together])
    if parts:
        arms["teacher"]["parts"] = parts
    for arm in (arm for arm in STUDENTS if arm in arms):
        shares = [agreement(run.maps, runs["teacher"][0].maps) for run in runs[arm]]
        arms[arm]["agreement_with_teacher"] = average(shares)
    return {
        "arms": arms,
        "comparison": comparison.to_dict(),
        "teacher_advantage": advantage(settings, runs["teacher"][0], runs["alone"]),
        "scenes": by_scene(scores),
        "places": places_report(study, runs),
        "formula": settings.recipe.formula,
        "settings": settings.model_dump(mode="json"),
        "data": data,
    }


def advantage(
    settings: StudySettings, teacher: RunDirectory | None, alone: Sequence[RunDirectory]
) -> dict[str, Any] | None:
    """How much better the teacher is on validation; None where no student asks it, or where the scores are not there any more."""
    if teacher is None or not asks_teacher(settings):
        return None
    if not all(run.validation_scores.exists() for run in (teacher, *alone)):
        return None
    students = [Scores.load(run.validation_scores) for run in alone]
    return teacher_advantage(Scores.load(teacher.validation_scores).on(students[0].tiles), students)


def arm_report(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the seeds of an arm; seconds and steps are those of one training."""
    first = reports[0]
    tests = [report["test"] for report in reports]
    return {
        "parameters": first["parameters"],
        "labels": first.get("labels", 1.0),
        "steps": first["steps"],
        "seconds": round(float(np.mean([report["seconds"] for report in reports])), 2),
        "device": first["device"],
        "megapixels_per_second": average([report.get("megapixels_per_second") for report in reports]),
        "mean_ap": average([test["mean_ap"] for test in tests]),
        "mean_iou": average([test["mean_iou"] for test in tests]),
        "mean_boundary_iou": average([test["mean_boundary_iou"] for test in tests]),
        "classes": {
            name: {key: average([test["classes"][name][key] for test in tests]) for key in values}
            for name, values in tests[0]["classes"].items()
        },
        "at_threshold": {
            name: {key: average([report["at_threshold"][name][key] for report in reports]) for key in values}
            for name, values in first["at_threshold"].items()
        },
        "seeds": [
            {
                "seed": report["seed"],
                "seconds": report["seconds"],
                "best_step": report["best_step"],
                "mean_ap": report["test"]["mean_ap"],
                "mean_iou": report["test"]["mean_iou"],
                "validation_mean_ap": report["validation"]["mean_ap"],
            }
            for report in reports
        ],
    }


def average(values: Sequence[float | None], of: Callable[[list[float]], Any] = np.mean) -> float | None:
    """Mean of the known values, or None."""
    known = [value for value in values if value is not None]
    return round(float(of(known)), 6) if known else None


def agreement(maps: Path, others: Path) -> float | None:
    """Share of pixels to which two runs give the same class, over the scenes that both mapped.

    Raises:
        DataError: a map that cannot be read.
    """
    same = total = 0
    for path in sorted(maps.glob("*.tif")):
        if (others / path.name).is_file():
            try:
                same_here, total_here = count_agreement(path, others / path.name)
            except RasterioError as error:
                raise DataError(
                    f"{path} or {others / path.name}: cannot be read ({error}). Delete the run's report.json and start the study again."
                ) from error
            same, total = same + same_here, total + total_here
    return same / total if total else None


def count_agreement(path: Path, other: Path) -> tuple[int, int]:
    """Pixels of two maps with the same class, and pixels that both know."""
    same = total = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as a, rasterio.open(other) as b:
            for _, window in a.block_windows(1):
                first, second = a.read(window=window), b.read(window=window)
                known = (first[0] != NODATA) & (second[0] != NODATA)
                same += int((decide(first) == decide(second))[known].sum())
                total += int(known.sum())
    return same, total
