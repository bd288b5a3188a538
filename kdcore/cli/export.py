"""`kdcore export`: a checkpoint as a file for other programs, and, if it is good enough, with 8-bit integers or run in bfloat16."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcore.cli.output import Bars, JsonOption, errors, explained, print_json, say
from kdcore.errors import SettingsError
from kdcore.imports import large_imports
from kdcore.jobs.progress import Progress, Stage
from kdcore.ownership import check_replaceable, is_ours, replacing_own

if TYPE_CHECKING:
    from kdcore.data.collection import Collection
    from kdcore.inference.engines import EngineName
    from kdcore.models.networks import SegmentationNetwork
    from kdcore.models.onnx import OnnxInfo

PARITY_TILES = 20


@explained
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file written by kdcore.")],
    out: Annotated[Path, typer.Argument(help="The file to write, .onnx.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write OUT-int8.onnx, unless it loses too much on the validation split.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The collection it was trained on: to compare predictions on real tiles, and for --int8 and --bf16."
        ),
    ] = None,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="Also judge whether OpenVINO may run OUT in bfloat16, on the validation split."),
    ] = False,
    tile: Annotated[int, typer.Option(help="Height and width that the file takes, pixels.", min=32)] = 512,
    margin: Annotated[
        float, typer.Option(help="Points of mean AP that 8 bits or bfloat16 may lose at most.", min=0)
    ] = 1.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace whatever has the name of a result, even your own file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a network as ONNX: imagery in its own units goes in, probabilities come out.

    With --data its predictions are compared with the checkpoint's on validation tiles, in ONNX Runtime and OpenVINO.
    Exit code 1 says that a form was refused; the reason is printed, and files that were accepted stay.
    """
    if int8 and data is None:
        raise SettingsError(
            "--int8: needs --data COLLECTION; ranges are measured on its train split, and the loss on its validation split."
        )
    if bf16:
        check_bfloat16(data)
    with large_imports():
        from kdcore.deploy.export import deepness_keys, export_onnx
        from kdcore.models.checkpoint import check_fits, load_network

    check_replaceable([out, *([eight_bits(out)] if int8 else [])], overwrite, inputs=[checkpoint])
    network, about = load_network(checkpoint)
    collection = None
    if data is not None:  # a wrong folder is told before anything is written
        from kdcore.data.collection import Collection

        collection = Collection.open(data)
        check_fits(about, collection.settings.class_names, collection.bands, checkpoint)
    with Bars() as bars:
        bars(Progress("", Stage.EXPORTING, 0, 1))
        info = export_onnx(checkpoint, out, tile=tile, extra=deepness_keys(about, tile=tile), overwrite=overwrite)
        bars(Progress("", Stage.EXPORTING, 1, 1))
        found: dict[str, Any] = {
            "file": str(out),
            "bytes": out.stat().st_size,
            "parameters": info.parameters,
            "tile": tile,
        }
        if collection is not None:
            found["parity"] = compare_predictions(checkpoint, out, info, collection, bars, ("onnxruntime", "openvino"))
        if bf16 and collection is not None:
            found["bf16"] = judge_bfloat16(network, checkpoint, out, info, collection, margin, bars)
        if int8 and collection is not None:
            found["int8"] = write_eight_bits(network, out, info, collection, margin, bars, overwrite)
    tell(found, as_json)


def check_bfloat16(data: Path | None) -> None:
    """Refuse `--bf16` before anything is written where nothing can be judged.

    Raises:
        SettingsError: there are no data, or the processor does not compute in bfloat16.
    """
    from kdcore.inference.quiet_openvino import NO_BFLOAT16, has_bfloat16

    if data is None:
        raise SettingsError("--bf16: needs --data COLLECTION; the loss is measured on its validation split.")
    if not has_bfloat16():
        raise SettingsError(f"--bf16: {NO_BFLOAT16}. Leave it out, or export on a machine that does.")


def compare_predictions(
    checkpoint: Path, out: Path, info: "OnnxInfo", collection: "Collection", bars: Bars, engines: Sequence["EngineName"]
) -> dict[str, dict[str, float]]:
    """Parity with the checkpoint on validation tiles, by engine."""
    import numpy as np

    from kdcore.deploy.export import parity
    from kdcore.deploy.quantise import sample_tiles
    from kdcore.inference.engines import open_engine

    assert info.tile is not None
    fill = np.array(info.fill, dtype=np.float32)
    tiles = list(sample_tiles(collection, "validation", info.tile, PARITY_TILES, fill))
    reference = open_engine(checkpoint, "torch", device="cpu")
    found: dict[str, dict[str, float]] = {}
    for index, name in enumerate(engines):
        bars(Progress("", Stage.COMPARING, index, len(engines)))
        candidate = open_engine(out, name, device="cpu")
        same = parity(reference, candidate, [image for image, _ in tiles], [valid for _, valid in tiles])
        found[name] = {"flips": same.flips, "largest_difference": same.largest_difference, "pixels": same.pixels}
    bars(Progress("", Stage.COMPARING, len(engines), len(engines)))
    return found


