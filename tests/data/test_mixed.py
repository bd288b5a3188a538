"""Collections of unlike scenes: what differs is said, with the choice."""

import numpy as np
import pytest

from kdcore.data.collection import Collection
from kdcore.data.mixed import check_scales
from kdcore.data.survey import survey
from kdcore.errors import DataError
from tests.conftest import paint, write_raster

IMAGE, LABELS = paint(np.random.default_rng(5), 128, 3)


def test_one_scene_of_another_type(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/b.tif", IMAGE.astype(np.uint16) * 100, west=501_000)
    with pytest.raises(
        DataError,
        match=r"b\.tif: has values of type uint16 but a\.tif has uint8\. .*gdal_translate -ot Byte -scale.*leave",
    ):
        Collection.open(path)  # fmt: skip


def test_the_scene_that_is_unlike_most_is_named_even_if_it_is_the_first(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/a.tif", IMAGE.astype(np.float32))
    with pytest.raises(DataError, match=r"a\.tif: has values of type float32 but b\.tif has uint8"):
        Collection.open(path)


def test_unlabelled_imagery_of_another_type(make_collection):
    path = make_collection()
    write_raster(path.parent / "unlabelled/u.tif", IMAGE.astype(np.int16), west=509_000)
    with pytest.raises(DataError, match=r"u\.tif: has values of type int16"):
        Collection.open(path)


def test_a_grey_scene_among_colours(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/d.tif", IMAGE[:1], west=503_000)
    with pytest.raises(DataError, match=r"d\.tif: has 1 bands but a\.tif has 3.*for example \[1\], or leave it out"):
        Collection.open(path)
    assert Collection.open(make_collection("grey", bands=(1,))).bands == 1


def test_scenes_of_other_resolutions_need_one_to_be_chosen(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/d.tif", IMAGE, west=503_000, resolution=2.0)
    with pytest.raises(
        DataError, match=r"d\.tif: has 2 m per pixel but the middle of all 4 images is 0\.5 m.*`metres_per_pixel: 2`"
    ):
        Collection.open(path)  # fmt: skip
    path.write_text(path.read_text() + "metres_per_pixel: 2\n")
    assert [scene.height for scene in Collection.open(path).scenes] == [32, 32, 32, 128]


def test_resolutions_that_differ_little_are_one(make_collection):
    path = make_collection()
    write_raster(path.parent / "images/d.tif", IMAGE, west=503_000, resolution=0.6)
    assert len(Collection.open(path).scenes) == 4


@pytest.mark.parametrize("part", ["b", "d"])
def test_a_scene_of_another_scale_is_found_in_every_part(make_collection, part):
    """0 to 1 in one file and 0 to 255 in the others, all of them float32."""
    path = make_collection()
    for index, name in enumerate("abcd"):
        values = paint(np.random.default_rng(index), 128, 3)[0].astype(np.float32)
        write_raster(
            path.parent / f"images/{name}.tif", values / 255 if name == part else values, west=500_000 + 1000 * index
        )
    with pytest.raises(
        DataError, match=rf"scene '{part}' has values around 0\.\d+ while others have values around \d+;"
    ):
        survey(Collection.open(path), 64)


def test_light_and_shade_are_no_other_scale():
    """A night of 5 and a snowfield of 220 stay; a scene without any data says nothing; 255 times is another scale."""
    check_scales({"night": 5.0, "town": 100.0, "snow": 220.0, "empty": 0.0, "strange": float("nan")}, "x")
    check_scales({"empty": 0.0}, "x")
    with pytest.raises(DataError, match=r"x: scene 'one' has values around 0\.4 .*\(2 of 5 are so\)"):
        check_scales({"a": 100.0, "b": 102.0, "one": 0.4, "two": 0.4, "c": 90.0}, "x")
