"""The `kdcore` command. Torch is imported only by the commands that compute."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from kdcore.data.inspect import Inspection, proposal_text
from kdcore.data.inspect import inspect as inspect_data
from kdcore.errors import KdcoreError, SettingsError
from kdcore.evaluation.report import study_report
from kdcore.files import write_json, write_text
from kdcore.settings import STUDY_PRESETS, StudySettings, read_yaml, validate
from kdcore.views.page import write_page

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    help="Shrink a satellite-image segmentation network by knowledge distillation, and see honestly what the small one kept.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Look at imagery and labels before a study.", no_args_is_help=True)
app.add_typer(data_app, name="data")
console = Console()
errors = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the study. An unfinished one goes on where it was.")]


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Print what the user can mend as one sentence, without a traceback, and exit with code 2."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KdcoreError as error:
            errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            errors.print("Stopped. Start the same command again to go on.")
            raise typer.Exit(130) from error

    return wrapper


class Bars:
    """Progress bars on a terminal, one line a stage elsewhere; on standard error, so that --json stays clean."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=errors,
        )
        self.stage = ""
        self.task: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if stage != self.stage:
            if self.task is not None:
                self.progress.update(self.task, visible="scoring" not in self.stage)
            self.stage = stage
            self.task = self.progress.add_task(stage, total=total)
            if not errors.is_terminal:
                errors.print(stage, highlight=False)
        self.progress.update(self.task, completed=done, total=total)

    def __enter__(self) -> "Bars":
        if errors.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if errors.is_terminal:
            self.progress.stop()


@data_app.command("inspect")
@explained
def data_inspect(
    folder: Annotated[
        Path, typer.Argument(help="A folder with images/ and masks/ or labels/, a collection.yaml, or one file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where to write the proposed collection.yaml; default: into the folder if it can be written to.",
        ),
    ] = None,
    crop: Annotated[
        int, typer.Option(help="Crop size in pixels that a split by blocks must leave room for.", min=32)
    ] = 128,
    as_json: JsonOption = False,
) -> None:
    """Tell what a folder holds and what is wrong with it, and propose a collection.yaml. Nothing is overwritten."""
    with errors.status("Reading ...") as status:
        found = inspect_data(folder, crop, lambda name: status.update(f"Reading {escape(name)}"))
    written = write_proposal(found, folder, out)
    if as_json:
        print(json.dumps(found.to_dict() | {"written": None if written is None else str(written)}, indent=1))  # noqa: T201
        return
    print_inspection(found)
    if written is not None:
        console.print(
            f"\nProposed settings are in [bold]{escape(str(written))}[/]. Read them, then: kdcore study {escape(str(written))}",
            soft_wrap=True,
        )


def write_proposal(found: Inspection, folder: Path, out: Path | None) -> Path | None:
    """Write the proposal where it can be written, with `root:` where that is not the folder itself."""
    if found.proposal is None:
        return None
    import os

    target = out
    if target is None:
        target = folder / "collection.yaml" if os.access(folder, os.W_OK) else Path(f"{found.proposal.name}.yaml")
    if target.exists():
        raise SettingsError(f"{target}: exists already and is not overwritten. Name another file with --out.")
    if target.resolve().parent != Path(found.path).resolve():
        found.proposal = found.proposal.model_copy(update={"root": Path(found.path).resolve()})
    write_text(target, proposal_text(found))
    return target


