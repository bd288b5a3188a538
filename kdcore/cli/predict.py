"""`kdcore predict` and `merge`: maps of any raster with a trained network."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import rich.progress
import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from kdcore.cli.output import JsonOption, errors, escape, explained, print_json, say
from kdcore.errors import KdcoreError, SettingsError, Stopped
from kdcore.jobs.progress import Progress, Report
from kdcore.reading import read_json
from kdcore.settings import validate
from kdcore.ui.stages import stage_in_words

if TYPE_CHECKING:
    from kdcore.inference.engines import Engine
    from kdcore.inference.prediction import Prediction

WHOLE = re.compile("[0-9]{1,9}")
EngineChoice = Literal["auto", "torch", "onnxruntime", "openvino"]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder for the maps. An unfinished prediction goes on where it was.")
]


@explained
def predict(
    model: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors) or an ONNX file.")],
    rasters: Annotated[
        list[str],
        typer.Argument(
            help="Rasters of any size; also at addresses (https://, s3://, or STAC items) of the hosts in KDCORE_REMOTE_HOSTS."
        ),
    ],
    out: OutOption,
    engine: Annotated[
        EngineChoice, typer.Option(help="auto: torch for a checkpoint; for an ONNX file what is faster here.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile, pixels. Default: 512, on a GPU 1024.", min=32)
    ] = None,
    halo: Annotated[int, typer.Option(help="Imagery seen around what is kept of a tile, pixels.", min=0)] = 32,
    blend: Annotated[
        Literal["crop", "hann"], typer.Option(help="At the seams: cut the halo away, or blend over it.")
    ] = "crop",
    flips: Annotated[
        bool, typer.Option("--flips", help="Average over four mirrored views; four times the work.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability from which a network of two classes says yes. Default: the run's own, from validation, or 0.5."
        ),
    ] = None,
    polygons: Annotated[
        Literal["gpkg", "geojson", "none"], typer.Option(help="Objects as GeoPackage, GeoJSON, or not at all.")
    ] = "gpkg",
    min_area: Annotated[float, typer.Option(help="Smallest object among the polygons, square metres.", min=0)] = 0.0,
    simplify: Annotated[float | None, typer.Option(help="How far a polygon's line may move, metres.")] = None,
    bands: Annotated[
        str | None, typer.Option(help="Numbers of the bands to give to the network, for example 4,3,2.")
    ] = None,
    nodata: Annotated[float | None, typer.Option(help="Value of no data, where the file does not say so.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Read a raster of another resolution at the network's own.")
    ] = False,
    shard: Annotated[
        str, typer.Option(help="Do share i of n only, for example 2/8; `kdcore merge` puts the shares together.")
    ] = "1/1",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace whatever has the name of a result, a prediction or your own file."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Map rasters of any size: probabilities and classes as Cloud-Optimized GeoTIFFs, and polygons.

    Whatever happens on the way, the same command goes on where it was; what bears its name is finished.
    """
    files = local(rasters, out)
    check_names(files)
    part = parse_shard(shard)
    numbers = parse_bands(bands)
    from kdcore.inference.engines import open_engine
    from kdcore.inference.mapping import MappingOptions
    from kdcore.inference.merging import merge as put_together
    from kdcore.inference.prediction import PolygonOptions, Prediction, begin, make_parts, plan_prediction
    from kdcore.inference.source import open_source
    from kdcore.inference.uploads import ANY_SIZE

    runner = open_engine(model, engine, device)
    side = tile or (1024 if runner.batch > 1 else 512)
    options = validate(
        MappingOptions,
        {
            "tile": side,
            "halo": halo,
            "blend": blend,
            "flips": flips,
            "threshold": threshold_of(model, runner.info.classes) if threshold is None else threshold,
        },
        "options",
    )
    objects = validate(PolygonOptions, {"format": polygons, "min_area": min_area, "simplify": simplify}, "options")
    made: list[dict[str, Any]] = []
    failed = 0
    for raster in files:
        prediction = Prediction(out.absolute(), raster.stem)
        try:
            source = open_source(
                raster, runner.info, bands=numbers, nodata=nodata, resample=resample, max_declared_gb=ANY_SIZE
            )
            plan = plan_prediction(raster, source, [model], runner, options, objects)
            if begin(prediction, plan, overwrite):
                errors.print(f"{escape(str(raster))}: is mapped already", soft_wrap=True, highlight=False)
                made.append(read_manifest(prediction))
                continue
            if source.note:
                errors.print(f"{escape(str(raster))}: {escape(source.note)}", soft_wrap=True, highlight=False)
            with Speed(raster.name, runner) as speed:
                make_parts(prediction, plan, source, runner, part, speed)
            del source  # with its cache
            if part == (1, 1):
                values = put_together(prediction, report=tell_stages(raster.name), overwrite=overwrite)
                made.append(values | speed.facts)
            else:
                errors.print(
                    f"{escape(str(raster))}: share {shard} is done. When all are: kdcore merge {escape(str(out))}"
                )
        except Stopped:
            raise
        except KdcoreError as error:
            if len(files) == 1:
                raise
            failed += 1
            errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    show(made, out, as_json)
    if failed:
        errors.print(f"{failed} of {len(files)} rasters could not be mapped; the others are.")
        raise typer.Exit(2)


