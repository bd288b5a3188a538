"""Evaluation of a network over scenes: windows, halos, nodata and maps give what one look at the whole scene gives."""

import numpy as np
import pytest
import rasterio
import torch
from sklearn.metrics import average_precision_score, confusion_matrix
from torch import nn
from torch.nn import functional

from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError
from kdcore.evaluation.curves import average_precision
from kdcore.inference.evaluate import evaluate, windows
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import ClassSettings, CollectionSettings, EvaluationSettings, SplitSettings
from kdcore.teacher.teacher import Teacher
from tests.conftest import TINY, paint, write_raster
from tests.disks import small_disk

FILL = np.array([100.0, 110.0, 90.0], dtype=np.float32)


class Pointwise(nn.Module):
    """Looks at one pixel at a time, so that windows and halos cannot matter: logits are mixtures of the bands."""

    def __init__(self, logits: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(logits, 3, generator=generator) / 20)
        self.seen: list[tuple[int, int]] = []

    def forward(self, image):
        self.seen.append(tuple(image.shape[-2:]))
        return torch.einsum("kb,nbhw->nkhw", self.weight, image - 110)


class Blur(nn.Module):
    """Looks 8 pixels around each pixel."""

    def forward(self, image):
        grey = image.mean(dim=1, keepdim=True) - 110
        return functional.avg_pool2d(functional.pad(grey, (8, 8, 8, 8), mode="replicate"), 17, stride=1)


def one_scene(tmp_path, height=200, width=300, classes=2, split=None, nodata=None, change=lambda image, labels: None):
    """A collection of one scene that is larger than a window and no multiple of one."""
    rng = np.random.default_rng(1)
    size = max(height, width)
    image, labels = paint(rng, size, classes)
    image, labels = np.maximum(image[:, :height, :width], 1), labels[:height, :width].copy()
    change(image, labels)
    write_raster(tmp_path / "c/images/s.tif", image, nodata=nodata)
    write_raster(tmp_path / "c/masks/s.tif", labels)
    split = split or SplitSettings(by="block", grid=(1, 4), train=("r1c1",), validation=("r1c2",), test=("r1c[34]",))
    names = ["land", "building", "water", "road"][:classes]
    settings = CollectionSettings(
        name="one",
        classes=tuple(ClassSettings(name=name, value=index) for index, name in enumerate(names)),
        ignore=(200,),
        split=split,
    )
    return Collection(settings, tmp_path / "c"), image, labels


def whole_pass(network, image) -> np.ndarray:
    """Logits (K, H, W) of one pass over the whole scene."""
    return network.eval()(torch.from_numpy(image.astype(np.float32))[None])[0].detach().numpy()


def sizes(window, halo=0, tile=32):
    return EvaluationSettings(tile=tile, window=window, halo=halo)