def judge_bfloat16(
    reference: "SegmentationNetwork",
    checkpoint: Path,
    out: Path,
    info: "OnnxInfo",
    collection: "Collection",
    margin: float,
    bars: Bars,
) -> dict[str, Any]:
    """What OpenVINO changes and loses where it runs the exported file in bfloat16; nothing is written."""
    from kdcore.deploy.gate import gate, in_bfloat16
    from kdcore.inference.engines import BFLOAT16

    same = compare_predictions(checkpoint, out, info, collection, bars, (BFLOAT16,))[BFLOAT16]
    judged = gate(reference, in_bfloat16(out), collection, bars, "bf16")
    return {
        "engine": BFLOAT16,
        "passes": judged.passes(margin),
        "flips": same["flips"],
        "difference": judged.difference.model_dump() if judged.difference else None,
        "margin": margin,
        "verdict": judged.sentence(margin),
    }


def write_eight_bits(
    reference: "SegmentationNetwork",
    out: Path,
    info: "OnnxInfo",
    collection: "Collection",
    margin: float,
    bars: Bars,
    overwrite: bool,
) -> dict[str, Any]:
    """Quantise and judge; the file gets its name only if it passes."""
    import numpy as np

    from kdcore.deploy.gate import gate
    from kdcore.deploy.quantise import CALIBRATION_TILES, quantise_onnx, sample_tiles
    from kdcore.models.onnx import OnnxNetwork

    assert info.tile is not None
    target = eight_bits(out)
    fill = np.array(info.fill, dtype=np.float32)
    bars(Progress("", Stage.CALIBRATING, 0, 1))
    tiles = [image for image, _ in sample_tiles(collection, "train", info.tile, CALIBRATION_TILES, fill)]
    bars(Progress("", Stage.CALIBRATING, 1, 1))
    try:
        with replacing_own(target, overwrite) as candidate:
            quantise_onnx(out, candidate, tiles)
            judged = gate(reference, OnnxNetwork(candidate), collection, bars)
            if not judged.passes(margin):
                raise RefusedError
            size = candidate.stat().st_size
    except RefusedError:
        if is_ours(target):
            target.unlink(missing_ok=True)  # of an earlier export: it would be taken for this one's
        size = None
    difference = judged.difference.model_dump() if judged.difference else None
    return {
        "file": str(target) if size is not None else None,
        "bytes": size,
        "difference": difference,
        "margin": margin,
        "calibration_tiles": len(tiles),
        "verdict": judged.sentence(margin),
    }


def eight_bits(out: Path) -> Path:
    """What the form with 8-bit integers is called."""
    return out.with_name(f"{out.stem}-int8.onnx")


class RefusedError(Exception):
    """Leaves `replacing_own` without a file."""


def tell(found: dict[str, Any], as_json: bool) -> None:
    """Print what was written and measured; exit with code 1 where a form was refused."""
    from kdcore.deploy.export import MOST_FLIPS

    problems = [
        f"{name} labels {100 * same['flips']:.3f} % of the pixels otherwise than the checkpoint; more than {100 * MOST_FLIPS:g} % "
        "is too much. Do not use the file there."
        for name, same in found.get("parity", {}).items()
        if same["flips"] > MOST_FLIPS
    ]
    int8, bf16 = found.get("int8"), found.get("bf16")
    if bf16 and not bf16["passes"]:
        problems.append(bf16["verdict"])
    if int8 and int8["file"] is None:
        problems.append(int8["verdict"])
    if as_json:
        print_json(found | {"problems": problems})
    else:
        say(f"{found['file']}: {found['bytes'] / 1e6:.2f} MB, {found['parameters']:,} parameters, tile {found['tile']}")
        for name, same in found.get("parity", {}).items():
            say(
                f"{name}: {100 * same['flips']:.4f} % of {same['pixels']:,} labels differ from the checkpoint's; "
                f"largest difference of a probability {same['largest_difference']:.1e}"
            )
        if bf16 and bf16["passes"]:
            say(f"{bf16['engine']}: {100 * bf16['flips']:.4f} % of the labels differ. {bf16['verdict']}")
        if int8 and int8["file"] is not None:
            say(f"{int8['file']}: {int8['bytes'] / 1e6:.2f} MB. {int8['verdict']}")
        for problem in problems:
            errors.print(problem, soft_wrap=True, highlight=False, markup=False)
    if problems:
        raise typer.Exit(1)
