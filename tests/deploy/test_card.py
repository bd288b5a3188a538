"""The model card: what it must say, and what a person's own words cannot do to it."""

import re

import pytest

from kdcore.deploy.card import CardFacts, model_card, safe
from kdcore.deploy.record import Difference, Form
from kdcore.settings import ADDED, PRESETS, Budget, Recipe, RunSettings
from tests.deployment import speed

CLASS = {"ap": 0.7512, "iou": 0.5, "f1": 0.6667, "boundary_iou": 0.25, "prevalence": 0.1, "ece": 0.01}
VERDICT = "The distilled student is better than the student alone by 1.2 points of mean AP."


def facts(**changes) -> CardFacts:
    form = Form(
        arm="distilled",
        run="distilled-s0",
        kind="int8",
        file="distilled-s0-int8.onnx",
        megabytes=0.19,
        parameters=143_157,
        macs_per_pixel=22_849.0,
        mean_ap=0.748,
        mean_iou=None,
        difference=Difference(points=-0.31, low=-0.62, high=0.05),
        flips=0.0123,
        speeds=(speed("openvino", 10.0, watts=45.0), speed("onnxruntime", 5.0)),
    )
    values = {
        "title": "A town",
        "form": form,
        "settings": RunSettings(
            arm="distilled",
            seed=3,
            collection="c",
            network=PRESETS["tiny"],
            recipe=Recipe(temperature=4, alpha=0.7),
            budget=Budget(steps=400, batch_size=4, crop=128),
            teacher=("t.safetensors",),
        ),
        "run": {
            "steps": 400,
            "best_step": 350,
            "seconds": 86.0,
            "device": "CPU (2 threads)",
            "test": {"mean_ap": 0.7512, "mean_iou": 0.5, "classes": {"building": CLASS}},
        },
        "report": {
            "formula": "loss = task",
            "data": {"name": "town", "hash": "abc", "classes": ["land", "building"]},
            "comparison": {"sentence": VERDICT},
        },
        "split": {"train": ["a", "b"], "validation": ["c"], "test": ["d"]},
        "bands": (3, 2, 1),
        "dtype": "uint16",
        "tile": 512,
        "metres_per_pixel": 0.5,
        "interval": Difference(points=75.1, low=72.0, high=78.3),
        "machine": "Test processor",
        "date": "2026-11-24",
    }
    return CardFacts(**(values | changes))


def rows(card: str) -> list[list[str]]:
    """Cells of every line of a table; an escaped bar is none."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_card_names_every_loss_and_its_weight():
    settings = facts().settings.model_copy(update={"recipe": Recipe(channels=3, hint=0.5)})
    found = {row[0]: row[1:] for row in rows(model_card(facts(settings=settings)))}
    assert found["Distillation"] == ["pixel"]
    assert (found[ADDED["channels"].label], found[ADDED["hint"].label]) == (["3"], ["0.5"])


def test_the_card_says_what_there_is_to_know():
    card = model_card(facts())
    found = {row[0]: row[1:] for row in rows(card)}
    assert "was distilled" in card
    assert found["Network"] == ["unet with encoder tu-regnetx_002, 143,157 parameters"]
    assert found["Input"] == ["bands 3, 2, 1 of uint16 imagery in its own units, 512 x 512 px"]
    assert found["train"] == ["a, b"]
    assert found["Seed"] == ["3"]
    assert found["Temperature"] == ["4"]
    assert found["Steps"] == ["400 of 4 crops of 128 px; best: 350"]
    assert "mean AP 75.1 (95 % interval 72.0 to 78.3" in card
    assert found["building"] == ["75.1", "50.0", "66.7", "25.0", "10.0"]
    assert "This file: mean AP 74.8, mean IoU -" in card
    assert "1.23 % of the pixels another label" in card
    assert "differs by -0.31 points (95 % interval -0.62 to +0.05)" in card
    assert VERDICT in card
    assert found["openvino"] == ["cpu", "26.2", "10.00", "400", "45"]
    assert found["onnxruntime"][-1] == "-"
    assert found["Licence of this network"] == found["Licence of the imagery"] == ["not stated"]


def test_a_teacher_has_no_recipe_and_no_verdict():
    teacher = facts().form.model_copy(update={"arm": "teacher", "run": "teacher-s0"})
    card = model_card(facts(form=teacher))
    assert "Temperature" not in card
    assert VERDICT not in card
    assert "what students learn from" in card


def test_the_card_of_a_file_says_what_bfloat16_does_to_it_and_whether_it_may():
    plain = facts().form.model_copy(update={"kind": "onnx", "flips": 0.0})
    coarse = facts().form.model_copy(update={"kind": "bf16", "flips": 0.0046, "speeds": (speed("openvino-bf16", 8.0),)})
    card = model_card(facts(form=plain, in_bfloat16=coarse))
    told = "This file in OpenVINO with the property `INFERENCE_PRECISION_HINT: bf16`: mean AP 74.8"
    assert told in card
    assert "0.46 % of the pixels another label" in card
    assert {row[0]: row[1:] for row in rows(card)}["openvino-bf16"][2] == "8.00"
    refused = coarse.model_copy(update={"refused": "It may lose 1 points or more: -2.40 points.", "speeds": ()})
    card = model_card(facts(form=plain, in_bfloat16=refused))
    assert told in card
    assert "Do not run it so. It may lose 1 points or more: -2.40 points." in card
    assert "bf16" not in model_card(facts(form=plain))


def test_what_is_not_known_is_not_claimed():
    bare = facts().form.model_copy(update={"speeds": (), "difference": None, "flips": None})
    card = model_card(facts(form=bare, interval=None, metres_per_pixel=None))
    assert "mean AP 75.1, mean IoU 50.0" in card
    assert "interval 7" not in card
    assert "This file: mean AP" not in card
    assert "Not measured." in card
    assert ["Ground sample distance", "unknown"] in rows(card)


def test_every_table_is_whole_whatever_people_write():
    strange = "a | b\n# <script>alert(1)</script> [x](javascript:y) `c` *d*"
    data = {"name": strange, "hash": "abc", "classes": ["land", strange]}
    card = model_card(
        facts(
            title=strange,
            split={"train": [strange], "validation": [], "test": ["d"]},
            report=facts().report | {"data": data},
            run=facts().run | {"test": {"mean_ap": None, "mean_iou": None, "classes": {strange: CLASS}}},
        )
    )
    assert "<script" not in card
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1
    tables = re.findall(r"(?:^\|.*\n?)+", card, re.MULTILINE)
    assert len(tables) == 6
    for text in tables:
        assert len({len(row) for row in rows(text)}) == 1
    assert ["validation", "-"] in rows(card)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("a\nb", "a b"), ("a|b", r"a\|b"), ("<b>", "&lt;b&gt;"), ("[x](y)", r"\[x\](y)")],
)
def test_markup_is_taken_out(text, expected):
    assert safe(text) == expected


def test_the_card_names_views_and_baselines_that_were_used():
    recipe = Recipe(alpha=0.5, confidence=0.9, mean_teacher=0.99, unlabelled=2, mix="cutmix", augment="unlabelled")
    settings = facts().settings.model_copy(update={"recipe": recipe})
    card = model_card(facts(settings=settings))
    for line in (
        "| Lowest probability that counts | 0.9 |",
        "| Mean teacher instead of a teacher, decay | 0.99 |",
        "| Mixed crops | cutmix |",
        "| Strong augmentation | unlabelled |",
    ):
        assert line in card
    assert "Mixed crops" not in model_card(facts())
