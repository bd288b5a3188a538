"""`kdcore predict`: maps of any raster with a trained network, by any number of processes that are given the same command."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kdcore.cli import launching
from kdcore.cli.launching import LaunchOption, SlurmOption, TasksOption, check_overwrite
from kdcore.cli.output import JsonOption, Speed, errors, escape, explained, print_json, say, tell_stages
from kdcore.errors import KdcoreError, SettingsError, Stopped
from kdcore.imports import large_imports
from kdcore.jobs.locks import TakenError
from kdcore.reading import read_json
from kdcore.settings import validate

if TYPE_CHECKING:
    from kdcore.inference.engines import Engine
    from kdcore.inference.mapping import MappingOptions
    from kdcore.inference.prediction import PolygonOptions

WHOLE = re.compile("[0-9]{1,9}")
LOOK_EVERY = 1.0  # seconds between looks whether other processes have left something
Made = dict[str, Any]
"""What a finished prediction's manifest holds."""

OutOption = Annotated[Path, typer.Option("--out", help="Folder for the maps. An unfinished prediction resumes.")]
EngineOption = Annotated[
    Literal["auto", "torch", "onnxruntime", "openvino", "openvino-bf16"],
    typer.Option(
        help="auto: torch for a checkpoint; for an ONNX file what is faster here in float32. openvino-bf16: in bfloat16, "
        "which is faster on processors that have it and changes some labels."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
TileOption = Annotated[int | None, typer.Option(help="Side of a tile, pixels. Default: 512, on a GPU 1024.", min=32)]
HaloOption = Annotated[int, typer.Option(help="Imagery seen around what is kept of a tile, pixels.", min=0)]
BlendOption = Annotated[
    Literal["crop", "hann"], typer.Option(help="At the seams: cut the halo away, or blend over it.")
]
FlipsOption = Annotated[bool, typer.Option("--flips", help="Average over four flips; four times the work.")]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="Probability from which a network of two classes says yes. Default: the run's own, from validation, or 0.5."
    ),
]
PolygonsOption = Annotated[
    Literal["gpkg", "geojson", "none"], typer.Option(help="Objects as GeoPackage, GeoJSON, or not at all.")
]
MinAreaOption = Annotated[float, typer.Option(help="Smallest object among the polygons, square metres.", min=0)]
SimplifyOption = Annotated[float | None, typer.Option(help="How far a polygon's line may move, metres.")]
BandsOption = Annotated[
    str | None, typer.Option(help="Numbers of the bands to give to the network, for example 4,3,2.")
]
NodataOption = Annotated[float | None, typer.Option(help="Value of no data, where the file does not say so.")]
ResampleOption = Annotated[
    bool, typer.Option("--resample", help="Read a raster of another resolution at the network's own.")
]
IncompleteOption = Annotated[
    bool,
    typer.Option("--incomplete", help="Map nothing more: write maps of what is finished, named NAME.incomplete."),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace whatever has the name of a result, a prediction or your own file."),
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
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    tile: TileOption = None,
    halo: HaloOption = 32,
    blend: BlendOption = "crop",
    flips: FlipsOption = False,
    threshold: ThresholdOption = None,
    polygons: PolygonsOption = "gpkg",
    min_area: MinAreaOption = 0.0,
    simplify: SimplifyOption = None,
    bands: BandsOption = None,
    nodata: NodataOption = None,
    resample: ResampleOption = False,
    incomplete: IncompleteOption = False,
    overwrite: OverwriteOption = False,
    launch: LaunchOption = None,
    tasks: TasksOption = 1,
    slurm: SlurmOption = "",
    as_json: JsonOption = False,
) -> None:
    """Map rasters of any size: probabilities and classes as Cloud-Optimized GeoTIFFs, and polygons.

    Whatever happens on the way, the same command resumes; what bears its name is finished. Given again while it
    runs, in another terminal or on another machine that sees the folder, it shares the work.
    """
    files = local(rasters, out)
    check_names(files)
    read = {"bands": parse_bands(bands), "nodata": nodata, "resample": resample}
    if launch:
        check_overwrite(overwrite)
        check_there(model, *files)
        return launching.launch(launch, "predict", out, tasks, slurm)
    if incomplete:
        made, failed = until_mapped(files, lambda raster, _: put_together(out, raster, overwrite, incomplete=True))
        return tell(made, failed, files, out, as_json)
    with large_imports():
        from kdcore.inference.engines import open_engine
        from kdcore.inference.mapping import MappingOptions
        from kdcore.inference.prediction import PolygonOptions

    runner = open_engine(model, engine, device)
    values = {
        "tile": tile or (1024 if runner.batch > 1 else 512),
        "halo": halo,
        "blend": blend,
        "flips": flips,
        "threshold": threshold_of(model, runner.info.classes) if threshold is None else threshold,
    }
    options = validate(MappingOptions, values, "options")
    objects = validate(PolygonOptions, {"format": polygons, "min_area": min_area, "simplify": simplify}, "options")
    made, failed = until_mapped(files, Mapping(model, runner, out, options, objects, read, overwrite))
    tell(made, failed, files, out, as_json)


