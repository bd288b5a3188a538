"""Put a network on the shelf, and check it against data before it teaches."""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdcore.data.collection import Collection
from kdcore.data.mixed import same_resolution
from kdcore.data.scene import Box
from kdcore.errors import KdcoreError, SettingsError
from kdcore.files import sha256, write_json
from kdcore.inference.source import check_type
from kdcore.jobs.progress import Report, ignore
from kdcore.jobs.shelf import ABOUT, Shelf, Shelved, is_shelf_name
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import SegmentationNetwork, count_parameters
from kdcore.models.onnx import OnnxNetwork, to_network_input
from kdcore.models.onnx_graph import external_files
from kdcore.models.onnx_info import described_by
from kdcore.models.onnx_reading import ForeignNetwork, read_info
from kdcore.settings import read_yaml, validate
from kdcore.teacher.teacher import Teacher, check_members, is_onnx, read_member_info
from kdcore.training.run import evaluate_checkpoint

WINDOWS, SIDE = 8, 256  # of the train part, that are looked at
FARTHEST = 8.0  # standard deviations from its mean that the middle of a band may lie for a network that was normalised
NARROWEST = 0.02  # spread of a band after normalisation
LEAST_LEAD = 0.05  # AP above the class's share, which guessing reaches
LARGEST_CHANGE = 0.01  # of a probability, by optimising the graph


@dataclass(frozen=True)
class Finding:
    """What one check says: `ok`, and a sentence with what was found and, where it is not, what to do."""

    check: str
    ok: bool
    sentence: str