@pytest.mark.parametrize(("window", "halo"), [(32, 0), (64, 32), (96, 0), (512, 32)])
class TestTiles:
    def test_of_one_map_add_up_to_one_pass_over_the_scene(self, tmp_path, window, halo):
        collection, image, labels = one_scene(tmp_path)
        network = Pointwise(1)
        scores = evaluate(network, collection, "test", sizes(window, halo), fill=FILL)
        logits, truth = whole_pass(network, image)[0][:, 150:], labels[:, 150:]
        expected = confusion_matrix(truth.ravel(), logits.ravel() > 0)
        np.testing.assert_array_equal(scores.confusion.sum(axis=0), expected)
        levels = np.rint(254 / (1 + np.exp(-logits.astype(np.float64))))
        positives, negatives = scores.on_map()
        np.testing.assert_array_equal(positives[0], np.bincount(levels[truth == 1].astype(int), minlength=255))
        np.testing.assert_array_equal(negatives[0], np.bincount(levels[truth == 0].astype(int), minlength=255))
        exact = average_precision_score(truth.ravel(), logits.ravel())
        assert average_precision(*scores.total(), scores.ties)[0] == pytest.approx(exact, abs=5e-4)

    def test_of_several_maps_add_up_to_one_pass_over_the_scene(self, tmp_path, window, halo):
        collection, image, labels = one_scene(tmp_path, classes=4)
        network = Pointwise(4)
        scores = evaluate(network, collection, "test", sizes(window, halo), fill=FILL)
        logits, truth = whole_pass(network, image)[:, :, 150:], labels[:, 150:]
        expected = confusion_matrix(truth.ravel(), logits.argmax(axis=0).ravel(), labels=range(4))
        np.testing.assert_array_equal(scores.confusion.sum(axis=0), expected)

    def test_lie_on_one_grid_and_hold_each_pixel_once(self, tmp_path, window, halo):
        collection, _, labels = one_scene(tmp_path)
        scores = evaluate(Pointwise(1), collection, "test", sizes(window, halo), fill=FILL)
        for (scene, row, column), counts in zip(scores.tiles, scores.confusion, strict=True):
            assert scene == "s"
            assert row % 32 == column % 32 == 0
            tile = labels[row : row + 32, max(column, 150) : column + 32]
            np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(tile.ravel(), minlength=2))
        assert scores.confusion.sum() == 200 * 150


class TestTheBorderOfThePart:
    def test_scores_only_pixels_of_the_part(self, tmp_path):
        """Parts together hold each pixel of the scene once, whatever the halo."""
        collection, _, labels = one_scene(tmp_path)
        for halo in (0, 64):
            counts = sum(
                evaluate(Pointwise(1), collection, split, sizes(64, halo), fill=FILL).confusion.sum(axis=(0, 2))
                for split in ("train", "validation", "test")
            )
            np.testing.assert_array_equal(counts, np.bincount(labels.ravel()))

    def test_shows_what_lies_behind_it_as_context(self, tmp_path):
        """A network that looks 8 px around gives at the border what it gives in the whole scene."""
        collection, image, labels = one_scene(tmp_path)
        scores = evaluate(Blur(), collection, "test", sizes(64, 32), fill=FILL)
        decided = whole_pass(Blur(), image)[0] > 0
        expected = confusion_matrix(labels[:, 150:].ravel(), decided[:, 150:].ravel())
        np.testing.assert_array_equal(scores.confusion.sum(axis=0), expected)

    def test_would_be_wrong_without_a_halo(self, tmp_path):
        """The statement above would be empty if the halo made no difference."""
        collection, image, labels = one_scene(tmp_path)
        scores = evaluate(Blur(), collection, "test", sizes(64, 0), fill=FILL)
        decided = whole_pass(Blur(), image)[0] > 0
        expected = confusion_matrix(labels[:, 150:].ravel(), decided[:, 150:].ravel())
        assert (scores.confusion.sum(axis=0) != expected).any()

    def test_keeps_a_buffer_where_one_is_asked_for(self, tmp_path):
        collection, _, _ = one_scene(tmp_path)
        seen = [evaluate(Pointwise(1), collection, "validation", sizes(64), fill=FILL, buffer=b) for b in (0, 20)]
        assert [scores.confusion.sum() for scores in seen] == [200 * 75, 200 * 55]
        assert evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL, buffer=20).confusion.sum() == 200 * 150