def print_inspection(found: Inspection) -> None:
    """What was found, as tables and sentences."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for facts in found.images:
        key = (facts.bands, facts.dtype, facts.driver, facts.crs, facts.metres_per_pixel, facts.nodata)
        groups.setdefault(key, []).append(f"{facts.width} x {facts.height}")
    table = Table(title=f"Images in {escape(found.path)}", title_justify="left")
    for name in ("Images", "Size (px)", "Bands", "Type", "Format", "CRS", "m per pixel", "Nodata"):
        table.add_column(name)
    for key, sizes in groups.items():
        different = sorted(set(sizes))
        shown = different[0] if len(different) == 1 else f"{different[0]} ... ({len(different)} sizes)"
        table.add_row(str(len(sizes)), shown, *(escape("-" if value is None else str(value)) for value in key))
    console.print(table)
    if found.unlabelled:
        console.print(f"{len(found.unlabelled)} images without labels in unlabelled/")
    for polygons in found.polygons:
        fields = f"; classes in field {polygons.class_field!r}: {polygons.values}" if polygons.class_field else ""
        console.print(escape(f"{polygons.file}: {polygons.polygons} polygons, {polygons.crs}{fields}"))
    if found.masks:
        kinds = {kind: sum(mask.kind == kind for mask in found.masks) for kind in ("index", "palette", "rgb")}
        console.print("Masks: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count))
    if len(found.scenes) != len(found.images) and found.scenes:
        console.print(escape(f"Scenes: {', '.join(f'{name} ({count} files)' for name, count in found.scenes.items())}"))
    if found.class_pixels:
        shares = Table(title="Share of labelled pixels", title_justify="left")
        shares.add_column("Class")
        for split in found.class_pixels:
            shares.add_column(split, justify="right")
        totals = {split: max(1, sum(pixels.values())) for split, pixels in found.class_pixels.items()}
        for name in next(iter(found.class_pixels.values())):
            shares.add_row(
                escape(name),
                *(f"{100 * pixels[name] / totals[split]:.2f} %" for split, pixels in found.class_pixels.items()),
            )
        console.print(shares)
    for text in found.notes:
        console.print(f"Note: {escape(text)}", soft_wrap=True, highlight=False)
    for text in found.problems:
        console.print(f"[bold red]Problem:[/] {escape(text)}", soft_wrap=True, highlight=False)
    if not found.problems:
        console.print("No problems found.")


@app.command()
@explained
def demo(
    out: OutOption = Path("studies/demo"),
    seed: Annotated[int, typer.Option(help="Of the procedural area.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """The whole story on a procedural area: teacher, student alone, distilled student, verdict. About five minutes on two cores."""
    from kdcore.data.demo import write_demo
    from kdcore.training.run import Reporter
    from kdcore.training.study import run_study

    with Bars() as bars:
        collection = write_demo(out / "area", seed, progress=bars)
        report = run_study(collection, STUDY_PRESETS["demo"], out / "study", Reporter(bars))
    show_study(out / "study", report, as_json)


@app.command()
@explained
def study(
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    out: OutOption,
    preset: Annotated[str, typer.Option(help=f"Where settings start from: {', '.join(STUDY_PRESETS)}.")] = "quick",
    settings: Annotated[
        Path | None, typer.Option(help="A YAML file whose settings replace those of the preset.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the students, for example 0,1,2.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="How much of the teacher's doubt to pass on: 1 to 20.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="The teacher's share of the loss: 0 to 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each student's training.", min=1)] = None,
    teacher_steps: Annotated[int | None, typer.Option(help="Steps of the teacher's training.", min=1)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train teacher, student alone and distilled student under one budget, for each seed, and compare them.

    loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)
    """
    chosen = study_settings(preset, settings, {
        "seeds": None if seeds is None else parse_seeds(seeds),
        "recipe.temperature": temperature,
        "recipe.alpha": alpha,
        "budget.steps": steps,
        "teacher.budget.steps": teacher_steps,
        "hardware.device": device,
    })  # fmt: skip
    from kdcore.training.run import Reporter
    from kdcore.training.study import run_study

    with Bars() as bars:
        report = run_study(folder, chosen, out, Reporter(bars))
    show_study(out, report, as_json)


