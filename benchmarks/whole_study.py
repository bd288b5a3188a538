"""What a whole study costs, computing the teacher's answers included, against its plain trainings.

    OMP_NUM_THREADS=1 python benchmarks/whole_study.py [--preset demo] [--seeds 3] [--share 1.0] [--save]        # about twelve minutes on two cores

A study of the demo area with answers that are computed once and kept (`teacher_sees: scene`). For each number of seeds its seconds are
those that its runs recorded themselves; the study with fewer seeds is the first part of the one with more. It is set against what the
same would cost without distilling: the teacher's training, and twice each training of the student alone.

- *Trainings*: seconds of optimiser steps, and of computing and checking the answers.
- *Whole runs*: by the clock, with reading, validation during the training, and scoring at its end on both sides.

Pictures for the map and the report are left out; they are the same on both sides. `--share` shortens all trainings alike; the answers do
not get cheaper by that, so 1 is the honest value and anything below only tries the script.

Limit: 1.3.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import parser, publish, table, verdict

from kdcore.data.demo import SIZE, write_demo
from kdcore.jobs.plan import with_steps
from kdcore.jobs.store import RunDirectory, list_runs
from kdcore.settings import RECIPES, STUDY_PRESETS, Budget, Hardware, StudySettings
from kdcore.training.study import run_study

LIMIT = 1.3


class Spent(NamedTuple):
    """Seconds of one run: of its steps, of computing and checking answers, and of all of it by the clock."""

    training: float
    answers: float
    whole: float


def spent(run: RunDirectory) -> Spent:
    """What a finished run recorded."""
    report = run.read_report()
    answers = report.get("soft_labels") or {}
    return Spent(report["seconds"], answers.get("build_seconds", 0.0), run.status.elapsed)


def shortened(budget: Budget, share: float) -> Budget:
    """The same with fewer steps, and as many validations."""
    return with_steps(budget, max(2, round(share * budget.steps)))


def settings_of(preset: str, seeds: int, share: float, views: str) -> StudySettings:
    """The preset with kept answers, on one thread of the processor."""
    plain = STUDY_PRESETS[preset]
    teacher = plain.teacher.model_copy(update={"budget": shortened(plain.teacher.budget, share)})
    return plain.model_copy(
        update={
            "recipe": RECIPES["classic"],  # as many crops in a step as the student alone has
            "teacher": teacher,
            "budget": shortened(plain.budget, share),
            "seeds": tuple(range(seeds)),
            "hardware": Hardware(device="cpu", cache_views=views),
        }
    )


def row(seeds: int, runs: dict[str, Spent], whole: bool) -> tuple[str, ...]:
    """One number of seeds."""
    teacher = sum(seconds(one, whole) for name, one in runs.items() if name.startswith("teacher"))
    alone = sum(seconds(runs[f"alone-s{seed}"], whole) for seed in range(seeds))
    distilled = [runs[f"distilled-s{seed}"] for seed in range(seeds)]
    answers = sum(one.answers for one in distilled)
    steps = sum(seconds(one, whole) for one in distilled) - (answers if whole else 0.0)
    study, plain = teacher + alone + steps + answers, teacher + 2 * alone
    value = study / plain
    return (
        str(seeds),
        *(f"{part:.0f}" for part in (teacher, alone, steps, answers, study, plain)),
        f"{value:.3f}",
        f"{LIMIT} {verdict(value, LIMIT)}",
    )


def seconds(run: Spent, whole: bool) -> float:
    """By the clock, or of its steps."""
    return run.whole if whole else run.training


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--preset", choices=("demo", "quick"), default="demo")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--share", type=float, default=1.0, help="of the preset's steps")
    arguments.add_argument("--size", type=int, default=SIZE, help="of a district of the demo area, in pixels")
    arguments.add_argument("--views", choices=("eight", "one"), default="eight")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    settings = settings_of(chosen.preset, chosen.seeds, chosen.share, chosen.views)
    with tempfile.TemporaryDirectory() as name:
        area = write_demo(Path(name) / "area", size=chosen.size)
        started = time.perf_counter()
        out = Path(name) / "studies" / "study"
        run_study(area, settings, out)
        everything = time.perf_counter() - started
        directories = {run.path.name: run for run in list_runs(out / "runs")}
        runs = {name: spent(run) for name, run in directories.items()}
        first = directories["distilled-s0"].read_report()["soft_labels"]
    header = (
        "seeds",
        "teacher, s",
        "students alone, s",
        "distilled students, s",
        "answers, s",
        "study, s",
        "teacher + twice alone, s",
        "ratio",
        "limit",
    )
    parts = {"Trainings": False, "Whole runs": True}
    body = "\n\n".join(
        [
            f"Preset {chosen.preset}, districts of {chosen.size} px: {settings.teacher.budget.steps} steps of the teacher, "
            f"{settings.budget.steps} of each student, {settings.budget.batch_size} crops of {settings.budget.crop} px. Answers: "
            f"{first['served']}, {first['views']} view(s), {first['bytes'] / 1e6:.0f} MB. From the data to the report the study took {everything:.0f} s.",
            *(
                f"{what}:\n\n" + table(header, [row(seeds, runs, whole) for seeds in range(1, chosen.seeds + 1)])
                for what, whole in parts.items()
            ),
        ]
    )
    publish("whole_study", "What a whole study costs against its plain trainings", body, chosen.save)


if __name__ == "__main__":
    main()