def until_mapped(rasters: list[Path], map_one: Callable[[Path, bool], Made | None]) -> tuple[list[Made], int]:
    """Go through the rasters until each is mapped, here or by other processes, or cannot be.

    Args:
        rasters: what is to be mapped.
        map_one: does what is free of a raster, and gives its manifest, or None while other processes work on it; is told
            whether it was asked before.

    Returns:
        The manifests in the order of the rasters, and how many rasters could not be mapped.
    """
    made: dict[Path, Made] = {}
    left, failed, again = rasters, 0, False
    while left:
        later = []
        for raster in left:
            try:
                values = map_one(raster, again)
            except TakenError:
                values = None
            except Stopped:
                raise
            except KdcoreError as error:
                if len(rasters) == 1:
                    raise
                failed += 1
                errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
                continue
            if values is None:
                later.append(raster)
            else:
                made[raster] = values
        if later and not again:
            errors.print(f"{len(later)} of {len(rasters)} rasters are with other processes; waiting for them.")
        left, again = later, True
        if left:
            time.sleep(LOOK_EVERY)
    return [made[raster] for raster in rasters if raster in made], failed


@dataclass(frozen=True)
class Mapping:
    """What is done with each raster of a command.

    Attributes:
        model: the network's file.
        engine: runs it.
        out: folder for the maps.
        options, objects: how a raster is looked at, and what becomes of the classes.
        read: of `open_source`.
        overwrite: replace what was there before.
    """

    model: Path
    engine: "Engine"
    out: Path
    options: "MappingOptions"
    objects: "PolygonOptions"
    read: dict[str, Any]
    overwrite: bool

    def __call__(self, raster: Path, again: bool) -> Made | None:
        """Do what is free of one raster.

        Args:
            raster: its file.
            again: whether other processes worked on it the last time.

        Returns:
            What its manifest holds, with the speed where something was mapped here; None while other processes work on it.

        Raises:
            TakenError: another process begins it at this moment, or puts it together.
            KdcoreError: it cannot be mapped.
        """
        from kdcore.inference.parts import make_parts, plan_prediction, something_to_do
        from kdcore.inference.prediction import Prediction, begin, begun_plan
        from kdcore.inference.source import open_source
        from kdcore.inference.uploads import ANY_SIZE

        prediction = Prediction(self.out.absolute(), raster.stem)
        if again:  # a look must be cheap: many processes may wait for one
            begun = begun_plan(prediction)
            if begun is not None and not something_to_do(prediction, begun):
                return None
        source = open_source(raster, self.engine.info, **self.read, max_declared_gb=ANY_SIZE)
        plan = plan_prediction(raster, source, [self.model], self.engine, self.options, self.objects)
        finished = begin(prediction, plan, self.overwrite and not again)
        note = "is mapped already" if finished else source.note
        if note and not again:
            errors.print(f"{escape(str(raster))}: {escape(note)}", soft_wrap=True, highlight=False)
        if finished:
            made: Made = read_json(prediction.manifest)
            return made
        with Speed(raster.name, self.engine) as speed:
            finished = make_parts(prediction, plan, source, self.engine, speed)
        del source  # with its cache
        return put_together(self.out, raster, self.overwrite) | speed.facts if finished else None


def put_together(out: Path, raster: Path, overwrite: bool, incomplete: bool = False) -> Made:
    """Write a raster's maps from its parts.

    Raises:
        TakenError: another process does so.
        KdcoreError: see `kdcore.inference.merging.merge`.
    """
    from kdcore.inference.merging import merge
    from kdcore.inference.prediction import Prediction

    prediction = Prediction(out.absolute(), raster.stem)
    if not prediction.plan_file.exists() and not prediction.manifest.exists():
        raise SettingsError(f"{out}: holds no parts of a prediction of {raster.name}. Leave out --incomplete.")
    return merge(prediction, incomplete, tell_stages(raster.name), overwrite)


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


def check_there(*files: Path) -> None:
    """Refuse files that are missing before they are waited for in a queue.

    Raises:
        SettingsError: names the first.
    """
    missing = next((file for file in files if not file.exists()), None)
    if missing is not None:
        raise SettingsError(f"{missing}: there is no such file.")


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
    from kdcore.jobs.store import RunDirectory

    of_run = model.parent.name == "checkpoints"
    return RunDirectory(model.absolute().parents[1]).own_threshold(classes) if of_run else 0.5


def tell(made: list[Made], failed: int, rasters: list[Path], out: Path, as_json: bool) -> None:
    """Show what was made, and end with 2 where a raster could not be mapped."""
    show(made, out, as_json)
    if failed:
        errors.print(f"{failed} of {len(rasters)} rasters could not be mapped; the others are.")
        raise typer.Exit(2)


def show(made: list[Made], out: Path, as_json: bool) -> None:
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