def study_settings(preset: str, file: Path | None, flags: dict[str, Any]) -> StudySettings:
    """A preset, then a file's settings, then the command's flags."""
    if preset not in STUDY_PRESETS:
        raise SettingsError(f"--preset {preset}: there is no such preset; choose one of {', '.join(STUDY_PRESETS)}.")
    values = STUDY_PRESETS[preset].model_dump(mode="json")
    if file is not None:
        replace(values, read_yaml(file))
    for name, value in flags.items():
        if value is not None:
            *path, last = name.split(".")
            place = values
            for part in path:
                place = place[part]
            place[last] = value
    return validate(StudySettings, values, str(file) if file else "settings")


def replace(values: dict[str, Any], others: dict[str, Any]) -> None:
    """Put `others` over `values`, mapping by mapping; a network is replaced as a whole."""
    for key, value in others.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict) and key not in ("network", "student"):
            replace(values[key], value)
        else:
            values[key] = value


def parse_seeds(text: str) -> list[int]:
    """'0,1,2' as numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--seeds {text}: write whole numbers with commas, for example 0,1,2.") from error


@app.command()
@explained
def report(study: Annotated[Path, typer.Argument(help="A study's folder.")], as_json: JsonOption = False) -> None:
    """Compare the arms of a finished study, and write one HTML page that opens without a network."""
    values = study_report(study)
    write_json(study / "report.json", values)
    show_study(study, values, as_json)


def show_study(folder: Path, values: dict[str, Any], as_json: bool) -> None:
    """Print a study's report and write its page."""
    page = write_page(folder, values)
    if as_json:
        print(json.dumps(values, indent=1))  # noqa: T201
        return
    table = Table(title=f"Test split of {escape(values['data']['name'])}", title_justify="left")
    for name in ("Arm", "Parameters", "Mean AP", "Mean IoU", "Boundary IoU", "Agrees with teacher", "Steps", "Seconds"):
        table.add_column(name, justify="left" if name == "Arm" else "right")
    for name, arm in values["arms"].items():
        table.add_row(
            {"alone": "student alone", "distilled": "distilled student"}.get(name, name),
            f"{arm['parameters']:,}",
            *(percent(arm.get(key)) for key in ("mean_ap", "mean_iou", "mean_boundary_iou", "agreement_with_teacher")),
            str(arm["steps"]),
            f"{arm['seconds']:.0f}",
        )
    console.print(table)
    comparison = values["comparison"]
    for key, name in (("mean_ap_points", "mean AP"), ("mean_iou_points", "mean IoU")):
        points = comparison[key]
        console.print(
            f"Distilled minus alone, {name}: {points['mean']:+.2f} points (95 % interval {points['low']:+.2f} to {points['high']:+.2f})"
        )
    console.print(f"[bold]{escape(comparison['sentence'])}[/]", soft_wrap=True, highlight=False)
    console.print(f"Page: {escape(str(page))}", soft_wrap=True, highlight=False)


def percent(value: float | None) -> str:
    """A share with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


@app.command()
@explained
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file written by kdcore.")],
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    maps: Annotated[Path | None, typer.Option(help="Folder for one GeoTIFF of probabilities a scene.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a network on one part of a collection's split."""
    from kdcore.training.run import evaluate_checkpoint

    with Bars() as bars:
        values = evaluate_checkpoint(checkpoint, folder, split, device, maps, bars)
    if as_json:
        print(json.dumps(values, indent=1))  # noqa: T201
        return
    table = Table(title=f"{escape(str(checkpoint))} on the {split} part", title_justify="left")
    for name in ("Class", "Share", "AP", "IoU", "F1", "Boundary IoU"):
        table.add_column(name, justify="left" if name == "Class" else "right")
    for name, scores in values["classes"].items():
        table.add_row(
            escape(name), *(percent(scores.get(key)) for key in ("prevalence", "ap", "iou", "f1", "boundary_iou"))
        )
    table.add_row(
        "mean", "", percent(values["mean_ap"]), percent(values["mean_iou"]), "", percent(values["mean_boundary_iou"])
    )
    console.print(table)


def main() -> None:
    """Entry point of the command."""
    sys.exit(app())
