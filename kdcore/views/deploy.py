"""What a deployment gains, in words: names of forms and engines, the headline, and the numbers of every variant."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kdcore.deploy.record import Deployment, EngineName, EngineSpeed, Form, Kind
from kdcore.settings import Arm
from kdcore.views.arms import ARM_NAMES
from kdcore.views.map_layers import lower

FORM_NAMES: dict[Kind, str] = {
    "torch": "PyTorch checkpoint",
    "onnx": "ONNX",
    "bf16": "ONNX, run in bf16",
    "int8": "ONNX, int8",
}
ENGINE_NAMES: dict[EngineName, str] = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino-bf16": "OpenVINO bf16",
}
ALIKE = 1.05  # a ratio of speeds below it is no difference that a person would plan with


class Variant(NamedTuple):
    """One network in one form, and the engine that ran it; without an engine where nothing ran it."""

    form: Form
    speed: EngineSpeed | None

    @property
    def name(self) -> str:
        """How it is run: 'PyTorch', 'OpenVINO bf16', 'OpenVINO int8'; the form's name where nothing ran it."""
        if self.speed is None:
            return FORM_NAMES[self.form.kind]
        return ENGINE_NAMES[self.speed.engine] + (" int8" if self.form.kind == "int8" else "")


class Quality(NamedTuple):
    """Mean AP in [0, 1]; `expected` where the form itself was not scored on the test split."""

    mean_ap: float
    expected: bool


class Headline(NamedTuple):
    """What the distilled student gains, against what, in one sentence.

    Attributes:
        sentence: plain text.
        student: the fastest variant of the distilled student that is offered.
        reference: the teacher in the same form and engine; as it came where it was not measured there, and the distilled student as it
            came where no teacher was measured.
        faster: how many times as many pixels in the same time; below 1 it is slower.
        points: of mean AP gained; negative where some are lost; None where a test split is missing.
    """

    sentence: str
    student: Variant
    reference: Variant
    faster: float
    points: float | None


def variants(deployment: Deployment) -> list[Variant]:
    """Every form with every engine that ran it, refused ones too, in the deployment's order."""
    return [Variant(form, speed) for form in deployment.forms for speed in form.speeds or (None,)]


def original_of(deployment: Deployment, arm: Arm) -> Form | None:
    """An arm's network as it came: its checkpoint, or the ONNX file of a teacher that only exists as one; None without it."""
    return next((form for form in deployment.forms if form.arm == arm and not form.file and not form.refused), None)


def as_it_came(deployment: Deployment, arm: Arm) -> Variant | None:
    """An arm's original in its fastest measurement; None where nothing ran it."""
    form = original_of(deployment, arm)
    return Variant(form, form.speeds[0]) if form is not None and form.speeds else None


def fastest(deployment: Deployment, arm: Arm) -> Variant | None:
    """An arm's fastest variant among those that are offered; None where nothing was measured."""
    offered = [
        each
        for each in variants(deployment)
        if each.form.arm == arm and not each.form.refused and each.speed is not None
    ]
    return max(offered, key=lambda each: each.speed.megapixels_per_second if each.speed else 0.0, default=None)


def quality(form: Form, deployment: Deployment) -> Quality | None:
    """A form's mean AP on the test split; what it would be by its difference on validation where it was not scored there."""
    if form.mean_ap is not None:
        return Quality(form.mean_ap, False)
    original = original_of(deployment, form.arm)
    if original is None or original.mean_ap is None or form.difference is None:
        return None
    return Quality(original.mean_ap + form.difference.points / 100, True)


def headline(deployment: Deployment) -> Headline | None:
    """What the distilled student gains over the teacher; None where neither speed nor network is known."""
    student = fastest(deployment, "distilled")
    if student is None:
        return None
    reference = in_same_engine(deployment, "teacher", student) or as_it_came(deployment, "teacher")
    alone = reference is None
    reference = reference or as_it_came(deployment, "distilled")
    if reference is None or student.speed is None or reference.speed is None:
        return None
    same = student.name == reference.name
    faster = student.speed.megapixels_per_second / reference.speed.megapixels_per_second
    before, after = quality(reference.form, deployment), quality(student.form, deployment)
    points = None if before is None or after is None else 100 * (after.mean_ap - before.mean_ap)
    what = "km² an hour" if deployment.metres_per_pixel else "pixels an hour"
    other = "itself" if alone else "the teacher"
    engines = ("", f", both in {student.name}") if same else (f" in {student.name}", f" in {reference.name}")
    told = speed_in_words(faster, what, overlapping(student.speed, reference.speed))
    sentence = f"The distilled student{engines[0]} {told} {other}{engines[1]}"
    if points is not None:
        sentence += f", {points_in_words(points, but=faster > 1)}"
    sentence += "."
    if faster < 1 / ALIKE:
        sentence += " On this machine there is no speed to be gained from it."
    return Headline(sentence, student, reference, faster, points)


def in_same_engine(deployment: Deployment, arm: Arm, like: Variant) -> Variant | None:
    """An arm's offered variant of the same form in the same engine on the same device; None where that was not measured."""
    assert like.speed is not None
    way = (arm, like.form.kind, like.speed.engine, like.speed.device)
    for each in variants(deployment):
        form, speed = each
        if speed is not None and not form.refused and (form.arm, form.kind, speed.engine, speed.device) == way:
            return each
    return None


