"""Splits that are proposed: parts alike in area and classes, and patterns that mean exactly their scenes."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kdcore.data.split import choose, compact, propose_split, split_by_parts

NAMES = st.lists(st.text("ab[]*?_-1é", min_size=1, max_size=8), min_size=2, max_size=8, unique=True)


@given(NAMES, st.data())
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_pattern_means_the_scenes_of_a_part_and_no_others(names, data):
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    for text in compact(chosen, names):
        found = {text} if text in names else {name for name in names if fnmatch.fnmatchcase(name, text)}
        assert found <= set(chosen)
    if len(compact(chosen, names)) == 1 and len(chosen) > 1:
        assert {name for name in names if fnmatch.fnmatchcase(name, compact(chosen, names)[0])} == set(chosen)


def test_scenes_that_begin_alike_are_one_pattern():
    names = ["train_1", "train_2", "val_3", "val_31"]
    assert compact(["train_1", "train_2"], names) == ("train_*",)
    assert compact(["val_3"], names) == ("val_3",)


def test_a_scene_unlike_the_others_does_not_validate_alone():
    """512 px of which 59 % are buildings say nothing about scenes of 10 %."""
    contents = {f"s{index}": {"0": 230_000.0, "1": 25_000.0} for index in range(6)}
    contents["s5"] = {"0": 107_000.0, "1": 155_000.0}
    split = propose_split(sorted(contents), contents)
    assert "s5" in split.train


def test_a_large_scene_trains():
    contents = {f"s{index}": {"0": 200.0, "1": 100.0} for index in range(5)} | {"s9": {"0": 20_000.0, "1": 10_000.0}}
    assert "s9" in propose_split(sorted(contents), contents).train


def test_a_class_of_two_scenes_is_trained_and_tested():
    contents = {f"s{index}": {"0": 1000.0, "1": 300.0} for index in range(6)}
    contents |= {name: {"0": 900.0, "1": 300.0, "2": 100.0} for name in ("s1", "s2", "s3")}
    split = propose_split(sorted(contents), contents)
    for part in (split.train, split.validation, split.test):
        assert {"s1", "s2", "s3"} & set(part)


def test_the_last_scenes_are_taken_where_nothing_speaks_against_it():
    alike = {name: {"0": 100.0, "1": 50.0} for name in "abcdef"}
    for contents in ({}, alike):
        assert choose(list("abcdef"), (1, 1), contents) == [["f"], ["e"], ["a", "b", "c", "d"]]


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({"a": "train", "b": "train", "c": "validation", "d": "test"}, (2, 1, 1)),
        ({"a": "train", "b": "validation"}, None),  # one scene tests, and one alone cannot train and choose
        ({"a": "train", "b": "train", "c": "validation"}, (1, 1, 1)),
        ({"a": "train", "b": "train", "c": "test"}, (1, 1, 1)),
        ({"a": "train", "b": "validation", "c": "validation", "d": "validation"}, (1, 1, 2)),
        ({"a": "validation", "b": "test"}, None),
    ],
)
def test_parts_that_folders_lack_are_taken_from_where_it_does_not_leak(parts, sizes):
    split = split_by_parts(parts, {}, [])
    if sizes is None:
        assert split is None
        return
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    if "test" in parts.values():
        assert set(split.test) == {name for name, part in parts.items() if part == "test"}
    assert not {name for name, part in parts.items() if part != "train"} & set(split.train)
