"""YAML and JSON of strangers: each ends in one sentence that names the file and the limit, or is read."""

import json
import os

import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.errors import LONGEST, KdcoreError, RunError, SettingsError, unexpected
from kdcore.jobs.library import check_text
from kdcore.jobs.small_files import read_dict, read_json
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.reading import MOST_DEPTH, MOST_YAML_BYTES, ReadingError, parse_json, parse_yaml, read_bytes
from kdcore.settings import CollectionSettings, StudySettings, load, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML_BOMBS = {
    "aliases that multiply": (LAUGHS, "more than 500,000 values"),
    "merged aliases": (LAUGHS.replace("[", "{q: [").replace("]", "]}"), "more than 500,000 values"),
    "an alias inside itself": ("a: &a [*a]\n", "stands inside what it repeats"),
    "deep lists": ("a: " + "[" * 50_000, f"more than {MOST_DEPTH} levels|nesting depth"),
    "deep mappings": ("{a: " * 50_000, f"more than {MOST_DEPTH} levels"),
    "deep blocks": ("\n".join(" " * depth + "a:" for depth in range(1_500)), f"more than {MOST_DEPTH} levels"),
    "deep dashes": ("- " * 20_000 + "a", f"more than {MOST_DEPTH} levels"),
    "a number of 6,000 digits": ("name: " + "9" * 6_000, "a number of 6,000 digits"),
    "a number in base 60": ("name: " + ":".join(["59"] * 3_000), "digits"),
    "a hexadecimal number": ("name: 0x" + "f" * 6_000, "digits"),
    "an impossible date": ("name: 2024-13-45\n", "a date or number that cannot be"),
    "a date in year 0": ("name: 0000-00-00\n", "a date or number that cannot be"),
    "a list as a key": ("? [a, b]\n: c\n", "no valid YAML|cannot be"),
    "a tag that would run something": ("name: !!python/object/apply:os.system [ls]\n", "no valid YAML"),
    "too large": ("# " + "x" * MOST_YAML_BYTES, "larger than 4 MB"),
    "two documents": ("a: 1\n---\nb: 2\n", "no valid YAML"),
    "control characters": ("name: a\x07b\n", "no valid YAML"),
}


@pytest.mark.parametrize("name", YAML_BOMBS)
def test_a_yaml_bomb_is_one_sentence(tmp_path, name):
    text, words = YAML_BOMBS[name]
    file = tmp_path / "collection.yaml"
    file.write_text(text)
    for read in (read_yaml, lambda path: load(CollectionSettings, path), lambda path: load(StudySettings, path)):
        with pytest.raises(SettingsError, match=rf"collection\.yaml: .*({words})") as caught:
            read(file)
        assert len(str(caught.value)) <= LONGEST
    with pytest.raises(SettingsError, match=words):
        check_text(text)
    result = CliRunner().invoke(app, ["study", str(file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "Error: " in result.stderr


def test_ordinary_yaml_is_read_as_before():
    text = "a: &a [1, 2]\nb: *a\nc: {x: 1.5, y: null, z: yes}\nd: 2024-02-29\n"
    values = parse_yaml(text, "x")
    assert (values["a"], values["b"], values["c"]) == ([1, 2], [1, 2], {"x": 1.5, "y": None, "z": True})
    assert values["d"].isoformat() == "2024-02-29"
    assert parse_yaml("", "x") is None
    assert len(parse_yaml("\n".join(f"- scene{number}" for number in range(20_000)), "x")) == 20_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested more than"),
        ('{"a":' * 100_000, "nested more than"),
        ("[" * 200 + "]" * 200, "nested more than"),
        ('{"a": ' + "9" * 6_000 + "}", "no valid JSON"),
        ("", "no valid JSON"),
        ('{"a": 1', "no valid JSON"),
        ("\x00\x01", "no valid JSON"),
    ],
)
def test_a_json_bomb_is_one_sentence(tmp_path, text, words):
    with pytest.raises(ReadingError, match=rf"x\.json: .*{words}"):
        parse_json(text, "x.json")
    file = tmp_path / "job.json"
    file.write_text(text)
    with pytest.raises(RunError, match=r"job\.json: "):
        read_dict(file)
    with pytest.raises(RunError, match=r"job\.json: "):
        read_json(About, file)


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"name: \xff\xfe\xfa")
    with pytest.raises(SettingsError, match=r"a\.yaml: is saved in an older encoding"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ReadingError):
        parse_json(b"\xff\xfe\xfa", "a.json")


def test_pipes_devices_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(SettingsError, match=rf"{name}\.yaml: is no plain file"):
            read_yaml(tmp_path / f"{name}.yaml")
        with pytest.raises(RunError, match="is no plain file"):
            read_dict(tmp_path / f"{name}.yaml")


def test_a_file_is_read_up_to_its_limit_only(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 101)
    assert read_bytes(tmp_path / "a", 101) == b"x" * 101
    with pytest.raises(ReadingError, match="is larger than"):
        read_bytes(tmp_path / "a", 100)


