"""The documents agree with the program: settings are listed, examples can be opened, formulas give their numbers, links lead somewhere."""

import ast
import doctest
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import geopandas
import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image
from shapely.geometry import box

from kdcore.cli import app
from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.propose import proposal_text
from kdcore.data.survey import survey
from kdcore.models.networks import SegmentationNetwork, count_parameters
from kdcore.models.onnx_reading import EXAMPLE, ForeignNetwork
from kdcore.settings import (
    DISTILLATIONS,
    PRESETS,
    RECIPES,
    ClassSettings,
    CollectionSettings,
    SplitSettings,
    StudySettings,
    validate,
)
from kdcore.teacher.teacher import Teacher
from tests.conftest import UTM, write_raster
from tests.folders import put, write_vector

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
RESULTS = sorted((ROOT / "benchmarks/results").glob("*.md"))
HEIGHT, WIDTH = 384, 576
RESOLUTION = 0.5


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


FORMAT = (DOCS / "data-format.md").read_text(encoding="utf-8")
EXAMPLES = {name: part for name, part in sections(FORMAT).items() if blocks(part, "yaml")}


# --- settings.md


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location("write_settings", DOCS / "write_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_page_is_up_to_date(writer):
    """Every field of the models with its default and range; the page refuses fields without a meaning itself."""
    assert writer.page() == (DOCS / "settings.md").read_text(encoding="utf-8"), "run: python docs/write_settings.py"


def test_mathematics_page_has_every_loss_of_the_registry(writer):
    text = (DOCS / "mathematics.md").read_text(encoding="utf-8")
    assert writer.mathematics() == text, "run: python docs/write_settings.py"
    table = text.partition(writer.BEGIN)[2].partition(writer.END)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(DISTILLATIONS)


def test_settings_page_knows_every_model_of_a_study(writer):
    def models(kind):
        nested = [field.annotation for field in kind.model_fields.values()]
        found = [entry for entry in nested if isinstance(entry, type) and issubclass(entry, writer.Frozen)]
        return {kind, *(model for entry in found for model in models(entry))}

    assert models(StudySettings) <= writer.MODELS.keys()


def test_example_of_the_settings_page_is_valid(writer):
    (text,) = blocks((DOCS / "settings.md").read_text(encoding="utf-8"), "yaml")
    assert validate(StudySettings, yaml.safe_load(text), "docs/settings.md").recipe.alpha == 0.7


def test_settings_page_knows_every_environment_variable(writer):
    files = [*(ROOT / "kdcore").rglob("*.py"), ROOT / ".ci/run"]
    used = {name for file in files for name in re.findall(r"\bKDCORE_[A-Z_]+\b", file.read_text(encoding="utf-8"))}
    assert used == set(writer.VARIABLES)


@pytest.mark.parametrize("name", PRESETS)
def test_quoted_parameters_of_presets_are_right(writer, name):
    with torch.device("meta"):
        network = SegmentationNetwork(PRESETS[name], bands=3, logits=5)
    assert writer.parameters()[name] == f"{count_parameters(network):,}"


# --- data-format.md


def test_data_format_lists_every_field():
    listed = set(re.findall(r"^\| `(\w+)` \|", sections(FORMAT)["Every field of `collection.yaml`"], re.MULTILINE))
    models = (CollectionSettings, ClassSettings, SplitSettings)
    assert listed == {name for model in models for name in model.model_fields}


def test_data_format_shows_every_kind_of_data():
    assert len(EXAMPLES) == 8


def labels_of(index: int, classes: int) -> np.ndarray:
    """(H, W) with every class in every 96-px block, other in each scene."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return ((rows // 16 + columns // 24 + index) % classes).astype(np.uint8)


def write_image(path: Path, labels: np.ndarray, index: int, settings: CollectionSettings) -> None:
    rng = np.random.default_rng(index)
    bands = max(settings.bands or (3,))
    image = (rng.normal(60, 9, (bands, HEIGHT, WIDTH)) + 40 * labels).clip(1, 255).astype(np.uint8)
    if path.suffix == ".tif":
        write_raster(path, image, west=500_000 + 1000 * index, resolution=RESOLUTION)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1)).save(path)


def write_mask(path: Path, labels: np.ndarray, index: int, settings: CollectionSettings) -> None:
    """Values where classes have one, else palette and RGB images in turn; a corner is to be ignored."""
    corner = np.zeros_like(labels, dtype=bool)
    corner[:8, :8] = bool(settings.ignore)
    if settings.classes[0].value is not None:
        codes = np.array([entry.value for entry in settings.classes])[labels]
        codes[corner] = settings.ignore[0] if settings.ignore else 0
        write_raster(path, codes.astype(np.int16), west=500_000 + 1000 * index, resolution=RESOLUTION)
        return
    colours = [*(entry.colour for entry in settings.classes), *settings.ignore]
    table = np.array([tuple(bytes.fromhex(colour[1:])) for colour in colours], dtype=np.uint8)
    codes = np.where(corner, len(settings.classes), labels).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if index % 2:
        Image.fromarray(table[codes]).save(path)
        return
    image = Image.fromarray(codes, mode="P")
    image.putpalette(table.tobytes())
    image.save(path)


def write_polygons(path: Path, labels: np.ndarray, index: int, settings: CollectionSettings) -> None:
    """A rectangle for each cell of equal labels that are not the first class, in another CRS than the image's."""
    cells, names = [], []
    for row in range(0, HEIGHT, 16):
        for column in range(0, WIDTH, 24):
            if number := int(labels[row, column]):
                west, north = 500_000 + 1000 * index + column * RESOLUTION, 5_000_000 - row * RESOLUTION
                cells.append(box(west, north - 16 * RESOLUTION, west + 24 * RESOLUTION, north))
                names.append(settings.classes[number].name)
    values = {settings.class_field: names} if settings.class_field else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame(values, geometry=cells, crs=UTM).to_crs("EPSG:4326").to_file(path, driver="GeoJSON")


def build(example: str, folder: Path) -> tuple[Path, CollectionSettings]:
    """Make every file that an example lists; gives the path of its YAML."""
    (tree,), (text,) = blocks(example, "text"), blocks(example, "yaml")
    settings = validate(CollectionSettings, yaml.safe_load(text), "docs/data-format.md")
    files = [folder / line for line in tree.split()]
    writers = {"images": write_image, "unlabelled": write_image, "masks": write_mask, "labels": write_polygons}
    stems: dict[str, int] = {}
    for file in files:
        if file.suffix == ".yaml":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            continue
        index = stems.setdefault(file.stem, len(stems))
        writers[file.parent.name](file, labels_of(index, len(settings.classes)), index, settings)
    return next(file for file in files if file.suffix == ".yaml"), settings


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_data_format_work(name, tmp_path):
    path, settings = build(EXAMPLES[name], tmp_path)
    collection = Collection.open(path)
    shares = survey(collection, crop=32)
    for split, pixels in shares.class_pixels.items():
        assert (pixels > 0).all(), f"{split} lacks a class"
    if settings.ignore:
        scene = collection.scenes[0]
        labels = collection.reader.read(scene, scene.box).labels
        assert (labels == 255).sum() == 64
    found = inspect(path if path.name != "collection.yaml" else path.parent, crop=32)
    assert found.problems == []


def test_blocks_keep_their_buffer(tmp_path):
    name = "Blocks of one large scene, with a buffer"
    path, settings = build(EXAMPLES[name], tmp_path)
    collection = Collection.open(path)
    for region in collection.regions("train"):
        for other in [*collection.regions("test"), *collection.regions("validation")]:
            assert region.box.grown(settings.split.buffer).intersection(other.box) is None


def test_scenes_are_grouped_as_the_example_says(tmp_path):
    path, _ = build(EXAMPLES["Several tiles of one scene"], tmp_path)
    groups = {scene.id: scene.group for scene in Collection.open(path).scenes}
    assert groups["tile1_part001"] == groups["tile1_part002"] == "tile1"


def test_unlabelled_imagery_of_the_example_is_found(tmp_path):
    path, _ = build(EXAMPLES["Unlabelled imagery"], tmp_path)
    assert [scene.id for scene in Collection.open(path).unlabelled] == ["beyond"]


LAYOUTS = {name: part for name, part in sections(FORMAT).items() if blocks(part, "yml")}
LAYOUT_KEYS = ("images", "masks", "labels", "unlabelled", "image_field", "scene", "split")


def in_words(proposal: CollectionSettings) -> str:
    """The lines of a proposal that say where files lie and what the split is, without what is said by default."""
    values = proposal.model_dump(mode="json", exclude_defaults=True, include=set(LAYOUT_KEYS))
    lines = {key: values[key] for key in LAYOUT_KEYS if key in values}
    return yaml.safe_dump(lines, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)


def build_layout(tree: str, root: Path) -> None:
    """Every file of 'a/1_x.tif ... a/5_x.tif', with the number as its scene."""
    for line in tree.splitlines():
        first, _, last = line.partition(" ... ")
        if first.endswith(".geojson"):
            write_vector(root / first, range(1, 6))
            continue
        common = next(index for index, pair in enumerate(zip(first, last, strict=True)) if pair[0] != pair[1])
        begin, number, end = re.fullmatch(r"(.*?)(\d+)(.*)", first[common:]).groups()
        before = first[:common] + begin
        for value in range(int(number), int(last[len(before) : len(before) + len(number)]) + 1):
            name = f"{before}{value:0{len(number)}}{end}"
            told = name.lower()
            is_mask = any(word in told for word in ("mask", "label", "gt/", "ann_dir", "msk"))
            put(root / name, value, "mask" if is_mask else "image")


def test_data_format_shows_the_ten_commonest_layouts():
    assert len(LAYOUTS) == 10


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_get_the_lines_that_the_page_shows(name, tmp_path):
    (tree,), (lines,) = blocks(LAYOUTS[name], "text"), blocks(LAYOUTS[name], "yml")
    build_layout(tree, tmp_path / "c")
    found = inspect(tmp_path / "c", crop=32)
    assert found.problems == []
    assert in_words(found.proposal) == lines
    (tmp_path / "c/collection.yaml").write_text(proposal_text(found), encoding="utf-8")
    survey(Collection.open(tmp_path / "c"), crop=32)


# --- mathematics.md, demo.md, all pages


def test_numbers_of_the_mathematics_are_what_the_code_gives():
    failed, tried = doctest.testfile(str(DOCS / "mathematics.md"), module_relative=False)
    assert (failed, tried > 15) == (0, True)


@pytest.mark.parametrize("name", ["kdcore.losses", "kdcore.evaluation.curves", "kdcore.evaluation.uncertainty"])
def test_examples_of_docstrings_give_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert (failed, tried > 0) == (0, True)


def test_recipes_of_the_mathematics_are_those_that_can_be_chosen():
    """Name, T and alpha of each line of the table."""
    table = sections((DOCS / "mathematics.md").read_text(encoding="utf-8"))["Recipes"]
    found = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \|", table, re.MULTILINE)
    assert {name: (float(t), float(alpha)) for name, t, alpha in found} == {
        name: (recipe.temperature, recipe.alpha) for name, recipe in RECIPES.items()
    }


def test_demo_script_names_what_is_on_screen():
    texts = "".join(
        file.read_text(encoding="utf-8") for folder in ("pages", "kdcore/ui") for file in (ROOT / folder).glob("*.py")
    )
    labels = set(re.findall(r"\*\*(.+?)\*\*", (DOCS / "demo.md").read_text(encoding="utf-8")))
    assert len(labels) > 10
    assert [label for label in sorted(labels) if f'"{label}"' not in texts] == []


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page, as GitHub names it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """What follows `kdcore` in lines of code, where all is there that it needs, and in the middle of a sentence, where it may not be."""
    text = text.replace("\\\n", " ")
    lines = [line for block in blocks(text, "(?:bash)?") for line in block.splitlines()]
    lines += re.findall(r"^ {4}(.*)", text, re.MULTILINE)
    for line in lines:
        if match := re.match(r"(?:[A-Z_]+=\S+ |torchrun .* -m )*kdcore (.+?)(?: #| > |$)", line):
            yield shlex.split(re.sub(r"[\[\]]", "", match[1])), "..." not in match[1]
    for found in re.findall(r"`kdcore (\w[^`]*)`", text.replace("\n", " ")):
        yield shlex.split(found), False


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: page.name)
def test_commands_are_those_of_the_program(page):
    for words, whole in commands(page.read_text(encoding="utf-8")):
        command, rest = typer.main.get_command(app), list(words)
        while rest and (known := getattr(command, "commands", None)):
            assert rest[0] in known, f"kdcore {shlex.join(words)}"
            command = known[rest.pop(0)]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.partition("=")[0] for word in rest if re.fullmatch(r"--[\w-]+(=\S*)?", word)}
        slurm = {word.partition("=")[0] for key, word in pairwise(rest) if key == "--slurm"}
        assert named - slurm <= options | {"--help"}, f"kdcore {shlex.join(words)}"
        if whole:
            command.make_context("kdcore", rest)


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: page.name)
def test_scripts_that_are_named_exist_and_know_their_options(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in re.findall(r"\b((?:benchmarks|docs)/\w+\.py)([^`\n#]*)", text):
        assert (ROOT / name).is_file(), name
        known = "".join((ROOT / file).read_text(encoding="utf-8") for file in (name, "benchmarks/measuring.py"))
        assert [option for option in re.findall(r"(?<!\S)--[\w-]+", rest) if f'"{option}"' not in known] == [], name


def test_readme_begins_with_the_two_commands():
    """Install, then start: before the first section, in the first block of code."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    first = re.search(r"^```\w*\n(.*?)^```", opening, re.DOTALL | re.MULTILINE)
    assert first, "README.md: no block of code before the first section"
    assert re.search(r"pip install .*(kdcore demo|streamlit run app\.py)", first[1], re.DOTALL), first[1]


# --- teachers.md

TEACHERS = (DOCS / "teachers.md").read_text(encoding="utf-8")


def test_teachers_page_lists_every_field():
    listed = re.findall(r"^\| `(\w+)` \|", TEACHERS, re.MULTILINE)
    assert listed == list(ForeignNetwork.model_fields)


def test_the_teacher_of_the_page_can_teach(tmp_path, monkeypatch):
    """Its Python block writes a file, its YAML block says what the channels mean, and the command's message says the same lines."""
    monkeypatch.chdir(tmp_path)
    (python,) = blocks(TEACHERS, "python")
    settings, started, described, *others = blocks(TEACHERS, "yaml")
    assert any("csmask" in text for text in others)
    exec(python, {})
    Path("buildings.yaml").write_text(described, encoding="utf-8")
    teacher = Teacher.load([Path("buildings.onnx")], ("background", "building"), 4, band_numbers=(4, 1, 2, 3))
    assert teacher.parameters_count == 3 * 9 * 16 + 16 + 16 * 2 + 2
    assert teacher(torch.rand(2, 4, 128, 300) * 255).shape == (2, 1, 128, 300)
    assert described == EXAMPLE
    assert len(others) == 3
    for text in others:
        validate(ForeignNetwork, yaml.safe_load(text), "docs/teachers.md")
    assert validate(StudySettings, yaml.safe_load(settings), "docs/teachers.md").teacher.network.encoder == "buildings"
    assert len(validate(StudySettings, yaml.safe_load(started), "docs/teachers.md").teacher.start) == 1


# --- the field's words

HOME_MADE = (
    r"teacher's answers|kept answers|(cannot|could not) be told (apart|from)|\bluck\b|mirrored views|by heart|went on where|"
    r"goes on where|(opens|works) without a network|\bmend(s|ed|ing)?\b|unplaced|ground resolution|dearest"
)
"""A reader looks for predictions, seed variance, flips and rotations, resumes, offline, fix, ground sample distance."""


def strings_on_screen(file: Path) -> list[str]:
    """The strings of a program but its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    silent = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, kinds) and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
    ]


@pytest.mark.parametrize("room", ["docs", "pages", "kdcore/ui", "kdcore/cli", "kdcore/views"])
def test_words_are_those_of_the_field(room):
    files = [ROOT / "README.md", *(ROOT / room).glob("*.md")] if room == "docs" else list((ROOT / room).glob("*.py"))
    texts = {
        file: [file.read_text(encoding="utf-8")] if file.suffix == ".md" else strings_on_screen(file) for file in files
    }
    assert len(texts) > 5
    found = [
        (file.name, match[0])
        for file, parts in texts.items()
        for text in parts
        for match in re.finditer(HOME_MADE, text, re.I)
    ]
    assert found == []
