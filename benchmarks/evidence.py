"""Does distillation help? Every recipe against the student alone, with the same steps and with the same seconds, and all labels.

    OMP_NUM_THREADS=1 python benchmarks/evidence.py benchmarks/evidence/banepa.yaml --out evidence/banepa

Trains one teacher, then for each seed the student alone, the student with all labels and no teacher (where the students have fewer),
each recipe, and the student alone with as many steps as fit into the seconds of the most expensive recipe. The share of the gap is
measured with the student that has all labels: the teacher's lead is partly that of its labels. The same command goes on where it was
stopped, and started several times the processes share the trainings; `--only NAME ...` does some arms (`--only alone "all labels"`),
`--table` writes the table of what has finished by then.

`--labels 0.25` gives the students another share of the labels than the file says, `--steps 1500` another budget, and `--seeds 0 1 2`
other seeds; the teacher is the same. Another length is set against the student alone of the file's own length, or of `--against` steps.
`--curves FILE.html --only NAME` draws an arm's precision-recall curves beside those of the student alone and the teacher, from what has
finished. With `--save` the table goes to `benchmarks/results/evidence_NAME_PERCENT_STEPS.md`, with `_against_STEPS` where that is given.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from measuring import parser, publish, table
from pydantic import field_validator

from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError
from kdcore.evaluation.bands import study_curves
from kdcore.evaluation.compare import Comparison, compare
from kdcore.evaluation.curves import precision_recall
from kdcore.evaluation.gap import joined, teacher_extras
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.uncertainty import Difference, holm
from kdcore.files import write_json
from kdcore.jobs.locks import TakenError
from kdcore.jobs.plan import with_steps
from kdcore.jobs.progress import Progress, Report
from kdcore.jobs.store import RunDirectory
from kdcore.settings import Arm, Budget, Frozen, Hardware, Network, Recipe, RunSettings, TeacherSettings, load
from kdcore.teacher.soft_labels import FOLDER
from kdcore.training.run import evaluate_ensemble, execute
from kdcore.views.curves import precision_recall_figure

ALONE, ALL_LABELS, SAME_SECONDS = "alone", "all labels", "alone, same seconds"
RECALLS = (0.5, 0.7, 0.8, 0.9, 0.95)


class Evidence(Frozen):
    """What is compared with what.

    Attributes:
        collection: path of a `collection.yaml`, from the file's own folder.
        labels: share of the train part's labels that the students may use; that of the teacher is `teacher.labels`.
        seeds: of the students; arms are paired by them.
        recipes: arms by name.
    """

    collection: Path
    labels: float
    seeds: tuple[int, ...]
    teacher: TeacherSettings
    student: Network
    budget: Budget
    recipes: dict[str, Recipe]
    hardware: Hardware

    @field_validator("hardware")
    @classmethod
    def _one_precision(cls, hardware: Hardware) -> Hardware:
        if hardware.precision == "auto":
            raise ValueError("precision: name one, for machines that share the trainings would each choose their own")
        return hardware


class Experiment:
    """The runs of one evidence file in one folder."""

    def __init__(
        self,
        file: Path,
        out: Path,
        labels: float | None = None,
        steps: int | None = None,
        seeds: tuple[int, ...] = (),
        against: int | None = None,
    ) -> None:
        written, self.name, self.out = load(Evidence, file), file.stem, out.absolute()
        self.collection = (file.parent / written.collection).resolve()
        changed = {
            "labels": labels or written.labels,
            "budget": with_steps(written.budget, steps) if steps else written.budget,
            "seeds": seeds or written.seeds,
        }
        self.settings = written.model_copy(update=changed)
        own, other = self.settings.budget.steps, against or written.budget.steps

        def key(steps: int) -> str:
            return f"{100 * self.settings.labels:g}_{steps}"

        def place(steps: int) -> Path:
            as_written = (self.settings.labels, steps) == (written.labels, written.budget.steps)
            return self.out if as_written else self.out / key(steps)

        self.key, self.students = key(own) + (f"_against_{against}" if against else ""), place(own)
        # The student alone of another length is a rival, too: its better length may be that.
        self.rivals, self.rival = place(other), f"{ALONE}, {other} steps" if other != own else None
        spare = self.settings.labels < 1 or bool(Collection.open(self.collection).unlabelled)
        self.recipes = {
            name: recipe for name, recipe in self.settings.recipes.items() if spare or not recipe.unlabelled
        }

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm, the student alone first."""
        return (ALONE, *((ALL_LABELS,) if self.few else ()), *self.recipes, SAME_SECONDS)

    @property
    def few(self) -> bool:
        """Whether the students have only some of the labels, so that there is a student with all of them."""
        return self.settings.labels < 1

    def teacher(self, report: Report) -> tuple[list[Path], Path]:
        """Train the teacher's networks if they are not there, and score what teaches.

        Returns:
            Their checkpoints, and the folder of the run whose scores are the teacher's.
        """
        wanted = self.settings.teacher
        checkpoints = list(wanted.checkpoints)
        for seed in () if checkpoints else wanted.seeds:
            run = RunDirectory.create(self.out / f"teacher-s{seed}", self.run_settings("teacher", seed, wanted.budget))
            finish(run, lambda run=run: execute(run, report))
            checkpoints.append(run.best)
        if len(checkpoints) == 1 and not wanted.flips and not wanted.checkpoints:
            return checkpoints, self.out / f"teacher-s{wanted.seeds[0]}"
        settings = self.run_settings("teacher", 0, Budget(steps=1), checkpoints)
        run = RunDirectory.create(self.out / "teacher", settings)
        finish(run, lambda: evaluate_ensemble(run, checkpoints, Collection.open(self.collection), report))
        return checkpoints, run.path

    def run_settings(
        self, arm: str, seed: int, budget: Budget, checkpoints: list[Path] | None = None, recipe: Recipe | None = None
    ) -> RunSettings:
        """One training's settings; `checkpoints` teach where the recipe listens to them."""
        teaching = arm == "teacher"
        kind: Arm = (
            "all_labels" if arm == ALL_LABELS else "distilled" if recipe is not None and recipe.alpha else "alone"
        )
        return RunSettings(
            arm="teacher" if teaching else kind,
            seed=seed,
            collection=self.collection,
            network=self.settings.teacher.network if teaching else self.settings.student,
            recipe=recipe or Recipe(alpha=0).alone,
            budget=budget,
            hardware=self.settings.hardware,
            teacher=tuple(checkpoints or ()),
            teacher_flips=bool(checkpoints) and self.settings.teacher.flips,
            labels=self.settings.teacher.labels if teaching else 1.0 if arm == ALL_LABELS else self.settings.labels,
        )

    def student(self, arm: str, seed: int, checkpoints: list[Path]) -> RunDirectory | None:
        """One student's run; None where the seconds that it gets are not measured yet."""
        budget, recipe = self.settings.budget, self.recipes.get(arm)
        if arm == SAME_SECONDS:
            steps = self.steps_in_same_seconds()
            if steps is None:
                return None
            budget = with_steps(budget, steps)
        settings = self.run_settings(arm, seed, budget, checkpoints if recipe is not None else None, recipe)
        return RunDirectory.create(self.folder(arm, seed), settings)

    def folder(self, arm: str, seed: int) -> Path:
        """Where a student's run lies."""
        if arm == self.rival:
            return self.rivals / f"{ALONE}-s{seed}"
        if arm == ALL_LABELS:  # the same for every share of the labels
            return self.out / f"all_{self.settings.budget.steps}" / f"all-labels-s{seed}"
        return self.students / f"{arm.replace(', ', '-').replace(' ', '-')}-s{seed}"

    def steps_in_same_seconds(self) -> int | None:
        """Steps of the student alone in the seconds of the most expensive recipe, from the first seed's runs; kept once known."""
        file = self.students / "same-seconds.json"
        if file.exists():
            return int(json.loads(file.read_text(encoding="utf-8"))["steps"])
        seed = self.settings.seeds[0]
        runs = {arm: RunDirectory(self.folder(arm, seed)) for arm in (ALONE, *self.recipes)}
        if not all(run.report.exists() for run in runs.values()):
            return None
        seconds = {arm: run.read_report()["seconds"] for arm, run in runs.items()}
        steps = round(self.settings.budget.steps * max(seconds.values()) / seconds[ALONE])
        write_json(file, {"steps": steps, "seconds": seconds})
        return steps

    def work(self, only: tuple[str, ...]) -> None:
        """Train whatever is not finished and nobody else works on, seed by seed."""
        checkpoints, _ = self.teacher(report)
        waiting = [(arm, seed) for seed in self.settings.seeds for arm in self.arms if not only or arm in only]
        while waiting:
            later = []
            for arm, seed in waiting:
                run = self.student(arm, seed, checkpoints)
                if run is None or run.alive:
                    later.append((arm, seed))
                elif not run.report.exists():
                    try:
                        execute(run, report, soft_labels=self.out / FOLDER)
                    except TakenError:
                        later.append((arm, seed))
            if len(later) == len(waiting):
                time.sleep(2)
            waiting = [pair for pair in later if not RunDirectory(self.folder(*pair)).report.exists()]

    def page(self) -> str:
        """The results so far."""
        _, teacher_folder = self.teacher(report)
        teacher = Scores.load(RunDirectory(teacher_folder).scores)
        scores = {arm: self.finished(arm) for arm in (*self.arms, self.rival) if arm is not None}
        scores = {arm: found for arm, found in scores.items() if found}
        rival = self.rival or SAME_SECONDS
        rows = [row_of("teacher", [RunDirectory(teacher_folder)], None, None, "")]
        against = {arm: [versus(scores, arm, other, teacher, self.few) for other in (ALONE, rival)] for arm in scores}
        # One family: every recipe against the student alone.
        adjusted = holm([found.p if found and found.p is not None else float("nan") for found, _ in against.values()])
        for (arm, found), p in zip(scores.items(), adjusted, strict=True):
            runs = [RunDirectory(self.folder(arm, seed)) for seed in found]
            to_all = versus(scores, arm, ALL_LABELS, teacher, self.few)
            rows.append(
                row_of(arm, runs, *against[arm], "" if p != p else f"{p:.3f}")
                + ([points(to_all and to_all.mean_ap_points)] if self.few else [])
            )
        header = ("arm", "seeds", "mean AP", "mean IoU", "Boundary IoU", "points of AP against alone", "p (Holm)", "gap closed",
                  f"points of AP against {rival}", "steps", "seconds",
                  *(("points of AP against all labels",) if self.few else ()))  # fmt: skip
        rows[0] += [""] * (len(header) - len(rows[0]))
        reference = "the student with all labels and no teacher" if self.few else "the teacher"
        curves = [precision_row("teacher", [teacher])]
        curves += [precision_row(arm, list(found.values())) for arm, found in scores.items()]
        return "\n\n".join(
            [
                self.in_words(RunDirectory(teacher_folder), scores),
                table(header, rows),
                "Means over the seeds, test split; the best checkpoint comes from validation. In brackets 95 % intervals over seeds and "
                f"ground; p is adjusted for the number of arms; 'gap closed' is the share of the lead of {reference} over the student alone.",
                table(("mean precision at a recall of", *(f"{100 * recall:g} %" for recall in RECALLS)), curves),
                f"Recipes: {'; '.join(f'{name}: {in_words(recipe)}' for name, recipe in self.recipes.items() if name in scores)}.",
            ]
        )

    def in_words(self, teacher: RunDirectory, finished: Mapping[str, Mapping[int, Scores]]) -> str:
        """What was trained on what."""
        wanted, budget = self.settings.teacher, self.settings.budget
        trained = [RunDirectory(self.out / f"teacher-s{seed}").read_report() for seed in wanted.seeds]
        student = RunDirectory(self.folder(ALONE, next(iter(finished[ALONE])))).read_report() if finished else None
        parameters = teacher.read_report()["parameters"]
        teacher_budget = wanted.budget
        seconds = sum(report["seconds"] for report in trained)
        sentences = [
            f"Teacher: {wanted.network.architecture} with {wanted.network.encoder}, {parameters:,} parameters, {teacher_budget.steps} steps "
            f"of {teacher_budget.batch_size} crops of {teacher_budget.crop} px with {share_in_words(trained[0])}, {seconds:.0f} seconds"
            f"{', averaged over the eight turned and mirrored views' if wanted.flips else ''}."
        ]
        if student is not None:
            sentences.append(
                f"Student: {self.settings.student.architecture} with {self.settings.student.encoder}, {student['parameters']:,} parameters, "
                f"1/{parameters / student['parameters']:.0f} of the teacher's; {100 * student['labels']:.1f} % of the labels; {budget.steps} steps "
                f"of {budget.batch_size} labelled crops of {budget.crop} px, best of {len(budget.validation_steps)} checkpoints."
            )
            extras = teacher_extras(
                {
                    "arms": {"distilled": {"labels": student["labels"]}, "teacher": {"labels": trained[0]["labels"]}},
                    "settings": self.settings.model_dump(mode="json"),
                }
            )
            if extras:
                sentences.append(f"Beside its size and its own budget, the teacher had {joined(extras)}.")
        hardware = self.settings.hardware
        starts = {
            who: network.pretrained_on
            for who, network in (("teacher", wanted.network), ("students", self.settings.student))
        }
        told = [f"the {who} from {start}'s weights" for who, start in starts.items() if start]
        sentences.append(
            f"{hardware.precision}; {joined(told) + ', the rest' if told else 'everything'} from random ones."
        )
        return " ".join(sentences)

    def draw(self, arm: str, file: Path) -> None:
        """Write a page with the curves of the teacher, the students without one and an arm, over the seeds that both have finished."""
        _, teacher = self.teacher(report)
        seeds = sorted(self.finished(ALONE).keys() & self.finished(arm).keys())
        upper = self.finished(ALL_LABELS) if self.few else {}
        runs = {
            "teacher": [RunDirectory(teacher)],
            "alone": [RunDirectory(self.folder(ALONE, seed)) for seed in seeds],
            "distilled": [RunDirectory(self.folder(arm, seed)) for seed in seeds],
        }
        if seeds and upper.keys() >= set(seeds):
            runs["all_labels"] = [RunDirectory(self.folder(ALL_LABELS, seed)) for seed in seeds]
        test = {name: [Scores.load(run.scores) for run in found] for name, found in runs.items()}
        validation = {name: [Scores.load(run.validation_scores) for run in found] for name, found in runs.items()}
        curves = study_curves(test, validation)
        precision_recall_figure(curves, curves.views[-1]).write_html(file, config={"displayModeBar": False})

    def finished(self, arm: str) -> dict[int, Scores]:
        """Scores of an arm's finished runs by seed."""
        runs = {seed: RunDirectory(self.folder(arm, seed)) for seed in self.settings.seeds}
        return {seed: Scores.load(run.scores) for seed, run in runs.items() if run.report.exists()}


