"""Masks whose georeference is not their image's."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.survey import survey
from kdcore.errors import DataError
from tests.conftest import UTM, write_raster

SIDE = 64


def folder(tmp_path, crs=UTM, transform=None, image_crs=UTM, names="abc"):
    """Images of 0.5 m at (500000, 5000000), and masks with another georeference: a function of the image's transform."""
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        west = 500_000.0 + 1000 * index
        own = Affine(0.5, 0, west, 0, -0.5, 5_000_000)
        write_raster(
            tmp_path / f"c/images/{name}.tif", rng.integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8), image_crs, west
        )
        placed = {"crs": crs, "transform": own if transform is None else transform(own)} if crs or transform else {}
        labels = np.indices((SIDE, SIDE)).sum(axis=0) // 8 % 2
        (tmp_path / "c/masks").mkdir(exist_ok=True)
        profile = {"driver": "GTiff", "count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", **placed}
        with rasterio.open(tmp_path / f"c/masks/{name}.tif", "w", **profile) as mask:
            mask.write(labels.astype(np.uint8), 1)
    (tmp_path / "c/collection.yaml").write_text(
        "name: x\nclasses: [{name: a, value: 0}, {name: b, value: 1}]\nsplit: {train: [a], validation: [b], test: [c]}\n"
    )
    return tmp_path / "c"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"transform": lambda own: own @ Affine.translation(-50, 0)}, ("(499975.0, 5000000.0)", "up to 50 px")),
        ({"transform": lambda own: own @ Affine.translation(0, 3)}, ("(500000.0, 4999998.5)", "up to 3 px")),
        (
            {"transform": lambda own: own @ Affine.translation(0, SIDE) @ Affine.scale(1, -1)},
            ("(500000.0, 4999968.0)",),
        ),
        ({"transform": lambda own: own @ Affine.scale(1.1)}, ("up to 8 px",)),
        ({"crs": "EPSG:32634"}, ("in EPSG:32634", "in EPSG:32633")),
        ({"crs": None, "transform": lambda own: own @ Affine.translation(9, 0)}, ("in no CRS", "up to 9 px")),
    ],
    ids=["shifted", "a little", "south up", "another pixel size", "another zone", "without a CRS"],
)
def test_a_mask_elsewhere_names_both_origins_and_the_mend(tmp_path, place, words):
    path = folder(tmp_path, **place)
    problem = inspect(path, crop=32).problems[0]
    for word in ("masks/a.tif", "does not lie on its image", "(500000.0, 5000000.0) in EPSG:32633", *words):
        assert word in problem
    assert "gdalwarp -r near -t_srs EPSG:32633 -te 500000 4999968 500032 5000000 -ts 64 64 a.tif new.tif" in problem
    assert "gdal_edit.py -unsetgt" in problem
    with pytest.raises(DataError, match="does not lie on its image"):
        survey(Collection.open(path), 32)


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"crs": None},
        {"image_crs": None},
        {"image_crs": None, "crs": None},
        {"transform": lambda own: own @ Affine.translation(0.5, -0.5)},
        {"crs": 'LOCAL_CS["drawing"]'},
        {"crs": 'PROJCS["UTM33",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
         'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
         'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],'
         'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'},
    ],
    ids=["same", "mask without", "image without", "both without", "half a pixel", "no place", "another wording"],
)  # fmt: skip
def test_a_mask_that_lies_on_its_image_or_says_nothing_is_read(tmp_path, place):
    found = inspect(folder(tmp_path, **place), crop=32)
    assert found.problems == []
    assert sum(found.class_pixels["test"].values()) == SIDE * SIDE


def test_many_masks_elsewhere_are_few_sentences(tmp_path):
    path = folder(tmp_path, transform=lambda own: own @ Affine.translation(9, 0), names="abcdefghi")
    problems = inspect(path, crop=32).problems
    assert len(problems) == 6
    assert problems[-1] == "4 more label files do not lie on their images either."
