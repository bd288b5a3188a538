"""A study's curves with their bands, measured once: `curves.npz` in its folder holds them until the scores behind them change."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import DataError, KdcoreError
from kdcore.evaluation.bands import BAND_RESAMPLES, NAMES, RECALLS, ArmCurves, StudyCurves, study_curves
from kdcore.evaluation.levels import GRID, LEVELS
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import UNREADABLE, Scores, check_archive, compact
from kdcore.evaluation.uncertainty import Difference
from kdcore.files import replacing

FILE = "curves.npz"
MEASURED = f"kdcore curves 1, {BAND_RESAMPLES} resamples"  # another number where the same scores give other curves


def curves_of(study: Path, keep: bool = False) -> StudyCurves:
    """The curves of a finished study: those in its folder, or else measured.

    Args:
        study: the folder.
        keep: write what had to be measured into the folder, if that is possible.

    Raises:
        RunError: the study is not finished.
        DataError: its scores cannot be read or do not belong together.
    """
    runs = arm_runs(study)
    test, validation = (
        {arm: [getattr(run, file) for run in directories] for arm, directories in runs.items()}
        for file in ("scores", "validation_scores")
    )
    source = fingerprint(test, validation)
    kept = read(study / FILE, source)
    if kept is not None:
        return kept
    curves = study_curves(
        *({arm: map(Scores.load, files) for arm, files in split.items()} for split in (test, validation))
    )
    if keep:
        with suppress(KdcoreError):  # they are measured again then
            write(study / FILE, curves, source)
    return curves


def fingerprint(*splits: Mapping[str, Sequence[Path]]) -> str:
    """What curves are measured from: the checksums of all scores, by arm and seed; empty where a file is missing or broken."""
    digest = hashlib.sha256(MEASURED.encode())
    try:
        for split in splits:
            for arm, files in split.items():
                digest.update(f"{arm} {[checksums(file) for file in files]}\n".encode())
    except (OSError, zipfile.BadZipFile):
        return ""
    return digest.hexdigest()


def checksums(scores: Path) -> list[tuple[str, int, int]]:
    """Of the arrays in an archive, however they are compressed."""
    with zipfile.ZipFile(scores) as archive:
        return [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]


def write(file: Path, curves: StudyCurves, source: str) -> None:
    """Keep curves.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    arrays: dict[str, Any] = {
        "source": np.array(source),
        "classes": np.array(curves.classes, dtype=np.str_),
        "arms": np.array(list(curves.arms), dtype=np.str_),
        "gains": np.array([(gain.mean, gain.low, gain.high) for gain in curves.gains]),
        "gain band": curves.gain_band,
        "prevalence": curves.prevalence,
        "tiles": np.array(curves.tiles),
        "confidence": np.array(curves.confidence),
    }
    for arm, measured in curves.arms.items():
        arrays |= {
            f"{arm} map": compact(np.stack([measured.positives, measured.negatives])),
            f"{arm} fine": compact(np.stack(measured.fine)),
            f"{arm} validation": compact(np.stack(measured.validation)),
            f"{arm} ap": measured.ap,
            f"{arm} band": measured.band,
        }
    with replacing(file) as temporary, temporary.open("wb") as target:
        np.savez_compressed(target, **arrays)


def read(file: Path, source: str) -> StudyCurves | None:
    """Curves that were measured from the same scores; None where the file is missing, older, broken or of something else."""
    try:
        check_archive(file)
        with np.load(file, allow_pickle=False) as archive:
            if not source or str(archive["source"]) != source:
                return None
            classes, arms = tuple(map(str, archive["classes"])), tuple(map(str, archive["arms"]))
            if not {"teacher", "alone", "distilled"} <= {*arms} <= {*NAMES}:
                return None
            count, views = len(classes), len(classes) + 1
            gains = floats(archive["gains"], (views, 3))
            return StudyCurves(
                classes,
                {arm: arm_of(archive, arm, count) for arm in arms},
                [Difference(*map(float, gain)) for gain in gains],
                floats(archive["gain band"], (views, 3, len(RECALLS))),
                floats(archive["prevalence"], (count,)),
                int(archive["tiles"]),
                float(archive["confidence"]),
            )
    except UNREADABLE:
        return None


def arm_of(archive: Mapping[str, NDArray[Any]], arm: str, classes: int) -> ArmCurves:
    """One arm of `read`."""
    positives, negatives = counts(archive[f"{arm} map"], classes, LEVELS)
    fine, validation = (
        counts(archive[f"{arm} {name}"], classes, levels)
        for name, levels in (("fine", len(GRID)), ("validation", LEVELS))
    )
    return ArmCurves(
        positives,
        negatives,
        (fine[0], fine[1]),
        (validation[0], validation[1]),
        floats(archive[f"{arm} ap"], (classes + 1, 3)),
        floats(archive[f"{arm} band"], (classes + 1, 2, len(RECALLS))),
    )


def floats(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An array of this shape.

    Raises:
        DataError: it is of another.
    """
    if array.shape != shape or array.dtype != np.float64:
        raise DataError(f"{array.dtype} {array.shape} instead of float64 {shape}")
    return array


def counts(array: NDArray[Any], classes: int, levels: int) -> NDArray[np.int64]:
    """Positives and negatives of any number of seeds, (2, S, K, levels).

    Raises:
        DataError: it is something else.
    """
    seeds = array.shape[1] if array.ndim == 4 else 0
    if not seeds or array.shape != (2, seeds, classes, levels) or array.dtype.kind != "u":
        raise DataError(f"{array.dtype} {array.shape} instead of counts (2, seeds, {classes}, {levels})")
    return array.astype(np.int64)
