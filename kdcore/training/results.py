"""What a finished run leaves: scores, thresholds, how fast its network maps imagery, and its report."""

import time
from statistics import median
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from kdcore.data.collection import Collection
from kdcore.errors import DataError
from kdcore.evaluation.curves import best_level, f1_at, iou_at, precision_at, recall_at
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.files import write_json
from kdcore.jobs.store import RunDirectory
from kdcore.models.networks import computing_on
from kdcore.settings import RunSettings

PATIENCE = 1.5  # seconds, at most, that a measurement goes on once it has been done three times
MOST_REPEATS = 20


def quality(scores: Scores, collection: Collection) -> float:
    """Mean AP on the validation split.

    Raises:
        DataError: no scored class occurs there.
    """
    mean_ap: float | None = summarise(scores)["mean_ap"]
    if mean_ap is None:
        raise DataError(
            f"{collection.path}: no scored class occurs in the validation split, so nothing can be measured there. "
            "Put scenes or blocks with every class into it."
        )
    return mean_ap


def measured_speed(network: nn.Module, collection: Collection, settings: RunSettings, fabric: Fabric) -> float:
    """Megapixels per second of a network on the windows that it is scored with."""
    speed = megapixels_per_second(network, collection.bands, settings.evaluation.window, fabric.device)
    return round(speed, 4)


def finish(
    run: RunDirectory,
    collection: Collection,
    validation: Scores,
    test: Scores | None,
    parameters: int,
    spent: dict[str, Any],
) -> None:
    """Write scores and report: thresholds come from validation, and the test split, where it was scored, is read with them."""
    validation.save(run.validation_scores)
    if test is not None:
        test.save(run.scores)
    settings = run.settings
    write_json(
        run.report,
        {
            "arm": settings.arm,
            "seed": settings.seed,
            "parameters": parameters,
            **spent,
            "metres_per_pixel": collection.metres_per_pixel,
            "data": collection.content_hash,
            "torch": torch.__version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "validation": summarise(validation),
            "test": None if test is None else summarise(test),
            "at_threshold": {} if test is None else clean(at_thresholds(validation, test)),
        },
    )
    run.write_status(run.status.model_copy(update={"state": "finished", "message": ""}))
    run.log("finished")


def at_thresholds(validation: Scores, test: Scores) -> dict[str, dict[str, float]]:
    """For each scored class the threshold that is best on validation, and what it gives on the test split."""
    positives, negatives = test.on_map()
    levels = best_level(*validation.on_map())
    thresholds = {}
    for index, class_index in enumerate(test.scored):
        level = int(levels[index])
        one = positives[index], negatives[index], level
        thresholds[test.classes[class_index]] = {
            "threshold": round(level / (LEVELS - 1), 4),
            "precision": float(precision_at(*one)),
            "recall": float(recall_at(*one)),
            "f1": float(f1_at(*one)),
            "iou": float(iou_at(*one)),
        }
    return thresholds


def clean(value: Any) -> Any:
    """JSON has no NaN: what cannot be known becomes null."""
    if isinstance(value, dict):
        return {key: clean(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and value != value else value


def device_name(device: torch.device) -> str:
    """The device in words, with the number of threads where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' if threads > 1 else ''})"


@torch.no_grad()
def megapixels_per_second(
    network: nn.Module,
    bands: int,
    window: int,
    device: torch.device,
) -> float:
    """Median over several forward passes of one window, after one that warms up.

    Reading and writing are left out: they are the same for every network.

    Args:
        network: takes (1, bands, window, window) float32; it is in evaluation mode afterwards.
        bands: of the imagery.
        window: side in pixels of what the network sees at once.
        device: where the network is.
    """
    network.eval()
    image = torch.zeros(1, bands, window, window, device=device)
    times: list[float] = []
    while len(times) < 4 or (sum(times[1:]) < PATIENCE and len(times) <= MOST_REPEATS):
        started = time.perf_counter()
        with computing_on(device):
            network(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return window**2 / 1e6 / median(times[1:])
