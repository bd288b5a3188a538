"""A split that several processes score together: their counts come together as those of one process."""

import threading

import numpy as np
import pytest

from kdcore.data.collection import Collection
from kdcore.evaluation import counting
from kdcore.evaluation.summary import summarise
from kdcore.inference import evaluate as module
from kdcore.inference.evaluate import Share, evaluate
from kdcore.models.networks import build_network
from kdcore.settings import SplitSettings
from tests.conftest import SMALL_WINDOWS, TINY, paint, write_collection, write_raster

FIELDS = ("levels", "probability", "ties", "positives", "negatives", "confusion", "boundary")


class Table:
    """Where the threads of a test put what they gather."""

    def __init__(self, ranks: int) -> None:
        self.ranks, self.places = ranks, [None] * ranks
        self.barrier = threading.Barrier(ranks, timeout=300)

    def share(self, rank: int) -> Share:
        def gather(value):
            self.places[rank] = value
            self.barrier.wait()
            found = list(self.places)
            self.barrier.wait()
            return found

        return Share(rank, self.ranks, gather)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Validation on three scenes, of which one has no imagery at all in its first half."""
    root = tmp_path_factory.mktemp("shares") / "collection"
    split = SplitSettings(train=("a",), validation=("b", "c", "d"), test=("e",))
    path = write_collection(root, nodata=0.0, split=split)
    image, labels = paint(np.random.default_rng(1), 128, 3)
    image[:, :64] = 0
    write_raster(root / "images/b.tif", image, west=501_000)
    for name, west in [("e", 520_000)]:
        write_raster(root / f"images/{name}.tif", image, west=west)
        write_raster(root / f"masks/{name}.tif", labels, west=west)
    return Collection.open(path)


def scored_by(ranks: int, collection, network) -> list:
    """The scores that each of several threads comes to."""
    table, found = Table(ranks), [None] * ranks

    def work(rank: int) -> None:
        found[rank] = evaluate(
            network, collection, "validation", SMALL_WINDOWS, fill=network.fill, share=table.share(rank)
        )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("held_back", [1, 3 * 64 * 64, 1 << 20])  # levels from one window, from a few, from all
def test_each_process_comes_to_the_counts_of_one_process(collection, monkeypatch, ranks, held_back):
    for user in (module, counting):
        monkeypatch.setattr(user, "HELD_BACK", held_back)
    network = build_network(TINY, 3, 3, [100.0] * 3, [40.0] * 3, seed=0)
    alone = evaluate(network, collection, "validation", SMALL_WINDOWS, fill=network.fill)
    assert len(alone) == 40  # tiles of 32 px: two of three scenes, and half of one
    for scores in scored_by(ranks, collection, network):
        assert scores.tiles == alone.tiles
        assert scores.places == alone.places
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(scores, name), getattr(alone, name))
        assert summarise(scores)["mean_ap"] == summarise(alone)["mean_ap"]
