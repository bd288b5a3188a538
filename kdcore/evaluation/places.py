"""Results by scene, and in other places: collections that a study names in `test_on`, of which no training saw anything.

Another place has its own ground, so its comparison has an interval of its own. Nothing is averaged over places: two are no sample of the world.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdcore.evaluation.compare import compare_arms
from kdcore.evaluation.influence import class_ap
from kdcore.evaluation.scores import Scores
from kdcore.jobs.store import RunDirectory
from kdcore.reading import read_json

FILE = "places.json"  # of a study: what its `test_on` are


def by_scene(arms: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """Mean AP of each arm in each test scene.

    Args:
        arms: scores of each arm's networks, all of the same tiles.

    Returns:
        For each scene in the order of the tiles: `scene`, `tiles`, and `mean_ap` of each arm, 0 to 1, averaged over its networks; None
        where no scored class occurs.
    """
    tiles = [scene for scene, _, _ in next(iter(arms.values()))[0].tiles]
    return [
        {
            "scene": scene,
            "tiles": tiles.count(scene),
            "mean_ap": {arm: mean_ap([of_scene(one, scene) for one in networks]) for arm, networks in arms.items()},
        }
        for scene in dict.fromkeys(tiles)
    ]


def of_scene(scores: Scores, scene: str) -> Scores:
    """The tiles of one scene."""
    return scores.select([index for index, (name, _, _) in enumerate(scores.tiles) if name == scene])


def mean_ap(networks: Sequence[Scores]) -> float | None:
    """Mean AP over the classes that occur, averaged over networks; None where none occurs."""
    each = [class_ap(scores) for scores in networks]
    if not each or all(np.isnan(ap).all() for ap in each):
        return None
    return round(float(np.mean([np.nanmean(ap) for ap in each])), 6)


def scores_file(run: RunDirectory, place: Mapping[str, Any]) -> Path:
    """Where a run keeps its scores in another place; the name changes with the data."""
    return run.path / f"scores-at-{place['name']}-{place['hash'][:8]}.npz"


def places_report(study: Path, runs: Mapping[str, Sequence[RunDirectory]]) -> list[dict[str, Any]]:
    """What the arms reached in the other places.

    Args:
        study: the folder.
        runs: of each arm, see `kdcore.evaluation.report.arm_runs`.

    Returns:
        For each place: `name`, `collection`, `arms` (mean AP of each, 0 to 1), `comparison` (as the study's own) and `scenes` (see `by_scene`).
    """
    if not (study / FILE).is_file():
        return []
    found = []
    for place in read_json(study / FILE):
        files = {arm: [scores_file(run, place) for run in directories] for arm, directories in runs.items()}
        if not all(file.is_file() for each in files.values() for file in each):
            continue  # a study that is being scored
        scores = {arm: [Scores.load(file) for file in each] for arm, each in files.items()}
        comparison = compare_arms(scores, place["metres_per_pixel"])
        found.append(
            {
                "name": place["name"],
                "collection": place["collection"],
                "arms": {arm: mean_ap(networks) for arm, networks in scores.items()},
                "comparison": comparison.to_dict(),
                "scenes": by_scene(scores),
            }
        )
    return found