def add(
    file: Path, name: str, shelf: Shelf, described: Path | None = None, licence: str = "", source: str = ""
) -> Shelved:
    """Copy a network onto the shelf, with what describes it.

    Args:
        file: `.safetensors` written by kdcore, or `.onnx`.
        name: by which studies call it.
        shelf: where it goes.
        described: the YAML of a foreign ONNX file; the one beside it if not given.
        licence: under which it may be used; the YAML's if not given.
        source: where it is from; likewise.

    Raises:
        KdcoreError: it cannot be read, nothing says what its channels mean, or the shelf has another network of this name.
    """
    if not is_shelf_name(name):
        raise SettingsError(
            f"--name {name[:100]}: use letters, digits, '.', '_' and '-' (at most 100), and no file's ending."
        )
    if file.suffix.lower() not in (".onnx", ".safetensors"):
        raise SettingsError(f"{file}: must be a .safetensors file written by kdcore, or an .onnx file.")
    if not file.is_file():
        raise SettingsError(f"{file}: there is no such file.")
    target, temporary = shelf.path / name, shelf.path / f".{name}-{time.time_ns()}"
    if target.exists():
        if shelf.find(name).sha256 == sha256(file) and described is None:
            return shelf.find(name)
        raise KdcoreError(
            f"{target}: a teacher of this name is on the shelf. Choose another --name, or delete that folder."
        )
    try:
        temporary.mkdir(parents=True)
        copied = temporary / file.name
        shutil.copyfile(file, copied)
        if is_onnx(file):
            for other in external_files(file):
                shutil.copyfile(other, temporary / other.name)
            beside = described or described_by(file)
            if beside.is_file():
                shutil.copyfile(beside, described_by(copied))
        entry = describe(copied, name, licence, source)
        write_json(temporary / ABOUT, entry.model_dump(mode="json"))
        temporary.rename(target)
    except OSError as error:
        raise KdcoreError(f"{target}: could not be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


def describe(file: Path, name: str, licence: str, source: str) -> Shelved:
    """What a network on the shelf takes and gives, from its file and the YAML beside it."""
    info = read_member_info(file)
    parameters = read_info(file).parameters if is_onnx(file) else count_parameters(load_network(file)[0])
    said = described_licence(file)
    return Shelved(
        name=name,
        file=file.name,
        sha256=sha256(file),
        network=info.network,
        parameters=parameters,
        classes=info.classes,
        band_numbers=info.band_numbers or tuple(range(1, info.bands + 1)),
        metres_per_pixel=info.metres_per_pixel,
        dtype=info.dtype,
        licence=licence or said.get("licence", ""),
        source=source or said.get("source", ""),
        added=time.time(),
    )


def described_licence(file: Path) -> dict[str, str]:
    """`licence` and `source` of the YAML beside a foreign network."""
    beside = described_by(file)
    if not is_onnx(file) or not beside.is_file():
        return {}
    foreign = validate(ForeignNetwork, read_yaml(beside), str(beside))
    return {"licence": foreign.licence, "source": foreign.source}


def check(file: Path, folder: Path, device: str = "auto", report: Report = ignore) -> list[Finding]:
    """Whether a network can teach on a collection: what it takes, the numbers that reach it, and what it knows of the validation part.

    Checks end at the first one without which the next cannot be made.

    Args:
        file: of the network.
        folder: the collection's folder or YAML file.
        device: auto, cpu or cuda.
        report: is told what happens.

    Raises:
        KdcoreError: the data cannot be read.
    """
    collection = Collection.open(folder)
    names, numbers = collection.settings.class_names, collection.scenes[0].bands
    try:
        check_members([file], names, collection.bands, numbers)
        network, info = Teacher.load([file], names, collection.bands, numbers), read_member_info(file)
    except KdcoreError as error:
        return [Finding("classes and bands", False, str(error))]
    findings = [
        Finding(
            "classes and bands",
            True,
            f"It knows {', '.join(names)}, and takes the bands {', '.join(map(str, numbers))}.",
        )
    ]
    findings.append(resolution(collection, info.metres_per_pixel))
    try:
        check_type(collection.scenes[0].image, collection.scenes[0].dtype, info)
        findings.append(Finding("type", True, f"Imagery is {collection.scenes[0].dtype}, as it was trained on."))
    except KdcoreError as error:
        return [*findings, Finding("type", False, str(error))]
    (member,) = network.members
    assert isinstance(member, SegmentationNetwork | OnnxNetwork)
    windows = list(sampled(collection, member.fill))
    findings.append(scaling(member, windows))
    if isinstance(member, OnnxNetwork):
        findings.append(optimisation(member, windows[:2]))
    findings.append(quality(file, folder, device, report))
    return findings


def resolution(collection: Collection, trained: float | None) -> Finding:
    """Whether a pixel is as large on the ground as in the imagery that it was trained on."""
    here = collection.metres_per_pixel
    if not trained or not here:
        return Finding(
            "resolution",
            True,
            "Nothing says at which resolution it was trained, or that of the imagery; nothing was compared.",
        )
    if same_resolution(here, trained):
        return Finding("resolution", True, f"{here:.3g} m per pixel; it was trained at {trained:.3g} m.")
    return Finding(
        "resolution",
        False,
        f"{here:.3g} m per pixel, but it was trained at {trained:.3g} m. Set `metres_per_pixel: {trained:.3g}` in collection.yaml, or expect less of it.",
    )


def sampled(collection: Collection, fill: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Windows of the train part, (bands, height, width) in the imagery's units, nodata filled as the network's teacher fills it."""
    rng = np.random.default_rng(0)
    regions = collection.regions("train")
    for _ in range(WINDOWS):
        region = regions[int(rng.integers(len(regions)))]
        box = region.box
        height, width = min(SIDE, box.height), min(SIDE, box.width)
        row, column = (int(rng.integers(side + 1)) for side in (box.height - height, box.width - width))
        crop = collection.reader.read(region.scene, Box(box.row + row, box.column + column, height, width))
        yield np.where(crop.valid, crop.image, fill[:, None, None]).astype(np.float32)


def scaling(member: SegmentationNetwork | OnnxNetwork, windows: list[NDArray[np.float32]]) -> Finding:
    """Whether the numbers that reach the network's first layer look like those of a normalised image."""
    if isinstance(member, OnnxNetwork):
        seen = [to_network_input(member.info, window[None])[0] for window in windows]
        seen = [np.moveaxis(one, -1, 0) if member.info.channels_last else one for one in seen]
    else:
        seen = [member.normalised(torch.from_numpy(window)[None])[0].numpy() for window in windows]
    bands = np.concatenate([one.reshape(len(one), -1) for one in seen], axis=1)
    low, middle, high = np.percentile(bands, (1, 50, 99), axis=1)
    said = "; ".join(f"channel {index}: {a:.2f} to {b:.2f}" for index, (a, b) in enumerate(zip(low, high, strict=True)))
    if isinstance(member, OnnxNetwork) and not (any(member.info.mean) or any(value != 1 for value in member.info.std)):
        return Finding(
            "scaling",
            True,
            f"It takes values as they are (1st to 99th percentile: {said}); only its quality tells whether that is right.",
        )
    far, narrow = np.abs(middle) > FARTHEST, high - low < NARROWEST
    if far.any() or narrow.any():
        index = int(np.flatnonzero(far | narrow)[0])
        return Finding(
            "scaling",
            False,
            f"Values reach it far from what it was normalised for (1st to 99th percentile: {said}). Channel {index} is the first: look at `mean`, `std` and "
            "`divide_by` in the YAML beside it, and at the imagery's units (reflectance 0 to 1, or times 10000).",
        )
    return Finding("scaling", True, f"Normalised values, 1st to 99th percentile: {said}.")


def optimisation(member: OnnxNetwork, windows: list[NDArray[np.float32]]) -> Finding:
    """Whether ONNX Runtime's optimised graph says what the file says."""
    other = OnnxNetwork(member.path, member.info.model_copy(update={"optimise": not member.info.optimise}))
    largest = 0.0
    for window in windows:
        image = torch.from_numpy(window)[None]
        first, second = (
            logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1) for logits in (member(image), other(image))
        )
        largest = max(largest, float((first - second).abs().max()))
    said = f"The optimised graph and the one that is in the file differ by up to {largest:.4f} of a probability"
    if largest <= LARGEST_CHANGE or not member.info.optimise:
        used = "optimised" if member.info.optimise else "as it is in the file"
        return Finding("optimised graph", True, f"{said}; it runs {used}.")
    return Finding(
        "optimised graph",
        False,
        f"{said}. Set `optimise: false` in the YAML beside it: it then runs as it is in the file, more slowly.",
    )


def quality(file: Path, folder: Path, device: str, report: Report) -> Finding:
    """Whether it knows the classes better than guessing does, on the validation part."""
    try:
        values = evaluate_checkpoint(file, folder, "validation", device, report=report)
    except KdcoreError as error:
        return Finding("quality", False, str(error))
    known: dict[str, dict[str, Any]] = {
        name: scores
        for name, scores in values["classes"].items()
        if scores.get("ap") is not None and math.isfinite(scores["ap"])
    }
    said = "; ".join(
        f"{name}: AP {100 * s['ap']:.1f} (guessing: {100 * s['prevalence']:.1f})" for name, s in known.items()
    )
    blind = [name for name, scores in known.items() if scores["ap"] < scores["prevalence"] + LEAST_LEAD]
    if not known:
        return Finding(
            "quality", False, "No class occurs in the validation part, so nothing can be said of what it knows."
        )
    if blind:
        return Finding(
            "quality",
            False,
            f"It hardly knows {', '.join(blind)} here ({said}): bands, scaling or classes of the YAML may be wrong, or the place is too different.",
        )
    return Finding("quality", True, f"On validation, {said}.")


def as_values(findings: list[Finding]) -> list[dict[str, Any]]:
    """Plain JSON values."""
    return [asdict(finding) for finding in findings]
