"""What bands mean, by the names, wavelengths and colours that files give."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from kdcore.data.spectrum import combinations, in_words, meanings_of, parse_numbers, read_bands
from kdcore.errors import SettingsError
from tests.conftest import write_raster


def make(path, count, descriptions=None, tags=(), colours=None):
    write_raster(path, np.ones((count, 8, 8), np.uint16))
    with rasterio.open(path, "r+") as file:
        if descriptions:
            file.descriptions = descriptions
        for number, values in enumerate(tags, 1):
            file.update_tags(number, **values)
        if colours:
            file.colorinterp = colours
    return path


@pytest.mark.parametrize(
    ("names", "meanings"),
    [
        (["Red", "GREEN", "b", "Near-Infrared", "SWIR 1"], ["red", "green", "blue", "nir", "swir16"]),
        (["B02", "B03", "B04", "B08"], ["blue", "green", "red", "nir"]),
        (["B4", "B8", "B8A", "B9", "B10", "B12"], ["red", "nir", "nir08", "nir09", "cirrus", "swir22"]),
        (["SR_B4", "SR_B5", "SR_B7", "QA_PIXEL"], ["red", "nir08", "swir22", ""]),
        (["B4", "B5"], ["", ""]),  # of Sentinel-2, Landsat 7 or Landsat 8: they differ
        (["", "VV", "<script>", "red " * 900], [""] * 4),
    ],
)
def test_names_mean_what_their_sensor_says(names, meanings):
    assert meanings_of(names) == meanings


def test_wavelengths_are_read_in_nanometres_and_micrometres(tmp_path):
    tags = [
        {"wavelength": "664.6"},
        {"WAVELENGTH": "0.56"},
        {"wavelength": "nan"},
        {"wavelength": "much"},
        {"wavelength": "842"},
    ]
    bands = read_bands(make(tmp_path / "a.tif", 5, tags=tags))
    assert [band.meaning for band in bands] == ["red", "green", "", "", "nir"]


def test_colours_of_a_file_count_where_nothing_is_named(tmp_path):
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
    path = make(tmp_path / "a.tif", 4, colours=colours)
    assert combinations(read_bands(path)) == {(3, 2, 1): "True colour"}
    named = read_bands(path, ("nir", "red", "green", "blue", "more"))
    assert combinations(named) == {(2, 3, 4): "True colour", (1, 2, 3): "Colour infrared"}


def test_combinations_are_those_that_the_bands_allow(tmp_path):
    names = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
    bands = read_bands(make(tmp_path / "a.tif", 13, names))
    assert combinations(bands) == {
        (4, 3, 2): "True colour",
        (8, 4, 3): "Colour infrared",
        (13, 8, 4): "Short-wave infrared",
        (12, 8, 2): "Agriculture",
        (13, 12, 4): "False colour (urban)",
    }
    assert in_words((8, 4, 3), bands) == (
        "red is band 8 (B8, near infrared), green is band 4 (B4, red), blue is band 3 (B3, green)"
    )
    assert in_words((10,), bands) == "grey is band 10 (B9, water vapour)"
    assert list(combinations(bands[8:])) == []


def test_a_name_is_one_short_text(tmp_path):
    (band, *_) = read_bands(make(tmp_path / "a.tif", 4, ("\u202e" + "x" * 500, None, "", "blue")))
    assert band.label == f"band 1 ({'x' * 40})"


@pytest.mark.parametrize(
    "text", ["1,2", "0", "01", "-1", "1,2,3,4", "1, 2, 3", "x", "1.5", "999999", "1,2,3\n", "\u0661"]
)
def test_numbers_are_one_or_three(text):
    with pytest.raises(SettingsError, match="8,4,3"):
        parse_numbers(text)


def test_numbers_keep_their_order():
    assert (parse_numbers("8,4,3"), parse_numbers("11"), parse_numbers("")) == ((8, 4, 3), (11,), ())