@explained
def merge(
    out: Annotated[Path, typer.Argument(help="The folder that was --out of `kdcore predict --shard`.")],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Make maps of what is finished, named NAME.incomplete.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace whatever has the name of a result, even your own file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put together what several `kdcore predict --shard i/n` made."""
    from kdcore.inference.merging import merge as put_together
    from kdcore.inference.prediction import Prediction

    folders = [folder for folder in sorted(out.absolute().glob("*.parts")) if (folder / "plan.json").is_file()]
    if not folders:
        raise SettingsError(
            f"{out}: holds no parts of a prediction. Name the folder that was --out of `kdcore predict`."
        )
    made = [
        put_together(
            Prediction(folder.parent, folder.name.removesuffix(".parts")),
            incomplete,
            tell_stages(folder.stem),
            overwrite,
        )
        for folder in folders
    ]
    show(made, out, as_json)


def local(rasters: Sequence[str], out: Path) -> list[Path]:
    """Rasters as files; those at addresses are fetched into a folder beside the maps, where they stay."""
    from kdcore.data.remote import FOLDER, fetch, is_address

    files = []
    for raster in rasters:
        if is_address(raster):
            errors.print(f"Fetching {escape(raster)}", soft_wrap=True, highlight=False)
        files.append(fetch(raster, out.absolute() / FOLDER) if is_address(raster) else Path(raster))
    return files


def check_names(rasters: list[Path]) -> None:
    """Refuse rasters whose maps would have one name, or one that no other program opens."""
    from kdcore.data.rasters import check_name

    for raster in rasters:
        check_name(raster)
        if not raster.stem.isprintable():
            raise SettingsError(f"{raster}: its maps would bear its name, which has control characters. Rename it.")
        others = [str(other) for other in rasters if other.stem == raster.stem]
        if len(others) > 1:
            raise SettingsError(
                f"{' and '.join(others[:2])}: their maps would have one name. Predict them into different folders."
            )


def parse_shard(text: str) -> tuple[int, int]:
    """'2/8' -> (2, 8).

    Raises:
        SettingsError: it is something else.
    """
    index, _, count = text.partition("/")
    if WHOLE.fullmatch(index) and WHOLE.fullmatch(count) and 1 <= int(index) <= int(count):
        return int(index), int(count)
    raise SettingsError(f"--shard {text}: should be i/n with i from 1 to n, for example 2/8.")


def parse_bands(text: str | None) -> tuple[int, ...] | None:
    """'4,3,2' -> (4, 3, 2).

    Raises:
        SettingsError: it is something else.
    """
    if text is None:
        return None
    numbers = [entry.strip() for entry in text.split(",")]
    if not all(WHOLE.fullmatch(entry) and int(entry) > 0 for entry in numbers):
        raise SettingsError(f"--bands {text}: should be numbers from 1 with commas, for example 4,3,2.")
    return tuple(map(int, numbers))


def threshold_of(model: Path, classes: Sequence[str]) -> float:
    """The threshold of the run that a checkpoint belongs to, or 0.5."""
    from kdcore.inference.prediction import own_threshold
    from kdcore.jobs.store import RunDirectory

    of_run = model.parent.name == "checkpoints"
    return own_threshold(RunDirectory(model.absolute().parents[1]), classes) if of_run else 0.5


def read_manifest(prediction: "Prediction") -> dict[str, Any]:
    """What a finished prediction's manifest holds."""
    values: dict[str, Any] = read_json(prediction.manifest)
    return values


def show(made: list[dict[str, Any]], out: Path, as_json: bool) -> None:
    """Tell what was made."""
    if as_json:
        print_json(made)
        return
    for values in made:
        speed = f", {values['megapixels_per_second']:.2f} MPx/s" if "megapixels_per_second" in values else ""
        say(f"{out / values['files'][0]} and {', '.join(values['files'][1:])}{speed}")
        for name, facts in values["classes"].items():
            area = "" if facts["hectares"] is None else f" ({facts['hectares']:,.2f} ha)"
            say(f"  {name}: {facts['pixels']:,} pixels{area}")
        if not any(facts["pixels"] for facts in values["classes"].values()):
            say("  The raster holds no data at all: its maps are nodata everywhere.")
        if not values["complete"]:
            say(f"  INCOMPLETE: {len(values['missing_rows'])} parts are missing and nodata in these maps.")


class Speed:
    """A bar with MPx/s and the time left; one line every ten seconds where there is no terminal."""

    def __init__(self, name: str, engine: "Engine") -> None:
        self.name, self.engine = name, engine
        self.progress = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %  {task.fields[speed]:.2f} MPx/s"),
            TimeRemainingColumn(),
            console=errors,
        )
        self.task = self.progress.add_task(f"{escape(name)} ({engine.name})", total=None, speed=0.0)
        self.first: tuple[float, int] | None = None
        self.told = 0.0
        self.facts: dict[str, Any] = {}

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is; speed leaves out what was finished before."""
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        seconds, pixels = now - self.first[0], done - self.first[1]
        speed = pixels / 1e6 / seconds if seconds > 0 else 0.0
        self.progress.update(self.task, completed=done, total=total, speed=speed)
        if not errors.is_terminal and now - self.told > 10:
            self.told = now
            left = f", {(total - done) / 1e6 / speed:.0f} s left" if speed else ""
            errors.print(f"{escape(self.name)}: {100 * done / total:.0f} %, {speed:.2f} MPx/s{left}", highlight=False)

    def __enter__(self) -> "Speed":
        self.started = time.monotonic()
        if errors.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if errors.is_terminal:
            self.progress.stop()
        seconds = time.monotonic() - self.started
        pixels = self.progress.tasks[0].completed - (self.first[1] if self.first else 0)
        self.facts = {
            "seconds": round(seconds, 2),
            "megapixels_per_second": round(pixels / 1e6 / max(seconds, 1e-9), 3),
            "device": self.engine.device,
        }


def tell_stages(name: str) -> Report:
    """Names each stage that begins after the network has ended, once."""
    told: list[str] = []

    def tell(progress: Progress) -> None:
        words = stage_in_words(progress)
        if told[-1:] != [words]:
            told.append(words)
            errors.print(f"{escape(name)}: {escape(words)}", highlight=False)

    return tell
