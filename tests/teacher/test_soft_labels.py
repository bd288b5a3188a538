"""Soft labels that are kept: what the live teacher would say about the same view, whatever happens to the disk."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcore.data.batches import VIEWS, keep_inside, turn, turn_back
from kdcore.data.collection import Collection, Region
from kdcore.data.scene import Box
from kdcore.errors import Stopped
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network
from kdcore.settings import Hardware
from kdcore.teacher import soft_labels, store, views
from kdcore.teacher.cost import bytes_of, channels, outermost
from kdcore.teacher.soft_labels import open_soft_labels
from kdcore.teacher.teacher import Teacher, combine
from kdcore.teacher.views import pack, unpack
from tests.conftest import TINY, write_collection, write_raster
from tests.disks import small_disk

CPU = Hardware(device="cpu")
NAMES = ("land", "building", "water")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """So that small scenes have several."""
    monkeypatch.setattr(views, "WINDOW", 128)
    monkeypatch.setattr(views, "HALO", 32)
    views.tiles.cache_clear()
    store.checksum.cache_clear()
    yield
    views.tiles.cache_clear()


class Place:
    """A collection with nodata, two teachers' checkpoints, and regions of several windows, of one, and smaller than a crop."""

    def __init__(self, folder, classes: int = 3) -> None:
        self.folder = folder / "studies" / soft_labels.FOLDER
        self.path = write_collection(folder / "collection", classes=classes, size=192, unlabelled=True, nodata=7)
        image = np.random.default_rng(3).integers(20, 230, (3, 192, 192)).astype(np.uint8)
        image[:, 40:70, 50:150] = 7
        write_raster(self.path.parent / "images/a.tif", image)
        self.collection = Collection.open(self.path)
        a, b = self.collection.scenes[:2]
        self.regions = (
            Region(a, Box(0, 0, 192, 192)),
            Region(b, Box(10, 20, 100, 90)),
            Region(b, Box(150, 150, 40, 30)),
            Region(self.collection.unlabelled[0], Box(0, 0, 192, 192)),
        )
        self.logits = 1 if classes == 2 else classes
        self.checkpoints = [self.write(folder / f"{seed}.safetensors", seed) for seed in (1, 2)]

    def write(self, path, seed: int):
        network = build_network(TINY, 3, self.logits, [100.0, 110.0, 90.0], [40.0] * 3, seed=seed)
        torch.manual_seed(seed)
        for name, value in network.named_parameters():
            if "segmentation_head" in name:  # as decided as a trained network, not all classes alike
                torch.nn.init.normal_(value, std=3.0)
        names = self.collection.settings.class_names
        info = CheckpointInfo(
            network=TINY, bands=3, band_numbers=(1, 2, 3), classes=names, metres_per_pixel=0.5, dtype="uint8"
        )
        save_network(path, network, info)
        return path

    def teacher(self, members: int = 1, flips: bool = False) -> Teacher:
        return Teacher.load(self.checkpoints[:members], self.collection.settings.class_names, 3, flips=flips)

    def open(
        self, members: int = 1, flips: bool = False, hardware: Hardware = CPU, regions=None, folder=None, **options
    ):
        return open_soft_labels(
            folder or self.folder,
            self.collection,
            regions or self.regions,
            self.teacher(members, flips),
            self.checkpoints[:members],
            hardware,
            **options,
        )

    def live(self, network, region: Region, box: Box, turns: int, flip: bool, asked_as=None) -> torch.Tensor:
        """Logits (K, height, width) of a crop by the network itself, from whole turned windows; NaN outside of the region.

        `asked_as`: the view in which the windows are put to the network, where it is not the crop's own.
        """
        view = asked_as or (turns, flip)
        fill = network.mean.numpy()[:, None, None]
        scene = np.full((network.logits, box.height, box.width), np.nan, dtype=np.float32)
        for window, kept, *_ in views.tiles(region.box.height, region.box.width):
            around = window._replace(row=window.row + region.box.row, column=window.column + region.box.column)
            seen = keep_inside(self.collection.reader.read(region.scene, around), around, region.box)
            image = turn(np.where(seen.valid, seen.image, fill).astype(np.float32), *view)
            with torch.no_grad():
                logits = network(torch.from_numpy(image.copy())[None])[0].numpy()
            logits = turn_back(logits, *view)
            own = kept._replace(row=kept.row + region.box.row, column=kept.column + region.box.column)
            for row in range(max(own.row, box.row), min(own.row + own.height, box.row + box.height)):
                first, last = max(own.column, box.column), min(own.column + own.width, box.column + box.width)
                if first < last:
                    scene[:, row - box.row, first - box.column : last - box.column] = logits[
                        :, row - around.row, first - around.column : last - around.column
                    ]
        return torch.from_numpy(turn(scene, turns, flip).copy())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("answers"))