def share_in_words(trained: Mapping[str, Any]) -> str:
    """The labels that a run had, by its report."""
    return "all labels" if trained["labels"] == 1 else f"{100 * trained['labels']:.1f} % of the labels"


def versus(
    scores: Mapping[str, Mapping[int, Scores]], arm: str, other: str, teacher: Scores, few: bool
) -> Comparison | None:
    """An arm against another one, over the seeds that both have finished.

    With `few` labels the gap is that to the student with all labels; it is not told before all of these seeds have one.
    """
    seeds = sorted(scores.get(arm, {}).keys() & scores.get(other, {}).keys())
    if arm == other or not seeds:
        return None
    upper = scores.get(ALL_LABELS, {})
    given = few and arm != ALL_LABELS and upper.keys() >= set(seeds)
    return compare(
        [scores[other][seed] for seed in seeds],
        [scores[arm][seed] for seed in seeds],
        None if few else teacher,
        all_labels=[upper[seed] for seed in seeds] if given else None,
    )


def row_of(arm: str, runs: list[RunDirectory], alone: Comparison | None, same: Comparison | None, p: str) -> list[str]:
    """An arm's row of the table."""
    reports = [run.read_report() for run in runs]
    percents = [
        100 * mean(report["test"][name] for report in reports) for name in ("mean_ap", "mean_iou", "mean_boundary_iou")
    ]
    closed = "" if alone is None or alone.share_of_gap_closed is None else f"{100 * alone.share_of_gap_closed:.0f} %"
    if alone is not None and alone.share_of_gap_closed_interval is not None:
        low, high = alone.share_of_gap_closed_interval
        closed += f" ({100 * low:.0f} to {100 * high:.0f})"
    return [
        arm,
        str(len(runs)),
        *(f"{value:.1f}" for value in percents),
        points(alone and alone.mean_ap_points),
        p,
        closed,
        points(same and same.mean_ap_points),
        f"{mean(report['steps'] for report in reports):.0f}",
        f"{mean(report['seconds'] for report in reports):.0f}",
    ]


