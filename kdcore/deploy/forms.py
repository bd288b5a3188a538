"""One network in every form: exported, compared with the original on real tiles, in bfloat16 and with 8-bit integers if they pass, and scored.

What was found is kept beside the files, with a hash of everything it depends on, so that a deployment that was interrupted does
not do it again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray

from kdcore import files
from kdcore.data.collection import Collection
from kdcore.deploy.export import deepness_keys, export_onnx, parity
from kdcore.deploy.gate import MARGIN, WORDS, in_bfloat16, judge, score
from kdcore.deploy.profile import TILE, engines_for, network_size
from kdcore.deploy.quantise import CALIBRATION_TILES, quantise_onnx, sample_tiles
from kdcore.deploy.record import IN_BFLOAT16, EngineName, Form, Kind
from kdcore.errors import CheckpointError
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.files import remove_half_written, write_text
from kdcore.inference.engines import BFLOAT16, open_engine
from kdcore.inference.quiet_openvino import has_bfloat16, import_openvino
from kdcore.jobs.progress import Count, Report, Stage, counting
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import SegmentationNetwork
from kdcore.models.onnx import OnnxNetwork
from kdcore.ownership import note as note_own
from kdcore.reading import read_bytes
from kdcore.settings import Arm, Frozen, SplitName, fingerprint

PARITY_TILES = 16
VERSION = 2  # of what is done here; raise it when the same inputs give other forms
NOTES = ".forms"  # hidden folder: what was found about each run


class Found(Frozen):
    """What was found about one run's network.

    Attributes:
        inputs: hash of everything that it depends on.
        forms: without speeds, which belong to the moment.
        files: SHA-256 of each form's file.
    """

    inputs: str
    forms: tuple[Form, ...]
    files: dict[str, str]


class Step(Protocol):
    """Gives what to tell of one stage of a network."""

    def __call__(self, stage: Stage, subject: str = "") -> Count:
        """What to tell; `subject` is the file that is looked at."""


@dataclass(frozen=True)
class Network:
    """A run's network: one checkpoint, several that are averaged, or a teacher that only exists as ONNX."""

    run: RunDirectory
    arm: Arm
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The run's name, and the beginning of its files'."""
        return self.run.path.name

    @property
    def exportable(self) -> bool:
        """Whether there is one network in torch."""
        return len(self.files) == 1 and self.files[0].suffix.lower() != ".onnx"


class Way(NamedTuple):
    """An exported file, and how its network is run."""

    kind: Kind
    file: Path

    @property
    def subject(self) -> str:
        """What a person is told that is looked at."""
        return self.file.name + (IN_BFLOAT16 if self.kind == "bf16" else "")

    @property
    def engines(self) -> list[EngineName]:
        """Those whose labels are compared with the original's."""
        return [BFLOAT16] if self.kind == "bf16" else engines_for(self.file)

    def network(self) -> OnnxNetwork:
        """What is scored."""
        return in_bfloat16(self.file) if self.kind == "bf16" else OnnxNetwork(self.file)


def forms_of(network: Network, collection: Collection, folder: Path, report: Report, tile: int = TILE) -> list[Form]:
    """Every form of a network, without speeds; files are written into the deployment's folder.

    Raises:
        KdcoreError: the network cannot be read or exported, the data are broken, the disk is full.
    """
    note = folder / NOTES / f"{network.name}.json"
    inputs = fingerprint(
        VERSION,
        [sha256(path) for path in network.files],
        collection.content_hash,
        network.run.settings.evaluation,
        network.run.read_report()["test"],
        [tile, MARGIN, CALIBRATION_TILES, PARITY_TILES, has_bfloat16()],
        versions(),
    )
    before = read_note(note, inputs, folder)
    if before is not None:
        return list(before.forms)
    remove_half_written(folder)
    forms = [original(network)]
    if network.exportable:
        forms += exported(network, forms[0], collection, folder, report, tile)
    files = {form.file: sha256(folder / form.file) for form in forms if form.file}
    write_text(note, Found(inputs=inputs, forms=tuple(forms), files=files).model_dump_json(indent=1))
    return forms


def original(network: Network) -> Form:
    """The network as it was trained, or the ONNX file that it came as; its scores are those of its run."""
    sizes = [network_size(path) for path in network.files]
    test = network.run.read_report()["test"]
    foreign = all(path.suffix.lower() == ".onnx" for path in network.files)
    return Form(
        arm=network.arm,
        run=network.name,
        kind="onnx" if foreign else "torch",
        megabytes=sum(size.megabytes for size in sizes),
        parameters=sum(size.parameters for size in sizes),
        macs_per_pixel=sum(size.macs_per_pixel for size in sizes),
        mean_ap=test["mean_ap"],
        mean_iou=test["mean_iou"],
    )


