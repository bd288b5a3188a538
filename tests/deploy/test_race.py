"""The race: times that follow from a speed, and times that are measured tile by tile."""

import shutil
import time

import numpy as np
import pytest

from kdcore.data.scene import Box, Crop
from kdcore.deploy import race_live
from kdcore.deploy.costs import map_cost, overlap_factor
from kdcore.deploy.race import (
    INDEX,
    Lane,
    Race,
    RaceFolder,
    course,
    moments,
    pace,
    race_folder,
    recorded_lane,
    side_of,
    square_kilometres,
    tiles_over,
)
from kdcore.errors import RunError, Stopped
from kdcore.files import write_json
from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from kdcore.jobs.workspace import Workspace
from kdcore.settings import RunSettings, load, save
from tests.conftest import TINY
from tests.deployment import speed
from tests.map_study import give_weights, make_map_study

GROUND = (0, 0, 300, 256)  # 300 rows and 256 columns: two columns and three rows of tiles of 128 px


def lane(*seconds: float, arm="teacher", tiles=None) -> Lane:
    tiles = tiles or tuple((0, 100 * index, 100, 100) for index in range(len(seconds)))
    return Lane(arm=arm, engine="torch", device="cpu", tiles=tiles, seconds=seconds)


class TestTimesOfASpeed:
    def test_each_tile_takes_its_share_of_pixels(self):
        """Half a megapixel a second in tiles of 512 px, of which 448 are kept: 512² / 448² = 64 / 49 pixels for each."""
        found = recorded_lane("teacher", speed("torch", 0.5), GROUND, 512)
        assert found.tiles == (
            (0, 0, 128, 128), (0, 128, 128, 128),
            (128, 0, 128, 128), (128, 128, 128, 128),
            (256, 0, 44, 128), (256, 128, 44, 128),
        )  # fmt: skip
        a_tile, a_short_one = 128 * 128 * 64 / 49 / 500_000, 44 * 128 * 64 / 49 / 500_000
        assert found.seconds == pytest.approx(
            [a_tile, 2 * a_tile, 3 * a_tile, 4 * a_tile, 4 * a_tile + a_short_one, 4 * a_tile + 2 * a_short_one]
        )
        assert found.pixels == 300 * 256

    def test_an_hour_of_it_maps_what_the_deploy_page_says(self):
        found = recorded_lane("distilled", speed("openvino", 6.2), GROUND, 512)
        a_second = square_kilometres(found.pixels, 0.5) / found.duration
        cost = map_cost(1, metres_per_pixel=0.5, megapixels_per_second=6.2, overlap=overlap_factor(512, 32))
        assert 3600 * a_second == pytest.approx(cost.km2_per_hour)

    def test_the_ratio_is_that_of_the_speeds(self):
        student, teacher = (
            recorded_lane(arm, speed("torch", value), GROUND, 512)
            for arm, value in (("distilled", 6), ("teacher", 1.5))
        )
        race = Race(scene="a", metres_per_pixel=None, teacher=teacher, student=student, measured=0)
        assert race.faster == pytest.approx(4)
        assert race.duration == teacher.duration

    def test_a_ratio_is_one_of_ground_where_the_lanes_differ(self):
        """10,000 pixels in 2 s against 40,000 pixels in 4 s."""
        student = lane(1, 2, 3, 4, arm="distilled")
        race = Race(scene="a", metres_per_pixel=1, teacher=lane(2), student=student, measured=0)
        assert race.faster == pytest.approx(2)

    @pytest.mark.parametrize("seconds", [(2, 1), (0, 1), (1, float("nan")), (1, float("inf"))])
    def test_times_that_cannot_be_are_refused(self, seconds):
        with pytest.raises(ValueError, match="times"):
            lane(*seconds)

    def test_a_time_for_each_tile_is_wanted(self):
        with pytest.raises(ValueError, match="a time for each tile"):
            lane(1, 2, tiles=((0, 0, 1, 1),))

    def test_tiles_follow_one_another(self):
        assert moments([0.5, 0.25, 1.0]) == (0.5, 0.75, 1.75)


class TestGround:
    def scene(self, workspace, height, width):
        (scene,) = StudyLayers.load(workspace / "town").scenes
        return scene.model_copy(update={"part": (10, 20, height, width)})

    def test_a_large_scene_is_raced_over_in_its_middle(self, workspace):
        assert course(self.scene(workspace, 480, 640)) == (10, 20, 480, 640)
        assert course(self.scene(workspace, 5000, 640)) == (10 + 260, 20, 4480, 640)

    @pytest.mark.parametrize(
        ("height", "width", "side"), [(896, 896, 128), (1281, 1281, 192), (4480, 4480, 448), (60, 60, 128)]
    )
    def test_tiles_are_as_small_as_a_hundred_of_them_allow(self, height, width, side):
        assert side_of((0, 0, height, width)) == side
        tiles = tiles_over((7, 9, height, width), side)
        assert len(tiles) <= 100
        covered = np.zeros((height + 7, width + 9), dtype=int)
        for row, column, tall, wide in tiles:
            covered[row : row + tall, column : column + wide] += 1
        assert (covered[7:, 9:] == 1).all()
        assert covered.sum() == height * width


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(12, 1), (9, 1), (16, 1), (1.2, 0.1), (0.3, 0.02), (0.55, 0.05), (60, 5), (700, 50), (1300, 100), (4e-6, 5e-7)],
)
def test_the_slower_one_takes_about_twelve_seconds_on_screen(seconds, expected):
    assert pace(seconds) == pytest.approx(expected)
    assert 12 / 1.6 < seconds / pace(seconds) < 12 * 1.6