class TestWindows:
    def test_cover_the_part_once(self, tmp_path):
        collection, _, _ = one_scene(tmp_path)
        canvas = np.zeros((200, 300), dtype=int)
        for _, box, inside in windows(collection, "test", 64):
            canvas[box.row : box.row + box.height, box.column : box.column + box.width] += inside
        assert (canvas[:, 150:] == 1).all()
        assert (canvas[:, :150] == 0).all()

    def test_say_where_their_tiles_lie(self, tmp_path):
        collection, _, _ = one_scene(tmp_path)
        scores = evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL)
        assert len(scores.places) == len(scores.tiles)
        assert [(place.field, place.row, place.column) for place in scores.places] == list(scores.tiles)

    def test_are_seen_once_each_and_those_elsewhere_never(self, tmp_path):
        collection, _, _ = one_scene(tmp_path)
        network, told = Pointwise(1), []
        evaluate(
            network, collection, "test", sizes(64), fill=FILL, progress=lambda done, total: told.append((done, total))
        )
        assert len(network.seen) == 4 * 3  # columns 128-300 in windows of 64, rows 0-200
        assert told == [(index + 1, 12) for index in range(12)]

    def test_without_data_are_not_given_to_the_network(self, tmp_path):
        def change(image, labels):
            image[:, :, 192:] = 0

        collection, _, _ = one_scene(tmp_path, nodata=0, change=change)
        network = Pointwise(1)
        scores = evaluate(network, collection, "test", sizes(64), fill=FILL)
        assert len(network.seen) == 4
        assert scores.confusion.sum() == 200 * 42

    def test_of_a_scene_smaller_than_a_tile(self, tmp_path):
        collection, _, _ = one_scene(tmp_path, height=24, width=40)
        scores = evaluate(Pointwise(1), collection, "test", sizes(64, 32, tile=64), fill=FILL)
        assert scores.tiles == (("s", 0, 0),)
        assert scores.confusion.sum() == 24 * 20


class TestNodata:
    def test_is_not_scored_and_not_seen_as_zero(self, tmp_path):
        """Half of the test part is nodata; the network sees the fill values there, as it did in training."""
        spot = np.zeros((200, 300), dtype=bool)
        spot[40:90, 170:260] = True

        def change(image, labels):
            image[:, spot] = 0

        collection, image, labels = one_scene(tmp_path, nodata=0, change=change)
        scores = evaluate(Blur(), collection, "test", sizes(64, 32), fill=FILL)
        filled = np.where(spot, FILL[:, None, None], image)
        decided = whole_pass(Blur(), filled)[0] > 0
        counted = ~spot[:, 150:]
        expected = confusion_matrix(labels[:, 150:][counted], decided[:, 150:][counted])
        np.testing.assert_array_equal(scores.confusion.sum(axis=0), expected)

    def test_and_ignored_labels_are_counted_nowhere(self, tmp_path):
        def change(image, labels):
            labels[100:, 200:] = 200  # `ignore` of the collection
            image[:, :10, 290:] = 0

        collection, _, _ = one_scene(tmp_path, nodata=0, change=change)
        scores = evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL)
        positives, negatives = scores.total()
        expected = 200 * 150 - 100 * 100 - 10 * 10
        assert scores.confusion.sum() == positives.sum() + negatives.sum() == expected

    def test_fills_with_the_networks_own_mean(self):
        network = SegmentationNetwork(TINY, 4, 1, [10.0, 20.0], [1.0, 1.0], band_order=[2, 0])
        np.testing.assert_array_equal(network.fill, [20.0, 0.0, 10.0, 0.0])
        plain = build_network(TINY, 3, 1, [1.0, 2.0, 3.0], [1.0] * 3)
        np.testing.assert_array_equal(Teacher([plain]).fill, [1.0, 2.0, 3.0])


