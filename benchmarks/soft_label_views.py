"""Does a student learn more from soft labels of all eight views than from those of one view, turned?

    OMP_NUM_THREADS=1 python benchmarks/soft_label_views.py [--seeds 3] [--folder FOLDER] [--save]        # a quarter of an hour on one core

The demo preset (teacher `light`, student `tiny`, 350 steps of 4 + 4 crops of 128 px, alpha = 0.9) with `hardware.cache_views` of `one` and
`eight`; nothing else differs. *Mean AP*: on the test part, in per cent. *Other class*: share of the pixels for which the trained teacher
names another class when its imagery is turned or mirrored, which one view cannot show.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import parser, publish, table

from kdcore.data.demo import write_demo
from kdcore.jobs.store import RunDirectory
from kdcore.settings import STUDY_PRESETS, Hardware, Recipe, RunSettings
from kdcore.training.run import execute

PRESET = STUDY_PRESETS["demo"]
VIEWS = ("one", "eight")


def teacher_run(folder: Path) -> RunDirectory:
    """The teacher's training, to be done once."""
    settings = RunSettings(
        arm="teacher",
        seed=0,
        collection=write_demo(folder / "area"),
        network=PRESET.teacher.network,
        recipe=Recipe(alpha=0),
        budget=PRESET.teacher.budget,
        hardware=Hardware(device="cpu"),
    )
    return RunDirectory.create(folder / "runs" / "teacher", settings)


def student_run(folder: Path, teacher: Path, views: str, seed: int) -> RunDirectory:
    """A student's training with soft labels of so many views."""
    settings = RunSettings(
        arm="distilled",
        seed=seed,
        collection=write_demo(folder / "area"),
        network=PRESET.student,
        recipe=PRESET.recipe,
        budget=PRESET.budget,
        hardware=Hardware(device="cpu", cache_views=views),
        teacher=(teacher,),
    )
    return RunDirectory.create(folder / "runs" / f"{views}-{seed}", settings)


def measure(folder: Path, seeds: int) -> str:
    """Train whatever is not trained yet, and set the results side by side."""
    teacher = teacher_run(folder)
    execute(teacher)
    scores: dict[str, list[float]] = {views: [] for views in VIEWS}
    about = {}
    for seed in range(seeds):
        for views in VIEWS:
            run = student_run(folder, teacher.best, views, seed)
            execute(run)
            report = run.read_report()
            scores[views].append(100 * report["test"]["mean_ap"])
            about[views] = report["soft_labels"]
    rows = [
        [
            views,
            *(f"{value:.2f}" for value in scores[views]),
            f"{np.mean(scores[views]):.2f}",
            f"{about[views]['bytes'] / 1e6:.0f} MB",
        ]
        for views in VIEWS
    ]
    gain = np.subtract(scores["eight"], scores["one"])
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
    text = table(["views", *(f"seed {seed}" for seed in range(seeds)), "mean AP, %", "on the disk"], rows)
    other = about["eight"]["disagreement"]["other_class"]
    return f"{text}\n\nEight less one: {gain.mean():+.2f} points (standard error {error:.2f}). Other class: {other:.2%} of the pixels."


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--folder", type=Path, help="keeps the runs; what is finished there is not done again")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        body = measure(options.folder or Path(made), options.seeds)
    publish("soft_label_views", "Soft labels of eight views and of one", body, options.save)


if __name__ == "__main__":
    main()
