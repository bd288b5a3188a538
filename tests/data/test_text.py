"""Settings as editors of all kinds write them, and names that YAML or the file system would change."""

import unicodedata

import numpy as np
import pytest

from kdcore.data.collection import Collection
from kdcore.errors import DataError, SettingsError
from kdcore.settings import CollectionSettings, SplitSettings, load, to_yaml
from tests.conftest import paint, write_raster

TEXT = """name: town
classes:
- {name: background, value: 0}
- {name: Gebäude, value: 1}
split:
  train: [a]
  validation: [b]
  test: [c]
"""


@pytest.fixture
def settings_of(tmp_path):
    """Settings from the bytes of a file."""

    def read(content: str | bytes) -> CollectionSettings:
        path = tmp_path / "collection.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(CollectionSettings, path)

    return read


def make(folder, names, masks=None, classes=2):
    """A folder with an image and a mask for each name, 128 px, side by side."""
    for index, name in enumerate(names):
        image, labels = paint(np.random.default_rng(index), 128, classes)
        write_raster(folder / f"images/{name}.tif", image, west=500_000 + 1000 * index)
        write_raster(folder / f"masks/{(masks or names)[index]}.tif", labels, west=500_000 + 1000 * index)


@pytest.mark.parametrize("content", [TEXT.replace("\n", "\r\n"), b"\xef\xbb\xbf" + TEXT.encode()])
def test_line_ends_and_marks_of_windows_are_read(settings_of, content):
    assert settings_of(content).class_names == ("background", "Gebäude")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(TEXT.encode("utf-16"), "UTF-16"), (TEXT.encode("cp1252"), "older encoding"), (TEXT.encode("latin-1"), "older")],
)
def test_another_encoding_is_refused_with_what_to_do(settings_of, content, encoding):
    with pytest.raises(
        SettingsError, match=rf"collection.yaml: is saved in (an )?{encoding}.*save it with the encoding UTF-8"
    ):
        settings_of(content)


def test_a_tab_is_named_with_its_line(settings_of):
    with pytest.raises(SettingsError, match="line 6 begins with a tab; YAML wants spaces"):
        settings_of(TEXT.replace("  train", "\ttrain"))


def test_a_colour_without_quotes_is_named(settings_of):
    with pytest.raises(SettingsError, match=r"'#' begins a comment in YAML. Write it in quotes"):
        settings_of(TEXT.replace("- {name: background, value: 0}", "- name: background\n  value: 0\n  colour: #FF0000"))


@pytest.mark.parametrize("names", [("no", "yes"), ("0", "1"), ("on", "off"), ("2024-01-01", "~"), ("null", "1e5")])
def test_names_of_classes_stay_as_they_are_written(settings_of, names):
    text = TEXT.replace("background", names[0]).replace("Gebäude", names[1])
    assert settings_of(text).class_names == names


def test_names_of_scenes_stay_as_they_are_written(settings_of):
    text = (
        TEXT.replace("[a]", "[007, 1e5, 2024-01-01]").replace("[b]", "[null, 0x1F]").replace("[c]", "[yes, -3, 1_000]")
    )
    split = settings_of(text).split
    assert split.train == ("007", "1e5", "2024-01-01")
    assert split.validation == ("null", "0x1F")
    assert split.test == ("yes", "-3", "1_000")


def test_other_numbers_are_numbers(settings_of):
    settings = settings_of(TEXT + "ignore: [255]\nbands: [3, 2, 1]\nnodata: 0\n")
    assert (settings.ignore, settings.bands, settings.nodata) == ((255,), (3, 2, 1), 0.0)


@pytest.mark.parametrize(
    "names",
    [
        ["tile [1]", "tile [2]", "tile [3]"],
        ["a*", "a*b", "a?"],
        ["007", "yes", "null"],
        ["Área sur 1", "Área sur 2", "Área sur 3"],
        ["a (1)", "a #2", "a: 3"],
        ["ortho.v1.0", "ortho.v1.1", "-3"],
        ["A", "a", "B"],
    ],
)
def test_a_scene_is_meant_by_its_own_name(tmp_path, names):
    make(tmp_path / "c", names)
    settings = CollectionSettings(
        name="c",
        classes=({"name": "no", "value": 0}, {"name": "yes", "value": 1}),
        split=SplitSettings(train=names[:1], validation=names[1:2], test=names[2:]),
    )
    (tmp_path / "c/collection.yaml").write_text(to_yaml(settings))
    collection = Collection.open(tmp_path / "c")
    for name, part in zip(names, ("train", "validation", "test"), strict=True):
        assert [region.scene.id for region in collection.regions(part)] == [name]
        assert next(scene for scene in collection.scenes if scene.id == name).labelled


def test_brackets_are_a_pattern_where_no_scene_has_that_name(tmp_path):
    make(tmp_path / "c", ["t1", "t2", "t3", "t4"])
    classes = ({"name": "no", "value": 0}, {"name": "yes", "value": 1})
    split = SplitSettings(train=("t[12]",), validation=("t3",), test=("t4",))
    collection = Collection(CollectionSettings(name="c", classes=classes, split=split), tmp_path / "c")
    assert [region.scene.id for region in collection.regions("train")] == ["t1", "t2"]


def test_composed_and_decomposed_letters_are_the_same(tmp_path):
    """macOS writes 'é' as 'e' and an accent; Windows and Linux as one letter."""
    names = [f"é{number}" for number in (1, 2, 3)]
    make(tmp_path / "c", names, [unicodedata.normalize("NFD", name) for name in names])
    classes = ({"name": "no", "value": 0}, {"name": "yes", "value": 1})
    split = SplitSettings(train=(unicodedata.normalize("NFD", names[0]),), validation=(names[1],), test=(names[2],))
    collection = Collection(CollectionSettings(name="c", classes=classes, split=split), tmp_path / "c")
    assert [scene.id for scene in collection.scenes] == names
    assert all(scene.labelled for scene in collection.scenes)


@pytest.mark.parametrize("place", ["images/{name", "images/}", "images/{}", "images/{1}"])
def test_a_brace_that_is_no_placeholder_is_refused(place):
    with pytest.raises(ValueError, match="a placeholder is a word in braces"):
        CollectionSettings(
            name="c",
            images=place,
            classes=({"name": "no"}, {"name": "yes"}),
            split=SplitSettings(train=("a",), validation=("b",), test=("c",)),
        )


def test_a_missing_name_is_still_an_error(tmp_path):
    make(tmp_path / "c", ["t1", "t2", "t3"])
    classes = ({"name": "no", "value": 0}, {"name": "yes", "value": 1})
    split = SplitSettings(train=("t1",), validation=("t2",), test=("t[9]",))
    with pytest.raises(DataError, match=r"names 't\[9\]', which is no scene here. There are: t1, t2, t3"):
        Collection(CollectionSettings(name="c", classes=classes, split=split), tmp_path / "c")