def overlapping(one: EngineSpeed, other: EngineSpeed) -> bool:
    """Whether the rounds of two measurements overlap, so that they are no evidence of a difference."""
    if one.slowest is None or one.fastest is None or other.slowest is None or other.fastest is None:
        return False
    return one.slowest <= other.fastest and other.slowest <= one.fastest


def better_teacher(deployment: Deployment, found: Headline) -> str:
    """The advice to use the teacher itself, where one of its offered forms is at least as fast and as good as the student; else empty."""
    after = quality(found.student.form, deployment)
    assert found.student.speed is not None
    if after is None:
        return ""
    fitting = []
    for each in variants(deployment):
        if each.form.arm != "teacher" or each.form.refused or each.speed is None:
            continue
        score = quality(each.form, deployment)
        faster = each.speed.megapixels_per_second / found.student.speed.megapixels_per_second
        alike = faster >= 1 / ALIKE or overlapping(each.speed, found.student.speed)
        if score is not None and score.mean_ap >= after.mean_ap and alike:
            fitting.append((score.mean_ap, each))
    if not fitting:
        return ""
    mean_ap, best = max(fitting, key=lambda one: one[0])
    return (
        f"Use the teacher in {best.name}: it is as fast as the distilled student in {found.student.name}, "
        f"{points_in_words(100 * (mean_ap - after.mean_ap), but=False)}."
    )


def where_lost(deployment: Deployment, found: Headline) -> str:
    """Which part of the points is the smaller network's and which the exported form's; empty where that is not known."""
    original = original_of(deployment, "distilled")
    if found.points is None or found.student.form == original or original is None or found.reference.form == original:
        return ""
    if found.student.form.kind == found.reference.form.kind:
        return ""  # both have what the form costs
    before, after = quality(found.reference.form, deployment), quality(original, deployment)
    if before is None or after is None:
        return ""
    network = 100 * (after.mean_ap - before.mean_ap)
    return (
        f"Of these points, {signed(network)} are due to the smaller network and {signed(found.points - network)} to its form "
        f"as a file ({FORM_NAMES[found.student.form.kind]})."
    )


def signed(points: float) -> str:
    """A difference as '+1.2' or '−1.2'."""
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")


def speed_in_words(faster: float, what: str, alike: bool = False) -> str:
    """'maps 12.4 times as many km² an hour as'; `alike` where measurements overlap."""
    if alike:
        return f"maps about as many {what} as"
    if faster >= ALIKE:
        return f"maps {factor(faster)} times as many {what} as"
    if faster > 1 / ALIKE:
        return f"maps about as many {what} as"
    return f"maps only {faster:.2f} times as many {what} as"


def points_in_words(points: float, *, but: bool) -> str:
    """'but loses 1.2 points of mean AP'; what is gained needs no 'but'."""
    rounded = round(points, 1)
    if rounded == 0:
        return "with the same mean AP"
    amount = f"{abs(rounded):.1f} point{'' if abs(rounded) == 1 else 's'} of mean AP"
    if rounded > 0:
        return f"and gains {amount}"
    return f"{'but' if but else 'and'} loses {amount}"


def factor(value: float) -> str:
    """A ratio with three digits at most: '12.4', '124'."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def difference_in_words(form: Form) -> str:
    """'−0.3 (−0.6 to 0.1)' points of mean AP against the checkpoint; a dash for the checkpoint itself."""
    if form.difference is None:
        return "–"
    low, mean, high = (
        round(value, 1) + 0.0 for value in (form.difference.low, form.difference.points, form.difference.high)
    )
    return f"{mean:+.1f} ({low:.1f} to {high:.1f})".replace("-", "−")


def flips_in_words(share: float | None) -> str:
    """A share of pixels whose label differs, as '0.003 %'; 'none' where none does, a dash where it was not compared."""
    if share is None:
        return "–"
    if share == 0:
        return "none"
    return "under 0.001 %" if share < 1e-5 else f"{100 * share:.2g} %"


def variant_rows(deployment: Deployment) -> list[dict[str, Any]]:
    """The numbers of every variant as rows of a table, the fastest of each arm first; None where one is not known."""
    several = len({each.speed.device for each in variants(deployment) if each.speed}) > 1
    rows = []
    for form, speed in ordered(variants(deployment)):
        engine = "not run" if speed is None else ENGINE_NAMES[speed.engine]
        rows.append(
            {
                "Network": ARM_NAMES[form.arm],
                "Form": FORM_NAMES[form.kind] + (" (refused)" if form.refused else ""),
                "Runs in": f"{engine}, {speed.device}" if several and speed is not None else engine,
                "Mean AP": None if form.mean_ap is None else round(100 * form.mean_ap, 2),
                "Megapixels a second": None if speed is None else speed.megapixels_per_second,
                "Rounds": None
                if speed is None or speed.slowest is None
                else f"{speed.slowest:.3g} to {speed.fastest:.3g}",
                "ms a tile": None if speed is None else speed.milliseconds,
                "File, MB": form.megabytes,
                "Memory, MB": None if speed is None else round(speed.peak_mb),
                "Operations a pixel": form.macs_per_pixel,
                "Watts": None if speed is None else speed.watts,
            }
        )
    return rows


def ordered(some: Sequence[Variant]) -> list[Variant]:
    """Arms in their order, and of each arm the fastest first; what was not run comes last."""
    arms = list(ARM_NAMES)
    return sorted(some, key=lambda v: (arms.index(v.form.arm), -(v.speed.megapixels_per_second if v.speed else 0.0)))


def inside(arm: str) -> str:
    """An arm's name inside a sentence."""
    return lower(ARM_NAMES[arm])