class TestMaps:
    @pytest.mark.parametrize("classes", [2, 4])
    def test_hold_what_the_scores_counted(self, tmp_path, classes):
        def change(image, labels):
            image[:, 50:60, 150:300] = 0

        collection, _, labels = one_scene(tmp_path, classes=classes, nodata=0, change=change)
        scored = 1 if classes == 2 else 4
        scores = evaluate(Pointwise(scored), collection, "test", sizes(64, 32), fill=FILL, maps=tmp_path / "maps")
        with rasterio.open(tmp_path / "maps/s.tif") as map_, rasterio.open(tmp_path / "c/images/s.tif") as source:
            levels = map_.read()
            assert (map_.crs, map_.transform, map_.shape) == (source.crs, source.transform, source.shape)
            assert map_.nodata == 255
            assert map_.count == scored
        known = levels[0] != 255
        expected = np.zeros((200, 300), dtype=bool)
        expected[:, 150:] = True
        expected[50:60] = False
        np.testing.assert_array_equal(known, expected)  # nodata in is nodata out, and nothing else is
        positives, negatives = scores.on_map()
        for index, class_index in enumerate(collection.settings.scored):
            for counts, chosen in ((positives, labels == class_index), (negatives, labels != class_index)):
                np.testing.assert_array_equal(counts[index], np.bincount(levels[index][known & chosen], minlength=255))

    def test_agree_with_the_network_to_the_rounding(self, tmp_path):
        collection, image, _ = one_scene(tmp_path)
        evaluate(Pointwise(1), collection, "test", sizes(64, 32), fill=FILL, maps=tmp_path / "maps")
        with rasterio.open(tmp_path / "maps/s.tif") as map_:
            levels = map_.read(1)[:, 150:]
        probability = 1 / (1 + np.exp(-whole_pass(Pointwise(1), image)[0][:, 150:].astype(np.float64)))
        assert np.abs(levels / 254 - probability).max() < 0.5 / 254 + 1e-6

    def test_of_imagery_without_georeference_are_written_too(self, tmp_path):
        collection, image, _ = one_scene(tmp_path)
        write_raster(tmp_path / "c/images/s.tif", image, crs=None)
        collection = Collection(collection.settings, collection.root)
        evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL, maps=tmp_path / "maps")
        with rasterio.open(tmp_path / "maps/s.tif") as map_:
            assert map_.shape == (200, 300)
            assert map_.crs is None

    def test_are_written_for_each_scene(self, tmp_path, make_collection):
        collection = Collection.open(
            make_collection(split=SplitSettings(train=("a",), validation=("b",), test=("[cd]",)))
        )
        evaluate(Pointwise(3), collection, "test", sizes(64), fill=FILL, maps=tmp_path / "maps")
        assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["c.tif", "d.tif"]

    @pytest.mark.parametrize("kilobytes", [4, 8, 16, 24])
    def test_that_do_not_fit_on_the_disk_leave_nothing_behind(self, tmp_path, kilobytes):
        """GDAL notices some of these on closing the file, and says nothing."""
        collection, _, _ = one_scene(tmp_path)
        evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL, maps=tmp_path / "maps")
        assert (tmp_path / "maps/s.tif").stat().st_size > kilobytes * 1024
        with small_disk(tmp_path / "disk", kilobytes) as disk:
            with pytest.raises(KdcoreError, match=r"maps/s\.tif: the disk is full"):
                evaluate(Pointwise(1), collection, "test", sizes(64), fill=FILL, maps=disk / "maps")
            assert list((disk / "maps").iterdir()) == []

    def test_of_an_evaluation_that_fails_leave_nothing_behind(self, tmp_path):
        collection, _, _ = one_scene(tmp_path)

        class Fails(Pointwise):
            def forward(self, image):
                if len(self.seen) == 5:
                    raise RuntimeError("no more")
                return super().forward(image)

        with pytest.raises(RuntimeError, match="no more"):
            evaluate(Fails(1), collection, "test", sizes(64), fill=FILL, maps=tmp_path / "maps")
        assert list((tmp_path / "maps").iterdir()) == []


def test_a_network_is_scored_in_evaluation_mode(tmp_path):
    collection, _, _ = one_scene(tmp_path)
    network = build_network(TINY, 3, 1, seed=0).train()
    first = evaluate(network, collection, "test", sizes(64), fill=FILL)
    assert not network.training
    second = evaluate(network, collection, "test", sizes(64), fill=FILL)
    np.testing.assert_array_equal(first.positives, second.positives)


def test_a_network_that_diverged_is_refused(tmp_path):
    collection, _, _ = one_scene(tmp_path)
    network = Pointwise(1)
    network.weight.fill_(torch.nan)
    with pytest.raises(KdcoreError, match="diverged"):
        evaluate(network, collection, "test", sizes(64), fill=FILL)