@pytest.mark.parametrize("name", ["study.yaml", "about.json", "job.json", "data.json", "advantage.json", "steps.json"])
@pytest.mark.parametrize("text", ["[" * 5_000, "", "[]", "null", "1", '{"a": NaN', "\x00" * 50])
def test_a_damaged_file_makes_a_study_broken_and_names_it(tmp_path, name, text):
    study = StudyFolder.begin(tmp_path / "s", StudySettings(), About(title="t", collection=tmp_path))
    (study.path / name).write_text(text)
    if text == "null" and name == "advantage.json":
        return  # says nothing, as if it were not there
    assert name in study.problem
    assert study.job.state == "broken"


def test_an_echo_of_thousands_of_letters_is_cut_in_the_middle():
    text = str(KdcoreError(f"a.yaml: field: {'x' * 4_000} is too long. Write less."))
    assert len(text) <= LONGEST
    assert text.startswith("a.yaml: field: xxx")
    assert text.endswith("Write less.")
    assert "letters left out" in text
    assert str(KdcoreError("short")) == "short"


@pytest.mark.parametrize(
    "typed",
    [
        ["{}"],
        ["runs", "{}"],
        ["runs", "show", "a", "{}"],
        ["--{}"],
        ["study", "a", "--{}"],
        ["study", "a", "--steps", "{}"],
        ["predict", "a", "b", "--out", "c", "--engine", "{}"],
        ["predict", "a", "b", "--out", "c", "--shard", "{}"],
        ["runs", "start", "demo", "--recipe", "{}"],
    ],
    ids=" ".join,
)
def test_what_was_typed_is_echoed_in_part_only(typed):
    result = CliRunner().invoke(app, [word.format("x" * 4_000) for word in typed])
    assert result.exit_code == 2
    assert result.output.count("x") <= LONGEST


def test_a_message_in_a_file_and_an_unforeseen_error_are_cut_too():
    assert len(Status(state="failed", message="x" * 4_000).message) <= LONGEST
    text = unexpected(ValueError("x" * 4_000 + "\u202e is the end"))
    assert text.startswith("ValueError: xxx")
    assert text.endswith("xxx\\u202e is the end")
    assert len(text) <= LONGEST


def test_many_mistakes_are_counted(tmp_path):
    (tmp_path / "a.yaml").write_text("\n".join(f"mistake{number}: 1" for number in range(5_000)))
    with pytest.raises(SettingsError, match="more problems"):
        load(StudySettings, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": {"crop": 10**9 * 32}}, "budget.crop: .*8192"),
        ({"budget": {"batch_size": 10**12}}, "budget.batch_size: .*4096"),
        ({"budget": {"crop": 8192, "batch_size": 4096}}, "million pixels in one step"),
        ({"budget": {"steps": 10**30}}, "budget: steps: a whole number of 31 digits"),
        ({"evaluation": {"window": 2**40}}, "evaluation.window: .*8192"),
        ({"evaluation": {"halo": 2**40}}, "evaluation.halo"),
        ({"evaluation": {"boundary_metres": 1e300}}, "evaluation.boundary_metres: .*1000"),
        ({"seeds": list(range(5_000))}, "seeds: .*1000 items"),
        ({"teacher": {"seeds": list(range(5_000))}}, "teacher.seeds: .*1000 items"),
        ({"hardware": {"devices": 10**9}}, "hardware.devices: .*256"),
        ({"hardware": {"readers": 10**9}}, "hardware.readers: .*64"),
        ({"hardware": {"cache_gb": 1e300}}, "hardware.cache_gb"),
        ({"student": {"decoder_channels": [10**6] * 5}}, "student.decoder_channels.0: .*1024"),
        ({"student": {"decoder_channels": [16] * 900}}, "student.decoder_channels: .*5 items"),
        ({"student": {"depth": 10**9}}, "student.depth"),
        ({"student": "unet/hf-hub:owner/x"}, "hubs and folders are not opened"),
        ({"student": {"encoder": "tu-local-dir:/etc"}}, "hubs and folders are not opened"),
        ({"student": {"architecture": "hf-hub:owner/x"}}, "hubs and folders are not opened"),
        ({"student": {"encoder": "../../etc"}}, "hubs and folders are not opened"),
    ],
)
def test_settings_have_an_upper_end(tmp_path, change, words):
    (tmp_path / "a.yaml").write_text(json.dumps(change))
    with pytest.raises(SettingsError, match=words):
        load(StudySettings, tmp_path / "a.yaml")


@pytest.mark.parametrize("metres", [1e-9, 0.0, -1, 1e300, float("nan"), float("inf")])
def test_a_pixel_has_a_size_that_can_be(tmp_path, metres):
    text = f"name: a\nclasses: [{{name: x}}, {{name: y}}]\nsplit: {{train: [a], validation: [b], test: [c]}}\nmetres_per_pixel: {metres}\n"
    (tmp_path / "a.yaml").write_text(text.replace("nan", ".nan").replace("inf", ".inf"))
    with pytest.raises(SettingsError, match="metres_per_pixel"):
        load(CollectionSettings, tmp_path / "a.yaml")
