"""Is the loss right? The mistakes of `docs/mathematics.md`, put to a library from the outside, on tensors that are the same for all.

    PEERS/bin/python benchmarks/distillation_losses.py        # seconds; `distillation_contenders.py` starts this, too

Each line has what the formula gives (NumPy, float64, written out here), what torchdistill gives as a person who segments would call
it, and what this project gives. Prints one line of JSON: torchdistill's version, and the lines.
"""

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchdistill
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchdistill.core.distillation import get_distillation_box
from torchdistill.losses.mid_level import KDLoss, LogitStdKDLoss

from kdcore import losses
from kdcore.models.networks import build_network
from kdcore.settings import PRESETS
from kdcore.teacher.teacher import Teacher

IGNORE, SIZE, CLASSES = 255, 32, 5
WHERE = {"student_module_path": ".", "student_module_io": "output", "teacher_module_path": ".", "teacher_module_io": "output"}  # fmt: skip


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of student and teacher (2, 5, 32, 32), labels with 255 in a quarter, and valid pixels: the labelled ones."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, CLASSES, SIZE, SIZE)
    student, teacher = (3 * torch.randn(shape, generator=generator) for _ in range(2))
    labels = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=generator)
    labels[:, :, : SIZE // 4] = IGNORE
    return student, teacher, labels, labels != IGNORE


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the second axis."""
    moved = logits - logits.max(1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(1, keepdims=True))


def by_hand(student: Tensor, teacher: Tensor, temperature: float, valid: Tensor | None = None) -> float:
    """T^2 times the mean over (valid) pixels of the sum over classes of p (log p - log q)."""
    p, q = (log_softmax(logits.double().numpy() / temperature) for logits in (teacher, student))
    each = (np.exp(p) * (p - q)).sum(1)
    return temperature**2 * float(each.mean() if valid is None else each[valid.numpy()].mean())


def theirs(
    student: Tensor, teacher: Tensor, labels: Tensor | None, temperature: float, alpha: float, reduction: str
) -> Tensor:
    """`KDLoss` as `DistillationBox` calls it."""
    loss = KDLoss(**WHERE, temperature=temperature, alpha=alpha, reduction=reduction, ignore_index=IGNORE)
    return loss({".": {"output": student}}, {".": {"output": teacher}}, labels)


def their_term(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, reduction: str) -> float:
    """The distillation term alone: what is left of `KDLoss` after half the cross-entropy, times two."""
    task = functional.cross_entropy(
        student, labels, ignore_index=IGNORE, reduction="sum" if reduction == "sum" else "mean"
    )
    return 2 * float(theirs(student, teacher, labels, temperature, 0.5, reduction) - 0.5 * task)


def times(value: float, right: float) -> str:
    """A value as a multiple of the right one."""
    return "right" if abs(value / right - 1) < 1e-4 else f"{value / right:.4g} times that"


def reductions() -> list[tuple[str, ...]]:
    student, teacher, labels, _ = case()
    right, ours = by_hand(student, teacher, 2), float(losses.distillation(student, teacher, 2.0, None))
    lines = []
    for reduction in ("batchmean", "mean", "sum"):
        note = " (its default)" if reduction == "batchmean" else ""
        value = their_term(student, teacher, labels, 2, reduction)
        if reduction == "sum":
            note = "; the cross-entropy is a sum, too, so alpha means what it says where every pixel has a label"
        lines.append(
            (
                f"term on maps of {SIZE} x {SIZE} px, T = 2, `reduction: {reduction}`",
                f"{right:.4f}",
                times(value, right) + note,
                times(ours, right) if reduction == "batchmean" else "",
            )
        )
    return lines


def squared_temperature() -> list[tuple[str, ...]]:
    student, teacher, labels, _ = case()
    right = by_hand(student, teacher, 4) / by_hand(student, teacher, 1)
    inside = their_term(student, teacher, labels, 4, "batchmean") / their_term(student, teacher, labels, 1, "batchmean")
    ends = [float(theirs(student, teacher, labels, t, 0.0, "batchmean")) for t in (1.0, 4.0)]
    without = [float(theirs(student, teacher, None, t, 0.5, "batchmean")) for t in (1.0, 4.0)]
    ours = times(
        float(losses.distillation(student, teacher, 4.0, None) / losses.distillation(student, teacher, 1.0, None)),
        right,
    )
    cases = {
        "T^2: term at T = 4 over that at T = 1": times(inside, right),
        "the same with the teacher alone (their alpha 0, ours 1)": times(ends[1] / ends[0], right)
        + ": T^2 is left out there",
        "the same for crops without labels": times(without[1] / without[0], right)
        + ": T^2 and the weight are left out",
    }
    return [(what, f"{right:.4f}", found, ours) for what, found in cases.items()]


def axes() -> list[tuple[str, ...]]:
    """Classes stand on the second axis."""
    student, teacher, labels, _ = case()

    def standardised(student: Tensor, teacher: Tensor) -> float:
        loss = LogitStdKDLoss(**WHERE, temperature=2.0, alpha=0.0, reduction="batchmean")
        return float(loss({".": {"output": student}}, {".": {"output": teacher}}))

    right = by_hand(student, teacher, 2)
    found = their_term(student, teacher, labels, 2, "batchmean") / SIZE**2
    ours = float(losses.distillation(student, teacher, 2.0, None))
    raised = student.clone()
    raised[:, 0] += 5  # z-scores over classes see it; over the columns of the image they do not
    seen = standardised(raised, teacher) / standardised(student, teacher) - 1
    told = (
        f"right ({100 * seen:+.0f} %)" if abs(seen) > 1e-4 else "unchanged: its z-scores are over the image's columns"
    )
    return [
        ("softmax over the classes (H x W taken off)", f"{right:.4f}", times(found, right), times(ours, right)),
        ("logit standardisation where one class is raised by 5", "changes", told, "has no such loss"),
    ]


def ignored() -> list[tuple[str, ...]]:
    student, teacher, labels, valid = case()
    other = torch.where(valid[:, None], teacher, 4 * teacher)
    broken = torch.where(valid[:, None], teacher, torch.nan)
    right = by_hand(student, teacher, 2, valid)
    ours = [float(losses.distillation(student, maps, 2.0, valid)) for maps in (teacher, other, broken)]
    before, after, nan = (
        float(theirs(student, maps, labels, 2.0, 0.5, "batchmean")) for maps in (teacher, other, broken)
    )
    change = after / before - 1
    told = f"changes by {100 * change:+.0f} %: `ignore_index` reaches the cross-entropy only"
    same = "right" if max(abs(value / right - 1) for value in ours) < 1e-5 else "changes"
    return [
        (
            "nodata: loss where the teacher says something else there",
            "unchanged",
            told if abs(change) > 1e-6 else "right",
            same,
        ),
        ("nodata: loss where the teacher says NaN there", "a number", "NaN" if np.isnan(nan) else "right", same),
    ]


def extremes() -> list[tuple[str, ...]]:
    student, teacher, labels, _ = case()
    wide = (100 * student, 100 * teacher)
    right = by_hand(*wide, 1)
    value = their_term(*wide, labels, 1, "batchmean") / (SIZE * SIZE)
    lines = [
        (
            "logits from -1,200 to 1,200 (H x W taken off)",
            f"{right:.1f}",
            times(value, right),
            times(float(losses.distillation(*wide, 1.0, None)), right),
        )
    ]
    one = float(theirs(student[:, :1], teacher[:, :1], None, 2.0, 0.0, "batchmean"))
    two = [torch.cat([torch.zeros_like(maps[:, :1]), maps[:, :1]], 1) for maps in (student, teacher)]
    right = by_hand(two[0], two[1], 2)
    ours = float(losses.distillation(student[:, :1], teacher[:, :1], 2.0, None))
    lines.append(
        (
            "two classes as one map",
            f"{right:.4f}",
            f"{one:.4g}, without a word: use two maps (0, z)",
            times(ours, right),
        )
    )
    coarse = teacher[..., ::2, ::2]
    try:
        found = f"{float(theirs(student, coarse, labels, 2.0, 0.5, 'batchmean')):.4g}"
    except RuntimeError:
        found = "stops: both must have the same size"
    ours = float(losses.distillation(student, coarse, 2.0, None))
    large = functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=False)
    right = by_hand(student, large, 2)
    lines.append(("a teacher with half the resolution", f"{right:.4f}", found, times(ours, right)))
    return lines


def frozen() -> list[tuple[str, ...]]:
    """Does a teacher that is not to be trained stay as it was? Built, loaded, handed over: as the library's own examples do."""
    network = build_network(PRESETS["tiny"], 3, CLASSES, seed=0)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    labels = torch.randint(0, CLASSES, (2, 64, 64))
    lines = []
    for how in ("as it was built", "after .eval()"):
        teacher, student = copy.deepcopy(network), copy.deepcopy(network)
        teacher.train(how != "after .eval()")
        box = get_distillation_box(teacher, student, {}, box_settings(), torch.device("cpu"), [], False, 1)
        box.pre_epoch_process(epoch=0)
        for _ in range(3):
            box.post_forward_process(box.forward_process(image, labels, None))
        lines.append(
            (
                f"frozen teacher, handed over {how}",
                "nothing changes",
                changed(teacher, network),
                our_teacher(network, image),
            )
        )
    return lines


def our_teacher(network: nn.Module, image: Tensor) -> str:
    """What is left of ours, although its member was put into training mode before and in between."""
    member = copy.deepcopy(network).train()
    teacher = Teacher([member])  # type: ignore[list-item]
    for _ in range(3):
        member.train()
        teacher(image)
    return changed(member, network)


def changed(network: nn.Module, before: nn.Module) -> str:
    """Whether parameters or buffers differ."""
    old, new = before.state_dict(), network.state_dict()
    names = [name for name in old if not torch.equal(old[name], new[name])]
    parameters = {name for name, _ in network.named_parameters()}
    if not names:
        return "right"
    weights = sum(name in parameters for name in names)
    return f"{len(names) - weights} buffers drift (batch-norm statistics), {weights} parameters"


def box_settings(alpha: float = 0.5, temperature: float = 2.0, learning_rate: float = 1e-3) -> dict[str, Any]:
    """Settings of a `DistillationBox` for logits: what its sample YAML files for KD hold, as a dictionary."""
    asked = {"forward_proc": "forward_batch_only", "forward_hook": {"input": [], "output": []}}
    kd = {
        "key": "KDLoss",
        "kwargs": WHERE
        | {"temperature": temperature, "alpha": alpha, "reduction": "batchmean", "ignore_index": IGNORE},
    }
    return {
        "num_epochs": 1,
        "teacher": asked | {"requires_grad": False},
        "student": asked | {"requires_grad": True},
        "optimizer": {
            "key": "AdamW",
            "kwargs": {"lr": learning_rate, "weight_decay": 1e-2},
            "max_grad_norm": 1.0,
        },
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}}},
    }


def kept() -> list[tuple[str, ...]]:
    """Is there a cache of answers, and is it the right one?"""
    readers = [path for path in Path(torchdistill.__file__).parent.rglob("*.py") if "cache_output" in path.read_text()]
    told = "read by " + ", ".join(path.name for path in readers) if readers else "accepted, and read by nothing"
    return [
        ("kept answers (`cache_output` of its sample files)", "as live", told, "as live, by place, view and checksum")
    ]


def main() -> None:
    torch.set_num_threads(1)
    lines = [*reductions(), *squared_temperature(), *axes(), *ignored(), *extremes(), *frozen(), *kept()]
    print(json.dumps({"version": version("torchdistill"), "lines": lines}))


if __name__ == "__main__":
    main()