# ---- live ----


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with the study 'town', whose networks are small and not trained."""
    folder = tmp_path_factory.mktemp("races") / "studies"
    give_weights(make_map_study(folder, "town"))
    return folder


@pytest.fixture
def workspace(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "studies")


def go(workspace, report=lambda progress: None) -> Race:
    """Race in this process; gives what was written."""
    place = Workspace(workspace)
    folder = race_folder(place, place.study("town"))
    folder.write_status(Status(queued=time.time()))
    assert race_live.run(folder, report) == ""
    return Race.load(folder.path)


class TestLive:
    def test_both_networks_map_every_tile_once(self, workspace):
        told = []
        race = go(workspace, told.append)
        assert race.live
        assert race.scene == "test-area"
        assert race.metres_per_pixel == pytest.approx(0.5, rel=1e-3)
        assert race.teacher.tiles == race.student.tiles == tiles_over((0, 0, 480, 640), 128)
        assert (race.teacher.arm, race.student.arm) == ("teacher", "distilled")
        assert not race.teacher.stand_in
        assert [(step.done, step.total) for step in told if step.stage is Stage.MAPPING] == [
            (number, 20) for number in range(21)
        ]

    def test_without_the_teachers_weights_its_architecture_runs(self, workspace):
        run = Workspace(workspace).study("town").run("teacher-s0")
        run.best.unlink()
        file = run.path / "settings.yaml"
        save(load(RunSettings, file).model_copy(update={"network": TINY}), file)
        race = go(workspace)
        assert race.teacher.stand_in
        assert not race.student.stand_in

    def test_without_the_students_weights_it_says_so(self, workspace):
        (workspace / "town/runs/distilled-s0/checkpoints/best.safetensors").unlink()
        with pytest.raises(RunError, match="The distilled student's weights of the study town are not on this machine"):
            go(workspace)

    def test_a_teacher_that_came_from_elsewhere_and_is_gone_cannot_race(self, workspace):
        run = Workspace(workspace).study("town").run("teacher-s0")
        run.best.unlink()
        file = run.path / "settings.yaml"
        save(load(RunSettings, file).model_copy(update={"teacher": (workspace / "gone.onnx",)}), file)
        with pytest.raises(RunError, match="the teacher's weights are not on this machine"):
            go(workspace)

    def test_imagery_that_the_map_does_not_show_comes_from_the_data(self, workspace, monkeypatch):
        seen = []
        (workspace / "town/layers/test-area/imagery.tif").unlink()
        (workspace / "town/layers/test-area/imagery.tif").symlink_to(
            workspace / "town/layers/test-area/truth.tif"
        )  # one band
        monkeypatch.setattr(race_live, "seconds_of", lambda racer, image: seen.append(image) or 0.1)
        go(workspace)
        (town,) = (
            scene for scene in (race_live.Collection.open(workspace / ".areas/town")).scenes if scene.id == "test_area"
        )
        crop = race_live.Collection.open(workspace / ".areas/town").reader.read(town, Box(0, 0, 160, 160))
        np.testing.assert_array_equal(seen[0][0], crop.image)

    def test_they_take_turns_and_reading_is_not_counted(self, monkeypatch):
        order = []

        class Fake:
            fill = np.zeros(1, dtype=np.float32)

            def __init__(self, name):
                self.name = name

            def __call__(self, image):
                order.append((self.name, image.shape[2:]))

        racers = [race_live.Racer(arm, "torch", Fake(arm), False) for arm in ("teacher", "distilled")]

        def read(box):
            shape = box.height, box.width
            return Crop(np.ones((1, *shape)), np.ones(shape, dtype=bool), np.zeros(shape, dtype=np.uint8))

        tiles = ((0, 0, 128, 128), (0, 128, 128, 72))
        times = race_live.time_tiles(racers, tiles, read, Box(0, 0, 128, 200), lambda progress: None)
        first, second = (128, 160), (128, 104)  # 32 px more where there is ground
        warm = race_live.WARM_UP + 1
        assert order == [
            *[("teacher", first)] * warm,
            *[("distilled", first)] * warm,
            ("teacher", second),
            ("distilled", second),
        ]
        assert [len(seconds) for seconds in times] == [2, 2]
        clock = iter([10.0, 10.25])
        assert race_live.seconds_of(racers[0], np.ones((1, 1, 8, 8)), lambda: next(clock)) == 0.25

    def test_it_can_be_stopped(self, workspace):
        def stop(progress):
            if progress.stage is Stage.MAPPING and progress.done == 3:
                raise Stopped("enough")

        with pytest.raises(Stopped):
            go(workspace, stop)
        assert not (workspace / "town/race" / INDEX).exists()

    def test_a_broken_record_is_a_sentence(self, tmp_path):
        with pytest.raises(RunError, match="No race was run live yet"):
            Race.load(tmp_path)
        write_json(tmp_path / INDEX, {"scene": "a"})
        with pytest.raises(RunError, match=r"is broken\. Race again"):
            Race.load(tmp_path)

    def test_a_read_only_study_races_in_the_workspace(self, tmp_path):
        place = Workspace(tmp_path)
        assert race_folder(place, place.example()) == RaceFolder(tmp_path / ".race/example")
        assert race_folder(place, place.example()).id == "example"