def points(difference: Difference | None) -> str:
    """A difference with its interval."""
    return "" if difference is None else f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def finish(run: RunDirectory, work: Callable[[], object]) -> None:
    """Do a run, or wait until another process has done it."""
    while not run.report.exists():
        try:
            work()
        except TakenError:
            time.sleep(2)


def precision_row(arm: str, scores: list[Scores]) -> list[str]:
    """Precision at fixed recalls, averaged over classes and seeds."""
    values = []
    for one in scores:
        precision, recall = precision_recall(*one.total())
        known = [index for index in range(len(recall)) if np.isfinite(recall[index]).all()]
        values.append([[best_at(precision[i], recall[i], least) for least in RECALLS] for i in known])
    return [arm, *(f"{100 * value:.1f}" for value in np.mean(values, axis=(0, 1)))]


def best_at(precision: np.ndarray, recall: np.ndarray, least: float) -> float:
    """The highest precision at any threshold that reaches a recall."""
    return float(np.nanmax(precision[recall >= least]))


def in_words(recipe: Recipe) -> str:
    """Temperature, alpha, and what differs from the defaults of a recipe."""
    said = {"temperature": recipe.temperature, "alpha": recipe.alpha} | recipe.model_dump(exclude_defaults=True)
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in said.items()
    )


