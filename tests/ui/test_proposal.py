"""Tables of classes and of the split, and the settings that come back from them."""

import pytest

from kdcore.errors import SettingsError
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings
from kdcore.ui.proposal import (
    block_rows,
    class_rows,
    edited_text,
    reading_of,
    with_blocks,
    with_classes,
    with_scenes,
)

SPLIT = SplitSettings(train=("a", "b"), validation=("c",), test=("d",))
BLOCKS = SplitSettings(by="block", grid=(2, 3), train=("r1c[12]",), validation=("r2c[12]",), test=("r*c3",))


def settings(*classes, split=SPLIT, **others):
    return CollectionSettings(name="town", classes=classes, split=split, **others)


def valued(*names, **others):
    """Classes of values 0, 1, ... in index masks."""
    return settings(*(ClassSettings(name=name, value=value) for value, name in enumerate(names)), **others)


def test_shares_are_those_of_all_labelled_pixels():
    pixels = {"train": {"land": 70, "water": 10}, "test": {"land": 5, "water": 15}}
    assert [row["share"] for row in class_rows(valued("land", "water"), pixels)] == [0.75, 0.25]


def test_a_name_and_a_colour_come_back():
    before = valued("land", "class-1")
    rows = class_rows(before, {})
    rows[1] |= {"name": "roof", "colour": "#ff0000"}
    after = with_classes(before, rows, reading_of(before, masks=True))
    assert (after.classes[1].name, after.classes[1].colour, after.classes[1].value) == ("roof", "#FF0000", 1)
    assert after.classes[0].colour == rows[0]["colour"]  # all have one as soon as one has


def test_untouched_tables_change_nothing():
    for masks, before in (
        (True, valued("land", "water", "roof", ignore=(255,))),
        (True, settings(ClassSettings(name="a", colour="#000000"), ClassSettings(name="b", colour="#FFFFFF"))),
        (False, settings(ClassSettings(name="background"), ClassSettings(name="roof"), class_field="class")),
    ):
        assert with_classes(before, class_rows(before, {}), reading_of(before, masks)) == before


@pytest.mark.parametrize(
    ("before", "masks", "mark"),
    [
        (valued("land", "water", "roof"), True, 2),
        (settings(*(ClassSettings(name=n, colour=c) for n, c in (("a", "#000000"), ("b", "#00FF00"), ("c", "#FF0000")))),
         True, "#FF0000"),
        (settings(*(ClassSettings(name=n) for n in ("background", "water", "roof")), class_field="class"), False, "roof"),
    ],
)  # fmt: skip
def test_an_ignored_class_is_named_as_the_labels_know_it_and_comes_back(before, masks, mark):
    rows = class_rows(before, {})
    rows[2]["ignore"] = True
    ignoring = with_classes(before, rows, reading_of(before, masks))
    assert ignoring.ignore == (mark,)
    assert len(ignoring.classes) == 2
    rows = class_rows(ignoring, {})
    rows[2]["ignore"] = False
    back = with_classes(ignoring, rows, reading_of(ignoring, masks))
    assert back.ignore == ()
    known_by = {2: back.classes[2].value, "#FF0000": back.classes[2].colour, "roof": back.classes[2].name}
    assert known_by[mark] == mark


def test_what_lies_outside_of_all_polygons_cannot_be_ignored():
    before = settings(*(ClassSettings(name=name) for name in ("background", "water", "roof")), class_field="class")
    rows = class_rows(before, {})
    rows[0]["ignore"] = True
    with pytest.raises(SettingsError, match="outside of all polygons"):
        with_classes(before, rows, reading_of(before, masks=False))


def test_what_tells_classes_apart_in_the_labels_is_not_edited():
    coloured = settings(ClassSettings(name="a", colour="#000000"), ClassSettings(name="b", colour="#FFFFFF"))
    assert reading_of(coloured, masks=True).fixed == ("colour",)
    named = settings(ClassSettings(name="background"), ClassSettings(name="roof"), class_field="class")
    assert reading_of(named, masks=False).fixed == ("name",)
    assert reading_of(valued("land", "water"), masks=True).fixed == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"name": "land"}, "belongs to two classes"), ({"name": ""}, "name"), ({"ignore": True}, "at least two")],
)
def test_a_table_that_does_not_fit_is_refused_in_a_sentence(change, problem):
    before = valued("land", "water")
    rows = class_rows(before, {})
    rows[1] |= change
    with pytest.raises(SettingsError, match=problem):
        with_classes(before, rows, reading_of(before, masks=True))


def test_blocks_lie_in_the_table_as_in_a_scene():
    before = valued("land", "water", split=BLOCKS)
    rows = block_rows(before)
    assert rows == [["train", "train", "test"], ["validation", "validation", "test"]]
    rows[1][1] = "not used"
    after = with_blocks(before, rows)
    assert after.split.validation == ("r2c1",)
    assert block_rows(after) == rows


def test_scenes_move_between_parts_and_their_names_are_no_patterns():
    after = with_scenes(valued("land", "water"), {"a": "train", "b": "not used", "c": "validation", "d [1]": "test"})
    assert after.split == SplitSettings(train=("a",), validation=("c",), test=("d [[]1]",))


def test_a_part_without_scenes_is_refused():
    with pytest.raises(SettingsError, match="the test part of the split is empty"):
        with_scenes(valued("land", "water"), {"a": "train", "c": "validation"})


def test_comments_above_the_settings_stay():
    text = edited_text("# Proposed.\n#\n# Note: x\nname: old\n", valued("land", "water"))
    assert text.startswith("# Proposed.\n#\n# Note: x\nname: town\n")
