"""Does a training of two processes end where one of a single process does, at the same global batch?

    OMP_NUM_THREADS=1 python benchmarks/several_processes.py [--steps 120] [--seeds 0 1 2] [--save]    # about five minutes on two cores

The student alone is trained on the demo area, once in one process with batches of four crops and once in two with two crops
each. The crops are the same. What differs is batch norm, which sees two crops instead of four, and the mean of the two parts'
gradients, which is not that of the whole batch where the parts have different numbers of labelled pixels. Mean AP on the test
split is compared seed by seed; the difference should be no larger than what seeds make.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from measuring import parser, publish, table

from kdcore.data.demo import write_demo
from kdcore.jobs.store import RunDirectory
from kdcore.settings import PRESETS, Budget, EvaluationSettings, Hardware, Recipe, RunSettings
from kdcore.training.processes import led_by_rank_zero, start, wants_start


def train(run: RunDirectory) -> int:
    """Do a run in as many processes as its settings name; each of them calls this."""
    hardware = run.settings.hardware
    if wants_start(hardware):
        return start(hardware, [__file__, "--run", str(run.path)])

    def work() -> int:
        from kdcore.training.run import execute

        execute(run)
        return 0

    return led_by_rank_zero(work)


def quality(path: Path, collection: Path, seed: int, processes: int, steps: int) -> float:
    """Mean AP on the test split, in points, of one training."""
    settings = RunSettings(
        arm="alone",
        seed=seed,
        collection=collection,
        network=PRESETS["tiny"],
        recipe=Recipe(alpha=0),
        budget=Budget(steps=steps, batch_size=4, crop=96, validations=4),
        evaluation=EvaluationSettings(tile=64, window=192),
        hardware=Hardware(device="cpu", devices=processes),
    )
    run = RunDirectory.create(path, settings)
    subprocess.run([sys.executable, __file__, "--run", str(path)], check=True)
    return 100 * float(run.read_report()["test"]["mean_ap"])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument(
        "--run", type=Path, help="train this run and end; for the processes that this program starts"
    )
    chosen = arguments.parse_args()
    if chosen.run:
        sys.exit(train(RunDirectory(chosen.run)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collection = write_demo(folder / "area", size=384)
        found = {
            (seed, number): quality(folder / f"{number}-{seed}", collection, seed, number, chosen.steps)
            for seed in chosen.seeds
            for number in (1, 2)
        }
    rows = [
        (seed, *(f"{found[seed, number]:.2f}" for number in (1, 2)), f"{found[seed, 2] - found[seed, 1]:+.2f}")
        for seed in chosen.seeds
    ]
    one, two = ([found[seed, number] for seed in chosen.seeds] for number in (1, 2))
    differences = [after - before for before, after in zip(one, two, strict=True)]
    body = table(("seed", "one process", "two processes", "difference"), rows)
    body += (
        f"\n\nMean AP on the test split, points; student alone, {chosen.steps} steps of four crops of 96 px. The mean difference is "
        f"{mean(differences):+.2f}; the standard deviation between seeds is {stdev(one):.2f} with one process and {stdev(two):.2f} with two."
    )
    publish("several_processes", "Two processes against one, at the same global batch", body, chosen.save)


if __name__ == "__main__":
    main()
