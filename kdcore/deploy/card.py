"""A model card: one page of Markdown on what a network is, what it was taught, how good it is, and what is not known about it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdcore.deploy.record import Difference, EngineSpeed, Form
from kdcore.settings import ADDED, RunSettings

NOT_STATED = "not stated"
LICENCES = ("Licence of this network", "Licence of the imagery", "Licence of the labels", "Contact")
ARMS = {
    "teacher": "a teacher network: it was trained on labels alone and is what students learn from",
    "alone": "a student network that was trained on labels alone, without a teacher",
    "distilled": "a student network that was distilled: it learnt from labels and from a teacher's soft labels",
    "all_labels": "a student network that was trained on all labels, without a teacher",
}
KINDS = {"torch": "a kdcore checkpoint", "onnx": "ONNX, 32-bit floats", "int8": "ONNX, 8-bit integers (QDQ)"}
BFLOAT16 = "in OpenVINO with the property `INFERENCE_PRECISION_HINT: bf16`"


class CardFacts(NamedTuple):
    """What a card is written from.

    Attributes:
        title: what a person called the study, any text.
        form: the file that the card lies beside.
        settings: of the training.
        run: the run's own report.
        report: the study's report.
        split: names of the scenes or blocks of each part.
        bands: what the network is given, as numbers in the source files.
        dtype: of the source files.
        tile: side of the tiles, pixels.
        metres_per_pixel: None where unknown.
        interval: of the run's mean AP on the test split in points; None where it cannot be known.
        machine: that speeds were measured on.
        date: of the training, in words.
        in_bfloat16: what was found about the same file when OpenVINO runs it in bfloat16; None where it was not.
    """

    title: str
    form: Form
    settings: RunSettings
    run: Mapping[str, Any]
    report: Mapping[str, Any]
    split: Mapping[str, Sequence[str]]
    bands: Sequence[int]
    dtype: str
    tile: int
    metres_per_pixel: float | None
    interval: Difference | None
    machine: str
    date: str
    in_bfloat16: Form | None = None


def model_card(facts: CardFacts) -> str:
    """The card as Markdown. What a person wrote (titles, names of classes) cannot break its tables or hold markup."""
    parts = (opening, data_section, training_section, scores_section, speed_section, limits_section, licence_section)
    return "\n\n".join(part(facts) for part in parts) + "\n"


def opening(facts: CardFacts) -> str:
    """What it is, what goes in, what comes out."""
    form, classes = facts.form, list(facts.run["test"]["classes"])
    named = facts.report["data"]["classes"]
    network = facts.settings.network
    gives = (
        f"the probability of {safe(classes[0])}" if len(classes) == 1 else f"probabilities of {len(classes)} classes"
    )
    rows = [
        ("File", f"{form.file or 'best.safetensors'} ({KINDS[form.kind]}, {form.megabytes:.2f} MB)"),
        ("Network", f"{network.architecture} with encoder {network.encoder}, {form.parameters:,} parameters"),
        ("Operations", f"{form.macs_per_pixel:,.0f} multiply-accumulates a pixel"),
        (
            "Input",
            f"bands {', '.join(map(str, facts.bands))} of {facts.dtype} imagery in its own units, {facts.tile} x {facts.tile} px",
        ),
        ("Ground sample distance", resolution(facts.metres_per_pixel)),
        ("Output", f"{gives}; classes: {', '.join(safe(name) for name in named)}"),
        ("Trained", facts.date),
    ]
    return f"# {safe(form.run)}, from the study {safe(facts.title)}\n\nThis is {ARMS[form.arm]}.\n\n" + table(
        ("", ""), rows
    )


def data_section(facts: CardFacts) -> str:
    """Which data, and how they were split."""
    data = facts.report["data"]
    rows = [(part, ", ".join(safe(name) for name in names) or "-") for part, names in facts.split.items()]
    sentence = (
        f"Collection {safe(str(data['name']))}, contents {data['hash']}. The parts of the split share no ground; thresholds and the "
        "best step come from validation; test chose nothing in this study."
    )
    return f"## Data\n\n{sentence}\n\n" + table(("Part", "Scenes or blocks"), rows)


def training_section(facts: CardFacts) -> str:
    """Recipe, budget, seed."""
    settings, run = facts.settings, facts.run
    budget, recipe = settings.budget, settings.recipe
    rows: list[tuple[str, str]] = [("Seed", str(settings.seed))]
    if facts.form.arm == "distilled":
        rows += [
            ("Temperature", f"{recipe.temperature:g}"),
            ("Alpha, the teacher's share", f"{recipe.alpha:g}"),
            ("Distillation", recipe.distillation),
            *((ADDED[name].label, f"{weight:g}") for name, weight in recipe.weights.items()),
            ("Unlabelled crops for each labelled one", f"{recipe.unlabelled:g}"),
            *([("Lowest probability that counts", f"{recipe.confidence:g}")] if recipe.confidence else []),
            *(
                [("Mean teacher instead of a teacher, decay", f"{recipe.mean_teacher:g}")]
                if recipe.mean_teacher
                else []
            ),
        ]
    rows += [
        (name, kind)
        for name, kind in (("Mixed crops", recipe.mix), ("Strong augmentation", recipe.augment))
        if kind != "none"
    ]
    if run.get("members"):
        rows += [("Networks that are averaged", str(run["members"]))]
    elif run["steps"]:
        rows += [
            ("Task loss", recipe.task),
            ("Steps", f"{run['steps']:,} of {budget.batch_size} crops of {budget.crop} px; best: {run['best_step']:,}"),
            ("Learning rate", f"{budget.learning_rate:g}, AdamW, cosine decay"),
            ("Time", f"{run['seconds']:,.0f} s on {safe(run['device'])}"),
            ("First weights", safe(settings.network.pretrained_on or "random")),
        ]
    return f"## Training\n\n`{facts.report['formula']}`\n\n" + table(("Setting", "Value"), rows)


def scores_section(facts: CardFacts) -> str:
    """Scores on the test split, and what this file changes about them."""
    form, test = facts.form, facts.run["test"]
    interval = facts.interval
    mean = percent(test["mean_ap"])
    if interval is not None:
        mean += f" (95 % interval {interval.low:.1f} to {interval.high:.1f}, from resampled test tiles)"
    rows = [
        (safe(name), *(percent(values[key]) for key in ("ap", "iou", "f1", "boundary_iou", "prevalence")))
        for name, values in test["classes"].items()
    ]
    text = (
        f"## Scores on the test split\n\nAs trained: mean AP {mean}, mean IoU {percent(test['mean_iou'])} (all in %).\n\n"
        + table(("Class", "AP", "IoU", "F1", "Boundary IoU", "Share of pixels"), rows)
    )
    text += form_scores("This file", form)
    other = facts.in_bfloat16
    if other is not None:
        text += form_scores(f"This file {BFLOAT16}", other)
        text += f" Do not run it so. {other.refused}" if other.refused else ""
    if form.arm != "teacher":
        text += f"\n\nThe study's verdict: {facts.report['comparison']['sentence']}"
    return text


def form_scores(name: str, form: Form) -> str:
    """A paragraph on what a form changes about the network as trained; empty where it was not compared."""
    text = ""
    if form.kind != "torch" and form.mean_ap is not None and form.flips is not None:
        text += (
            f"\n\n{name}: mean AP {percent(form.mean_ap)}, mean IoU {percent(form.mean_iou)}; on real tiles it gives "
            f"{100 * form.flips:.3g} % of the pixels another label than the network as trained."
        )
    if form.difference is not None:
        text += (
            f" On validation its mean AP differs by {form.difference.points:+.2f} points "
            f"(95 % interval {form.difference.low:+.2f} to {form.difference.high:+.2f})."
        )
    return text


def speed_section(facts: CardFacts) -> str:
    """What it costs to run."""
    speeds = [*facts.form.speeds, *(facts.in_bfloat16.speeds if facts.in_bfloat16 else ())]
    if not speeds:
        return "## Speed\n\nNot measured."
    rows = [speed_row(speed) for speed in speeds]
    head = ("Engine", "Device", "ms a tile", "MPx/s", "Peak memory, MB", "W")
    return f"## Speed\n\nTiles of {facts.tile} px, reading and writing left out.\n\n" + table(head, rows)


def speed_row(speed: EngineSpeed) -> tuple[str, ...]:
    """One engine."""
    return (
        speed.engine,
        safe(speed.device),
        f"{speed.milliseconds:.1f}",
        f"{speed.megapixels_per_second:.2f}",
        f"{speed.peak_mb:.0f}",
        "-" if speed.watts is None else f"{speed.watts:.0f}",
    )


def limits_section(facts: CardFacts) -> str:
    """What it is for and what it is not for."""
    return (
        "## Intended use and limits\n\n"
        f"Meant for imagery of the same kind as the training data: the same bands, values and ground sample distance "
        f"({resolution(facts.metres_per_pixel)}), in places that look alike. Elsewhere, in other seasons or from other sensors, it is wrong "
        "more often, and its scores say nothing about that. The interval covers which tiles were tested, not other regions and not the "
        "variation between trainings. Its maps are no survey: check them before decisions that concern people, property or safety depend on them."
    )


def licence_section(facts: CardFacts) -> str:
    """To be filled in by whoever passes the file on."""
    return "## Licences\n\n" + table(("", ""), [(name, NOT_STATED) for name in LICENCES])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float | None) -> str:
    """A share with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def resolution(metres: float | None) -> str:
    """Metres a pixel in words."""
    return "unknown" if metres is None else f"{metres:.3g} m per pixel"


def safe(text: str) -> str:
    """A person's own words on one line, without anything that Markdown or HTML would take for markup."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!~" else letter for letter in line)