def exported(
    network: Network, torch_form: Form, collection: Collection, folder: Path, report: Report, tile: int
) -> list[Form]:
    """The ONNX form, the same in bfloat16 where the processor computes in it, and the 8-bit one."""
    (checkpoint,) = network.files

    def step(stage: Stage, subject: str = "") -> Count:
        return counting(report, stage, network.name, subject)

    reference, info = load_network(checkpoint)
    fill = reference.fill
    plain, small = folder / f"{network.name}.onnx", folder / f"{network.name}-int8.onnx"
    step(Stage.EXPORTING)(0, 1)
    export_onnx(checkpoint, plain, tile=tile, extra=deepness_keys(info, tile=tile), overwrite=True)
    step(Stage.EXPORTING)(1, 1)
    in_float = scores_of(network, reference, collection, "validation", step(Stage.SCORING_VALIDATION))

    def form_of(kind: Kind, file: Path) -> Form:
        return compared(network, torch_form, in_float, Way(kind, file), collection, step, tile)

    forms = [form_of("onnx", plain)]
    if has_bfloat16():
        forms.append(form_of("bf16", plain))
    count = step(Stage.CALIBRATING)
    tiles = (image for image, _ in sample_tiles(collection, "train", tile, CALIBRATION_TILES, fill))
    try:
        quantise_onnx(plain, small, counted(tiles, count))
    except CheckpointError as error:
        return [*forms, not_made(torch_form, plain, str(error))]
    note_own(small, sha256(small))
    count(CALIBRATION_TILES, CALIBRATION_TILES)
    forms.append(form_of("int8", small))
    if forms[-1].refused:
        small.unlink()
    return forms


def scores_of(
    network: Network, form: SegmentationNetwork | OnnxNetwork, collection: Collection, split: SplitName, report: Count
) -> Scores:
    """Score a form as its study was scored."""
    settings = network.run.settings
    buffer = settings.budget.crop if split == "validation" else 0
    return score(form, collection, split, settings.evaluation, buffer, report)


def compared(
    network: Network,
    torch_form: Form,
    in_float: Scores,
    way: Way,
    collection: Collection,
    step: Step,
    tile: int,
) -> Form:
    """A form with how far it is from the original, its scores on the test split, and why it is refused if it is.

    Args:
        network: whose form it is.
        torch_form: of the original.
        in_float: the original's scores on the validation split.
        way: how the form is run.
        collection: that it was trained on.
        step: gives what to tell of a stage.
        tile: side of the tiles whose labels are compared, pixels.
    """
    found = scores_of(network, way.network(), collection, "validation", step(Stage.SCORING_VALIDATION, way.subject))
    verdict = judge(in_float, found, way.kind)
    flips, largest = differences(network, way, collection, step(Stage.COMPARING, way.subject), tile)
    report = step(Stage.SCORING_TEST, way.subject)
    test = summarise(scores_of(network, way.network(), collection, "test", report))
    refused = verdict.sentence() if way.kind in WORDS and not verdict.passes() else ""
    return torch_form.model_copy(
        update={
            "kind": way.kind,
            "file": "" if refused else way.file.name,
            "megabytes": way.file.stat().st_size / 1e6,
            "mean_ap": test["mean_ap"],
            "mean_iou": test["mean_iou"],
            "difference": verdict.difference,
            "flips": flips,
            "largest_difference": largest,
            "refused": refused,
        }
    )


def differences(network: Network, way: Way, collection: Collection, report: Count, tile: int) -> tuple[float, float]:
    """Share of pixels of real tiles whose label differs from the original's, and the largest difference of a probability, of all engines."""
    (checkpoint,) = network.files
    reference = open_engine(checkpoint, "torch", "cpu")
    flips, largest, names = 0.0, 0.0, way.engines
    for index, name in enumerate(names):
        pairs = list(sample_tiles(collection, "test", tile, PARITY_TILES, reference.fill))
        images = counted((image for image, _ in pairs), report, index * len(pairs), len(names) * len(pairs))
        found = parity(reference, open_engine(way.file, name, "cpu"), images, (valid for _, valid in pairs))
        flips, largest = max(flips, found.flips), max(largest, found.largest_difference)
    report(1, 1)
    return flips, largest


def not_made(torch_form: Form, plain: Path, reason: str) -> Form:
    """An 8-bit form that could not even be made; its size is what it would have been."""
    return torch_form.model_copy(
        update={
            "kind": "int8",
            "megabytes": plain.stat().st_size / 4e6,
            "mean_ap": None,
            "mean_iou": None,
            "refused": reason.replace(str(plain), plain.name),
        }
    )


def counted(
    tiles: Iterable[NDArray[Any]], report: Count, before: int = 0, total: int = CALIBRATION_TILES
) -> Iterator[NDArray[Any]]:
    """The same tiles, telling how many there were; a wish to stop ends it here."""
    for done, image in enumerate(tiles):
        report(before + done, max(total, before + done + 1))
        yield image


def read_note(note: Path, inputs: str, folder: Path) -> Found | None:
    """What an earlier process found, if it depends on the same and its files are as it left them."""
    try:
        found = Found.model_validate_json(read_bytes(note))
        unchanged = all(sha256(folder / name) == digest for name, digest in found.files.items())
    except (OSError, ValueError):
        return None
    return found if found.inputs == inputs and unchanged else None


def sha256(path: Path) -> str:
    """Of a file's contents.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return files.sha256(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error


def versions() -> dict[str, str]:
    """Of the libraries that make and run the forms."""
    import onnxruntime

    openvino = import_openvino()

    return {
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__.partition("-")[0],
    }
