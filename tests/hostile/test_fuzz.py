"""Whatever text or bytes come: a value, or one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcore.errors import LONGEST, DataError, KdcoreError, SettingsError
from kdcore.evaluation.scores import Scores
from kdcore.jobs.library import check_text
from kdcore.models.checkpoint import load_network
from kdcore.reading import ReadingError, parse_json, parse_yaml
from kdcore.settings import CollectionSettings, RunSettings, StudySettings, SweepSettings, load, validate
from tests.hostile.corpus.place import EXAMPLE
from tests.hostile.corpus.texts import BOMBS, SOUND

MANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = st.sampled_from(
    [
        *("a", "0", "1e999", "-", "- ", ": ", "\n", "  ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!int ", "? "),
        *("!!binary ", "!!timestamp ", "!!omap ", "!!python/name:os", "| ", "'", '"', "#", "%", "---\n", "2024-13-01"),
        *("~", "\\ud800", "\u202e", "\x00", "é", "9" * 50, ".nan", "0x", "1:2:3", "name", "classes", "split", "train"),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just(10**300),
    st.just("~x/y"),
)
INNER = ("by", "grid", "crop", "steps", "encoder", "depth", "alpha", "tile", "window", "devices", "value", "colour")
FIELDS = sorted({*StudySettings.model_fields, *CollectionSettings.model_fields, *INNER})
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)),
    max_leaves=25,
)
KINDS = st.sampled_from([CollectionSettings, StudySettings, RunSettings, SweepSettings])


def sentence(function: Callable[[], object], kind: type[KdcoreError]) -> str:
    """The error's sentence, which a person can read; 'x' where there is none. Any other error ends the test."""
    try:
        function()
    except kind as error:
        assert len(str(error)) <= LONGEST  # noqa: PT017 - any kind of outcome but another error is right
        return str(error)
    return "x"


@MANY
@given(TEXTS)
def test_any_text_is_a_value_or_a_sentence_for_yaml(text):
    assert sentence(lambda: parse_yaml(text, "x.yaml"), ReadingError).startswith("x")


@MANY
@given(TEXTS)
def test_any_text_is_settings_or_a_sentence(tmp_path, text):
    (tmp_path / "x.yaml").write_bytes(text.encode(errors="surrogatepass"))
    for kind in (CollectionSettings, StudySettings):
        assert "x" in sentence(lambda kind=kind: load(kind, tmp_path / "x.yaml"), SettingsError)


@MANY
@given(st.integers(0, len(SOUND)), st.integers(0, 30), TEXTS)
def test_a_sound_collection_with_a_piece_replaced_is_settings_or_a_sentence(at, length, text):
    assert sentence(lambda: check_text(SOUND[:at] + text + SOUND[at + length :]), SettingsError)


@MANY
@given(KINDS, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8))
def test_any_values_are_settings_or_a_sentence(kind, values):
    assert sentence(lambda: validate(kind, values, "x"), SettingsError).startswith("x")


@MANY
@given(st.one_of(st.binary(max_size=200), TEXTS))
def test_any_bytes_are_a_value_or_a_sentence_for_json(data):
    assert sentence(lambda: parse_json(data, "x.json"), ReadingError).startswith("x")


@pytest.mark.parametrize("name", BOMBS)
def test_every_bomb_of_the_corpus_is_a_value_or_a_sentence(tmp_path, name):
    text = BOMBS[name]
    (tmp_path / "x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "x" in sentence(lambda: load(CollectionSettings, tmp_path / "x.yaml"), SettingsError)


def changed_bytes(path: Path, seed: int) -> bytes:
    held, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for at in rng.integers(0, len(held), 20):
        held[at] ^= int(rng.integers(1, 256))
    return bytes(held)


def test_twenty_changed_bytes_of_scores_are_noticed_or_harmless(tmp_path):
    path = EXAMPLE / "runs/alone-s0/scores.npz"
    sound, noticed = Scores.load(path), 0
    for seed in range(25):
        (tmp_path / "scores.npz").write_bytes(changed_bytes(path, seed))
        try:
            scores = Scores.load(tmp_path / "scores.npz")
        except DataError:
            noticed += 1
            continue
        assert np.array_equal(scores.positives, sound.positives)
        assert np.array_equal(scores.confusion, sound.confusion)
        assert scores.tiles == sound.tiles
    assert noticed > 0


def test_twenty_changed_bytes_of_a_checkpoint_are_noticed(tmp_path):
    for seed in range(10):
        (tmp_path / "m.safetensors").write_bytes(
            changed_bytes(EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors", seed)
        )
        with pytest.raises(KdcoreError, match=r"m\.safetensors"):
            load_network(tmp_path / "m.safetensors")


def test_twenty_changed_bytes_of_a_report_are_noticed_or_leave_json(tmp_path):
    from kdcore.jobs.study_folder import read_dict

    for seed in range(25):
        (tmp_path / "report.json").write_bytes(changed_bytes(EXAMPLE / "report.json", seed))
        said = sentence(lambda: json.dumps(read_dict(tmp_path / "report.json")), KdcoreError)
        assert said == "x" or "report.json" in said
