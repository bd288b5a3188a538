"""A finished study without any training: maps of made-up networks whose skill is known, scored as real ones are."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.levels import odds_of
from kdcore.evaluation.report import study_report
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.files import write_json
from kdcore.jobs.plan import run_name
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.settings import Budget, Recipe, RunSettings, StudySettings, TeacherSettings, save

CLASSES = ("land", "water", "building", "vegetation", "road")
SHARES = (0.52, 0.08, 0.13, 0.19, 0.08)
SKILLS = {
    "teacher": 2.6,
    "alone": 2.0,
    "distilled": 2.12,
    "all_labels": 2.3,
}  # how far a class's logit stands out of noise of size 1
PARAMETERS = {"teacher": 24_400_000, "alone": 600_000, "distilled": 600_000, "all_labels": 600_000}
SIDE, TILE = 256, 32


def make_study(
    folder: Path,
    *,
    classes: Sequence[str] = CLASSES,
    shares: Sequence[float] | None = None,
    seeds: int = 3,
    scenes: int = 3,
    metres_per_pixel: float | None = 2.0,
    skills: dict[str, float] | None = None,
    labels: float = 1.0,
) -> Path:
    """Write a study's folder as `run_study` leaves it, without maps and weights.

    Args:
        folder: to be made.
        classes: names; the first takes what the others leave.
        shares: of the classes in the pixels.
        seeds: trainings of each student.
        scenes: of 64 tiles each in the test split; a third as many, one at least, in the validation split.
        metres_per_pixel: ground resolution, None where it is not known.
        skills: of teacher, alone, distilled and all_labels.
        labels: share that the students have; below 1 there is a student with all labels.
    """
    shares = shares or (SHARES if len(classes) == len(SHARES) else np.full(len(classes), 1 / len(classes)))
    budget = Budget(steps=400, validate_every=100)
    settings = StudySettings(
        teacher=TeacherSettings(budget=budget),
        recipe=Recipe(),
        budget=budget,
        seeds=tuple(range(seeds)),
        labels=labels,
    )
    save(settings, folder / "study.yaml")
    data = {"name": "made-up", "collection": str(folder / "no-collection"), "hash": "0" * 16}
    data |= {"metres_per_pixel": metres_per_pixel, "classes": list(classes), "colours": [None] * len(classes)}
    write_json(folder / "data.json", data)
    splits = {"test": (scenes, 1), "validation": (max(1, scenes // 3), 2)}
    truth = {
        name: paint_truth(np.random.default_rng(number), *shape) for name, (shape, number) in _with(shares, splits)
    }
    for arm, skill in (SKILLS | (skills or {})).items():
        if arm == "all_labels" and not settings.trains_all_labels:
            continue
        for seed in range(seeds if arm != "teacher" else 1):
            rng = np.random.default_rng([seed, *arm.encode()])
            luck = skill * (1 + 0.02 * rng.normal())
            scores = {name: score(labels, luck, rng, classes) for name, labels in truth.items()}
            write_run(folder, arm, seed, settings, scores)
    write_json(folder / "report.json", study_report(folder))
    return folder


def _with(shares, splits):
    return [(name, ((scenes, shares), number)) for name, (scenes, number) in splits.items()]


def paint_truth(rng: np.random.Generator, scenes: int, shares: Sequence[float]) -> np.ndarray:
    """Labels (scenes, 256, 256) of smooth patches: the class is decided by the quantile of a random field."""
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 5, mode="wrap") for _ in range(scenes)])
    below = np.cumsum(shares)[:-1]
    edges = np.where(below < 1 - 1e-9, np.quantile(field, np.minimum(below, 1)), np.inf)  # beyond the last: no pixel
    return np.digitize(field, edges).astype(np.uint8)


def score(labels: np.ndarray, skill: float, rng: np.random.Generator, classes: Sequence[str]) -> Scores:
    """Scores of a network that sees the truth through smooth noise; rare classes are seen less well."""
    scored = (1,) if len(classes) == 2 else tuple(range(len(classes)))
    builder = ScoresBuilder(classes, scored, tile=TILE)
    for number, truth in enumerate(labels):
        noise = ndimage.gaussian_filter(rng.normal(size=(len(classes), SIDE, SIDE)), (0, 1.5, 1.5))
        known = np.arange(len(classes))[:, None, None] == truth
        logits = 1.4 * (skill * known + noise / noise.std() * 1.3)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
        builder.add_window(f"scene{number}", 0, 0, odds_of(probabilities[list(scored)]).astype(np.float32), truth, 1)
    return builder.build()


def write_run(folder: Path, arm: str, seed: int, settings: StudySettings, scores: dict[str, Scores]) -> None:
    """Write a run's directory as far as reports and curves read it."""
    recipe = settings.recipe if arm == "distilled" else Recipe(alpha=0)
    teacher = (folder / "runs/teacher-s0/checkpoints/best.safetensors",) if arm == "distilled" else ()
    network = settings.teacher.network if arm == "teacher" else settings.student
    labels = settings.labels if arm in ("alone", "distilled") else 1.0
    run = RunDirectory.create(
        folder / "runs" / run_name(arm, seed),
        RunSettings(
            arm=arm,
            seed=seed,
            collection=folder / "no-collection",
            network=network,
            recipe=recipe,
            budget=settings.budget,
            teacher=teacher,
            labels=labels,
        ),
    )
    scores["test"].save(run.scores)
    scores["validation"].save(run.validation_scores)
    report = {"arm": arm, "seed": seed, "parameters": PARAMETERS[arm], "steps": 400, "seconds": 60.0, "best_step": 400}
    report["labels"] = labels
    report["finished"] = "2026-11-24T16:46:13+0000"
    report |= {"device": "none", "validation": summarise(scores["validation"]), "test": summarise(scores["test"])}
    write_json(run.report, report | {"at_threshold": {}})
    run.metrics.write_text(
        "".join(
            json.dumps({"step": step, "loss": 2 / (1 + step / 60), "validation_mean_ap": 0.6 - 0.4 / (1 + step / 90)})
            + "\n"
            for step in range(20, 401, 20)
        )
    )
    run.write_status(RunStatus(state="finished", step=400, steps=400, seconds=60.0))