def report(progress: Progress) -> None:
    """Say now and then how far it is."""
    done, total = progress.done, progress.total
    if done in (0, total) or done % 100 == 0:
        print(f"{time.strftime('%H:%M:%S')} {progress} {done}/{total}", file=sys.stderr, flush=True)


def main() -> None:
    """Train what is missing, then write the table."""
    arguments = parser(__doc__)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--labels", type=float)
    arguments.add_argument("--steps", type=int)
    arguments.add_argument("--against", type=int, help="steps of the student alone that another length is set against")
    arguments.add_argument("--seeds", type=int, nargs="*", default=())
    arguments.add_argument("--only", nargs="*", default=())
    arguments.add_argument("--curves", type=Path, help="draw the first of --only, without training")
    arguments.add_argument("--table", action="store_true", help="of what has finished, without training")
    given = arguments.parse_args()
    try:
        experiment = Experiment(given.file, given.out, given.labels, given.steps, tuple(given.seeds), given.against)
        if given.curves:
            experiment.draw(given.only[0], given.curves)
            return
        if not given.table:
            experiment.work(tuple(given.only))
        body = experiment.page()
    except KdcoreError as error:
        sys.exit(str(error))
    settings = experiment.settings
    title = f"Evidence: {experiment.name}, {100 * settings.labels:g} % of the labels, {settings.budget.steps} steps"
    publish("evidence", title, body, given.save, f"evidence_{experiment.name}_{experiment.key}")


if __name__ == "__main__":
    main()