@pytest.fixture
def own(tmp_path, place):
    """A place whose files may be changed: its answers lie in this test's own folder."""
    fresh = Place.__new__(Place)
    fresh.__dict__ = dict(vars(place), folder=tmp_path / soft_labels.FOLDER)
    return fresh


def probabilities(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Over axis -3; NaN stays NaN."""
    return (logits / temperature).sigmoid() if logits.shape[-3] == 1 else (logits / temperature).softmax(-3)


def assert_same(served, live, temperature: float = 1.0) -> None:
    """Within 1e-3 of a probability wherever there is a live answer."""
    inside = ~torch.isnan(live[..., :1, :, :])
    assert inside.any()
    difference = (probabilities(served, temperature) - probabilities(live, temperature)).abs()
    assert float(difference[inside.expand_as(difference)].max()) <= 1e-3


def serve(answers, region, box, view) -> torch.Tensor:
    """Logits (answers, K, height, width)."""
    return unpack(torch.from_numpy(answers.crop(region, box, *view)))


def size_of(regions, logits: int, views: int = 8, members: int = 1) -> int:
    return bytes_of(sum(region.box.area for region in outermost(regions)), logits, views, members)


class TestTurning:
    @pytest.mark.parametrize("view", VIEWS)
    def test_back_is_the_other_way(self, view):
        array = np.arange(24).reshape(2, 3, 4)
        np.testing.assert_array_equal(turn_back(turn(array, *view), *view), array)

    def test_the_eight_views_differ(self):
        assert len({turn(np.arange(4).reshape(2, 2), *view).tobytes() for view in VIEWS}) == 8
        np.testing.assert_array_equal(turn(np.array([[1, 2], [3, 4]]), 1, True), [[4, 2], [3, 1]])  # drawn by hand


class TestPacking:
    def test_keeps_probabilities_of_large_logits(self):
        logits = torch.randn(2, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 3 + 500
        raw = (logits.half().float().softmax(1) - logits.softmax(1)).abs().max()
        assert raw > 0.01  # what float16 alone would do
        assert_same(unpack(pack(logits)), logits)

    def test_keeps_the_level_for_losses_over_positions(self):
        logits = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 4
        torch.testing.assert_close(unpack(pack(logits)), logits, atol=0.02, rtol=2e-3)

    def test_of_one_map(self):
        logits = torch.linspace(-30, 30, 400).reshape(1, 1, 20, 20)
        assert pack(logits).shape == (1, 1, 20, 20)
        assert_same(unpack(pack(logits)), logits)


class TestSize:
    def test_is_what_lies_on_the_disk(self, own):
        with own.open() as served:
            files = list(own.folder.glob("*/*.f16"))
            assert served.bytes == sum(file.stat().st_size for file in files) == size_of(own.regions, 3)
        # 192 x 192 twice, 100 x 90 and 40 x 30 pixels; 3 classes and their level; 8 views of 2 bytes.
        assert served.bytes == (2 * 192 * 192 + 9000 + 1200) * 4 * 8 * 2

    def test_blocks_inside_a_region_take_none(self, place):
        block = Region(place.regions[0].scene, Box(10, 10, 50, 50))
        assert outermost([block, place.regions[0]]) == (place.regions[0],)
        assert size_of([block, place.regions[0]], 1, views=1, members=2) == 192 * 192 * 2 * 2
        assert (channels(1), channels(6)) == (1, 7)


class TestServing:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        index=st.integers(0, 3),
        row=st.integers(-40, 160),
        column=st.integers(-40, 160),
        size=st.sampled_from([32, 64, 96]),
        view=st.sampled_from(VIEWS),
    )
    def test_a_crop_gets_what_the_live_teacher_says_about_its_view(self, place, index, row, column, size, view):
        region = place.regions[index]
        box = Box(row, column, size, size)
        with place.open() as served:
            assert served.served == "cache"
            answers = serve(served.soft_labels, region, box, view)
        assert answers.shape == (1, 3, size, size)
        if box.intersection(region.box) is None:
            assert not served.soft_labels.crop(region, box, *view).any()
            return
        assert_same(answers[0], place.live(place.teacher().members[0], region, box, *view))

    @pytest.mark.parametrize("view", VIEWS)
    def test_of_two_classes(self, tmp_path, view):
        binary = Place(tmp_path, classes=2)
        box = Box(30, 40, 64, 64)
        with binary.open() as served:
            answers = serve(served.soft_labels, binary.regions[0], box, view)
        assert_same(answers[0], binary.live(binary.teacher().members[0], binary.regions[0], box, *view))

    def test_a_block_of_a_region_is_answered_from_the_region(self, place):
        block, box = Region(place.regions[0].scene, Box(32, 32, 64, 64)), Box(40, 30, 32, 32)
        with place.open() as served:
            inner, outer = (served.soft_labels.crop(region, box, 1, True) for region in (block, place.regions[0]))
        np.testing.assert_array_equal(inner, outer)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_an_ensemble_is_averaged_at_any_temperature(self, place, temperature):
        region, box, view = place.regions[0], Box(20, 60, 64, 64), (3, True)
        with place.open(members=2) as served:
            answers = serve(served.soft_labels, region, box, view)
        members = [place.live(member, region, box, *view) for member in place.teacher(2).members]
        mean = torch.stack([probabilities(logits, temperature) for logits in members]).mean(dim=0)
        got = probabilities(combine(answers[:, None], temperature)[0], temperature)
        assert float((got - mean).abs().max()) <= 1e-3

    def test_flips_average_the_eight_views(self, place):
        region, box, view = place.regions[1], Box(20, 40, 64, 64), (1, True)
        with place.open(flips=True) as served:
            answers = serve(served.soft_labels, region, box, view)
        assert len(answers) == 8
        network = place.teacher().members[0]
        views = [place.live(network, region, box, *view, asked_as=other) for other in VIEWS]
        mean = torch.stack([probabilities(logits, 2.0) for logits in views]).mean(dim=0)
        assert float((probabilities(combine(answers[:, None], 2.0)[0], 2.0) - mean).abs().max()) <= 1e-3

    def test_one_view_is_turned_for_the_others_and_says_what_that_loses(self, own):
        region, box, view = own.regions[0], Box(20, 60, 64, 64), (1, True)
        hardware, lines = CPU.model_copy(update={"cache_views": "one"}), []
        with own.open(hardware=hardware, log=lines.append) as served:
            answers = serve(served.soft_labels, region, box, view)
        network = own.teacher().members[0]
        assert_same(answers[0], own.live(network, region, box, *view, asked_as=(0, False)))
        assert served.bytes == size_of(own.regions, 3, views=1)
        shares = served.values["disagreement"]
        assert 0 < shares["other_class"] < 1
        assert f"{shares['other_class']:.2%}" in lines[-1]
        with own.open() as eight:  # another folder, and the same measure over all seven other views
            assert eight.values["disagreement"]["other_class"] == pytest.approx(shares["other_class"], abs=0.1)

    def test_the_live_teacher_with_flips_is_the_average_over_turned_images(self, place):
        image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, 64, 32)).astype(np.float32))
        network = place.teacher().members[0]
        with torch.no_grad():
            answers = [
                turn_back(network(torch.from_numpy(turn(image.numpy(), *view).copy())).numpy(), *view) for view in VIEWS
            ]
        mean = np.mean([probabilities(torch.from_numpy(answer.copy()), 3.0).numpy() for answer in answers], axis=0)
        got = probabilities(place.teacher(flips=True)(image, 3.0), 3.0)
        np.testing.assert_allclose(got.numpy(), mean, atol=1e-5)


class TestWithoutSpace:
    """The same numbers come from the live teacher, and the log says why."""

    def expect_live(self, own, reason: str, **options):
        lines: list[str] = []
        with own.open(folder=options.pop("folder", own.folder), log=lines.append, **options) as served:
            assert served.served == "live"
            assert reason in served.reason
            assert reason in lines[-1]
            box = Box(-5, 90, 96, 96)
            live = [served.soft_labels.crop(region, box, *view) for region in own.regions[:2] for view in VIEWS]
        with own.open(folder=own.folder.with_name("elsewhere")) as kept:
            assert kept.served == "cache"
            stored = [kept.soft_labels.crop(region, box, *view) for region in own.regions[:2] for view in VIEWS]
        np.testing.assert_array_equal(live, stored)

    def test_none_is_allowed(self, own):
        self.expect_live(own, "cache_gb allows 0 GB", hardware=CPU.model_copy(update={"cache_gb": 0.0}))
        assert not own.folder.exists()

    def test_the_disk_is_too_small(self, own):
        with small_disk(own.folder, 2000):
            self.expect_live(own, "free on the disk", folder=own.folder)

    def test_the_disk_fills_up_while_they_are_written(self, own, monkeypatch):
        monkeypatch.setattr(store, "SPARE_BYTES", -(10**12))
        with small_disk(own.folder, 4000):  # the first region fits, the second large one does not
            self.expect_live(own, "the disk is full", folder=own.folder)
            assert not list(own.folder.glob("*/*.f16"))
            assert not list(own.folder.glob("*/*.part"))

    def test_little_memory_only_costs_time(self, own):
        box = Box(0, 0, 192, 192)
        witness = views.Member(own.teacher().members[0], own.collection.reader)
        small, large = (soft_labels.Live(witness, own.regions, bytes) for bytes in (1, 10**9))
        for _ in range(2):
            np.testing.assert_array_equal(small.read(0, box, 3), large.read(0, box, 3))
        assert (small._kept.bytes, large._kept.bytes) == (
            0,
            192 * 192 * 4 * 2,
        )  # three classes and their level, 16 bits

    def test_the_least_recently_used_that_nobody_holds_make_room(self, own):
        size = size_of(own.regions[1:2], 3)
        hardware = CPU.model_copy(update={"cache_gb": 2.5 * size / 1e9})
        folders = []
        for row in range(3):  # three collections of regions cannot share a folder: three networks
            checkpoint = own.write(own.folder.parent / f"n{row}.safetensors", 10 + row)
            teacher = Teacher.load([checkpoint], NAMES, 3)
            with open_soft_labels(
                own.folder, own.collection, own.regions[1:2], teacher, [checkpoint], hardware
            ) as served:
                assert served.served == "cache"
                folders.append(set(own.folder.glob("*/")) - set().union(*folders))
            time.sleep(0.02)
        left = set(own.folder.glob("*/"))
        assert left == folders[1] | folders[2]

    def test_what_is_held_is_not_deleted(self, own):
        hardware = CPU.model_copy(update={"cache_gb": 1.5 * size_of(own.regions[1:2], 3) / 1e9})
        other = own.write(own.folder.parent / "other.safetensors", 20)
        with own.open(regions=own.regions[1:2], hardware=hardware) as held:
            teacher = Teacher.load([other], NAMES, 3)
            with open_soft_labels(own.folder, own.collection, own.regions[1:2], teacher, [other], hardware) as served:
                assert served.served == "live"
                assert "others that are used now" in served.reason
            assert held.served == "cache"


class TestMishaps:
    def built(self, own) -> dict:
        with own.open():
            pass
        store.checksum.cache_clear()
        return {file: file.stat().st_mtime_ns for file in own.folder.glob("*/*.f16")}

    def open_again(self, own) -> list[str]:
        lines: list[str] = []
        region, box, view = own.regions[0], Box(20, 60, 64, 64), (2, True)
        with own.open(log=lines.append) as served:
            assert served.served == "cache"
            answers = serve(served.soft_labels, region, box, view)
        assert_same(answers[0], own.live(own.teacher().members[0], region, box, *view))
        return lines

    def test_a_second_opening_computes_nothing(self, own):
        before = self.built(own)
        stages = []
        with own.open(report=stages.append):
            pass
        assert before == {file: file.stat().st_mtime_ns for file in own.folder.glob("*/*.f16")}
        assert all(progress.done == progress.total for progress in stages)

    def test_a_file_is_read_for_its_checksum_once_by_a_process(self, own):
        self.built(own)
        for _ in range(2):
            self.open_again(own)
        assert store.checksum.cache_info()[:2] == (4, 4)  # hits and misses: four regions, opened twice

    def test_a_folder_of_an_older_version_is_named_once(self, own):
        older = own.folder.with_name(".teacher-answers")
        older.mkdir(parents=True)
        lines: list[str] = []
        for _ in range(2):
            with own.open(log=lines.append):
                pass
        assert [str(older) in line for line in lines] == [True, False, False]  # computing, kept, kept

    def test_a_flipped_byte_is_found(self, own):
        before = self.built(own)
        file = max(before, key=lambda file: file.stat().st_size)
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 3)
            byte = opened.read(1)
            opened.seek(-1, os.SEEK_CUR)
            opened.write(bytes([byte[0] ^ 0x40]))
        lines = self.open_again(own)
        assert any("not what was written" in line for line in lines)
        after = {file: file.stat().st_mtime_ns for file in own.folder.glob("*/*.f16")}
        assert [name for name in after if after[name] != before[name]] == [file]

    def test_a_truncated_file_is_built_again(self, own):
        file = next(iter(self.built(own)))
        size = file.stat().st_size
        os.truncate(file, size - 100)
        self.open_again(own)
        assert file.stat().st_size == size

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"shape": 3}', "{}"])
    def test_a_broken_sheet_is_built_again(self, own, text):
        sheet = next(iter(self.built(own))).with_suffix(".json")
        sheet.write_text(text)
        self.open_again(own)
        assert json.loads(sheet.read_text())["crc32"]

    def test_a_changed_checkpoint_has_a_folder_of_its_own(self, own):
        self.built(own)
        changed = own.folder.parent / "changed.safetensors"
        own.write(changed, 5)
        teacher = Teacher.load([changed], NAMES, 3)
        with open_soft_labels(own.folder, own.collection, own.regions, teacher, [changed], CPU) as served:
            box = Box(20, 60, 64, 64)
            answers = serve(served.soft_labels, own.regions[0], box, (0, True))
        assert len(list(own.folder.glob("*/"))) == 2
        assert_same(answers[0], own.live(teacher.members[0], own.regions[0], box, 0, True))

    def test_a_wish_to_stop_keeps_what_is_finished(self, own):
        asked = 0

        def should_stop() -> bool:
            nonlocal asked
            asked += 1
            return (
                asked > 5
            )  # once before the work, after each of the 4 windows of the first region, and then in the next one

        with pytest.raises(Stopped), own.open(should_stop=should_stop):
            pass
        assert len(list(own.folder.glob("*/*.f16"))) == 1
        self.open_again(own)

    def test_a_stop_resumes_at_the_window_where_it_was_and_gives_the_same_numbers(self, own, tmp_path):
        told: list[tuple[int, int]] = []

        def report(progress):
            told.append((progress.done, progress.total))

        with pytest.raises(Stopped), own.open(should_stop=lambda: told[-1][0] == 6, report=report):
            pass  # the first region has 4 windows: 2 of the second one
        told.clear()
        with own.open(report=report):
            pass
        assert [done for done, _ in told[:2]] == [6, 7]
        assert not [*own.folder.glob("*/*.part"), *own.folder.glob("*/*.stopped")]
        resumed = {file.name: file.read_bytes() for file in own.folder.glob("*/*.f16")}
        own.folder = tmp_path / "in one go"
        assert {file.name: file.read_bytes() for file in self.built(own)} == resumed


BUILDER = """
import sys
from pathlib import Path
from kdcore.imports import large_imports
with large_imports():
    from kdcore.teacher import views
    views.WINDOW, views.HALO = 128, 32
    from kdcore.data.collection import Collection, Region
    from kdcore.data.scene import Box
    from kdcore.teacher.teacher import Teacher
    from kdcore.settings import Hardware
    from kdcore.teacher.soft_labels import open_soft_labels
folder, path, checkpoint = map(Path, sys.argv[1:4])
collection = Collection.open(path)
regions = [Region(scene, scene.box) for scene in (*collection.scenes, *collection.unlabelled)]
def report(progress):
    print(progress.done, progress.total, flush=True)
teacher = Teacher.load([checkpoint], collection.settings.class_names, 3)
with open_soft_labels(folder, collection, regions, teacher, [checkpoint], Hardware(device="cpu"), report=report) as served:
    print(served.served, flush=True)
"""


def start(own) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILDER, str(own.folder), str(own.path), str(own.checkpoints[0])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestSeveralProcesses:
    def test_a_killed_builder_leaves_nothing_that_counts(self, own):
        process = start(own)
        for line in process.stdout:
            if line.startswith("6 "):  # four windows a scene: in the middle of the second
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        assert list(own.folder.glob("*/*.part"))
        regions = [Region(scene, scene.box) for scene in (*own.collection.scenes, *own.collection.unlabelled)]
        with own.open(regions=regions) as served:
            assert served.served == "cache"
            answers = serve(served.soft_labels, regions[1], Box(50, 60, 64, 64), (3, False))
        assert not list(own.folder.glob("*/*.part"))
        live = own.live(own.teacher().members[0], regions[1], Box(50, 60, 64, 64), 3, False)
        assert_same(answers[0], live)

    def test_two_builders_share_the_work(self, own):
        processes = [start(own) for _ in range(2)]
        outputs = [process.communicate(timeout=600)[0].split("\n") for process in processes]
        assert all(lines[-2] == "cache" for lines in outputs)
        assert all(lines[-3] == "20 20" for lines in outputs)
        assert len(list(own.folder.glob("*/*.f16"))) == 5
        assert not list(own.folder.glob("*/users/*.lock"))
