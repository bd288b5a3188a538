"""Task losses and distillation losses as pure functions of tensors.

`valid` is True where the raster holds data, and labels of 255 carry no class. Task losses count pixels that are valid and
labelled; distillation losses count every valid pixel, labelled or not. None stands for "all pixels".

Everything is computed in float32, whatever comes in, and no gradient flows into the teacher. No function reads a tensor's
values back to Python or makes a shape depend on them, so none waits for the GPU; class numbers are therefore not checked
here. A batch without one counted pixel gives 0 and a gradient of zeros. What the teacher says about invalid pixels may be
anything, NaN included; only where its grid has to be resized first must it be finite everywhere.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.divergences import BernoulliDivergence, SoftmaxDivergence
from kdcore.errors import SettingsError
from kdcore.settings import Recipe, limits

IGNORE = 255
TEMPERATURES = limits(Recipe, "temperature")
SMALL = 1e-8  # added to a squared length before it divides
MINUS_INFINITY = -1e30  # exp() is 0 as for -inf, but differences of two stay numbers: no NaN in loss or gradient


def cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy: the mean of `-log softmax(z)[label]` over valid, labelled pixels.

    With `weight` it is the weighted mean `sum w[label] * loss / sum w[label]`, as PyTorch's. Logits of (0, 0) cost
    `log 2 = 0.6931` whatever the label.

    Args:
        logits: C >= 2 classes.
        labels: class numbers below C, or 255 for none; any integer type.
        valid: where the raster holds data.
        weight: of each class.

    Shape:
        logits (N, C, H, W), labels (N, H, W), valid (N, H, W) bool, weight (C,) -> scalar.

    Raises:
        SettingsError: shapes or types that do not belong together.
    """
    check_maps("logits", logits, two_or_more=True)
    counted = labelled(logits, labels, valid)
    if weight is not None and weight.shape != logits.shape[1:2]:
        raise SettingsError(
            f"weight {tuple(weight.shape)} does not fit logits {tuple(logits.shape)}: give one per class, ({logits.shape[1]},)."
        )
    weight = None if weight is None else weight.to(logits.device, torch.float32)
    target = torch.where(counted, labels.long(), IGNORE)
    total = functional.cross_entropy(logits.float(), target, weight, ignore_index=IGNORE, reduction="sum")
    if weight is None:
        return total / counted.sum().clamp(min=1)
    mass = (weight[torch.where(counted, target, 0)] * counted).sum()
    return total / torch.where(mass > 0, mass, 1)


def binary_cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """Sigmoid cross-entropy: the mean of `-log sigmoid(+-z)` over valid, labelled pixels (+ for 1, - for 0).

    A logit of `log 3` (probability 3/4) costs `log 4/3 = 0.2877` on label 1 and `log 4 = 1.3863` on label 0.

    Shape:
        logits (N, 1, H, W), labels (N, H, W) of 0, 1 and 255 = none, valid (N, H, W) bool -> scalar.

    Raises:
        SettingsError: shapes or types that do not belong together.
    """
    check_maps("logits", logits)
    if logits.shape[1] != 1:
        raise SettingsError(
            f"logits {tuple(logits.shape)}: one map (N, 1, H, W) is needed; use cross_entropy for more."
        )
    counted = labelled(logits, labels, valid)
    target = (labels == 1).float()
    each = functional.binary_cross_entropy_with_logits(logits[:, 0].float(), target, reduction="none")
    return masked_mean(each, counted)


def dice(logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """Soft Dice: `1 - 2 sum(p y) / (sum p + sum y)`, sums over the batch's valid, labelled pixels (Milletari et al. 2016).

    C >= 2: p is the softmax, and the mean runs over the classes present in the labels. One logit: p is the sigmoid, 1 the
    only class. A logit of 0 on two pixels labelled 1 and 0 gives `1 - 2 * 0.5 / (1 + 1) = 0.5`.

    Shape:
        logits (N, C, H, W), labels (N, H, W) of class numbers and 255 = none, valid (N, H, W) bool -> scalar.

    Raises:
        SettingsError: shapes or types that do not belong together.
    """
    check_maps("logits", logits)
    counted = labelled(logits, labels, valid)[:, None]
    if logits.shape[1] == 1:
        probability, target = logits.float().sigmoid(), (labels == 1)[:, None]
    else:
        probability = logits.float().softmax(1)
        target = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    target = target & counted
    mass = target.sum((0, 2, 3))
    overlap = torch.where(target, probability, 0).sum((0, 2, 3))
    sums = torch.where(counted, probability, 0).sum((0, 2, 3)) + mass
    present = mass > 0
    each = torch.where(present, 1 - 2 * overlap / sums.clamp(min=1), 0)
    return each.sum() / present.sum().clamp(min=1)


def pixel_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Per-pixel distillation: `T^2 / |V| * sum_V sum_c p_c (log p_c - log q_c)` (Hinton, Vinyals & Dean 2015).

    p = softmax(z_teacher / T), q = softmax(z_student / T), V = valid pixels: the sum over classes, the mean over pixels.
    T^2 keeps the gradient's size; as T grows the loss tends to `|centred z_s - centred z_t|^2 / 2C`. At T = 1 a teacher
    of (log 3, 0) and a student of (0, 0) give `3/4 log 3/2 + 1/4 log 1/2 = 0.1308`.

    Args:
        student_logits: C >= 2 classes.
        teacher_logits: the same classes; on another grid they are resized, before the softmax.
        temperature: T in [1, 20].
        valid: where the raster holds data, on the student's grid.

    Shape:
        (N, C, H, W), (N, C, h, w), valid (N, H, W) bool -> scalar.

    Raises:
        SettingsError: shapes that do not belong together, one channel only, or a temperature out of range.

    Example:
        >>> teacher, student = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
        >>> round(float(pixel_kl(student, teacher, temperature=1)), 4)
        0.1308
    """
    check_maps("student logits", student_logits, two_or_more=True)
    student, teacher = tempered(student_logits, teacher_logits, temperature, valid)
    each: Tensor = SoftmaxDivergence.apply(student, teacher)
    return temperature**2 * masked_mean(each, valid)


def bernoulli_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, valid: Tensor | None = None
) -> Tensor:
    """One-logit distillation: `T^2 * mean KL(Bernoulli(sigmoid(z_t / T)) || Bernoulli(sigmoid(z_s / T)))`.

    The same as `pixel_kl` of the logits (0, z) (Hinton, Vinyals & Dean 2015). Several maps are independent yes-or-no
    questions: the mean runs over valid pixels and maps. Teacher log 3, student 0, T = 1: 0.1308, as in `pixel_kl`.

    Shape:
        (N, K, H, W), (N, K, h, w), valid (N, H, W) bool -> scalar; K >= 1.

    Raises:
        SettingsError: shapes that do not belong together, or a temperature out of range.
    """
    student, teacher = tempered(student_logits, teacher_logits, temperature, valid)
    each: Tensor = BernoulliDivergence.apply(student, teacher)
    return temperature**2 * masked_mean(each.mean(1), valid)


def channel_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, valid: Tensor | None = None
) -> Tensor:
    """Channel-wise distillation (CWD, Shu et al. 2021): `T^2 / (N C) * sum_n sum_c KL(p_nc || q_nc)`.

    p and q are softmaxes over the *positions* of one channel, so one channel is enough. Invalid positions have
    probability 0; an image without valid positions adds 0 and still counts in N. Usual are T from 1 to 4 and three times
    the weight of a per-pixel loss. Teacher (log 3, 0) and student (0, 0) on two positions, T = 1: 0.1308.

    Shape:
        (N, C, H, W), (N, C, h, w), valid (N, H, W) bool -> scalar.

    Raises:
        SettingsError: shapes that do not belong together, or a temperature out of range.
    """
    student, teacher = tempered(student_logits, teacher_logits, temperature, valid)
    if valid is not None:
        # Where nothing is valid, both become the same uniform distribution: 0 without a special case.
        student, teacher = (torch.where(valid[:, None], logits, MINUS_INFINITY) for logits in (student, teacher))
    student, teacher = functional.log_softmax(student.flatten(2), 2), functional.log_softmax(teacher.flatten(2), 2)
    gap = teacher - student
    return temperature**2 * gap.mul_(teacher.exp_()).sum(2).mean()


def distillation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, valid: Tensor | None = None
) -> Tensor:
    """`bernoulli_kl` for one channel, `pixel_kl` for more: shapes and errors as there.

    Several maps that are no softmax (multilabel) go to `bernoulli_kl` directly.
    """
    check_maps("student logits", student_logits)
    choice = bernoulli_kl if student_logits.shape[1] == 1 else pixel_kl
    return choice(student_logits, teacher_logits, temperature, valid)


def pseudo_labels(student_logits: Tensor, teacher_logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy with the class that the teacher finds most likely (Lee 2013), over valid pixels.

    Of one logit that class is the second where it is above 0. A student of (log 3, 0) whose teacher prefers the first class costs
    `log 4/3 = 0.2877`, however little the teacher prefers it.

    Shape:
        (N, C, H, W), (N, C, h, w), valid (N, H, W) bool -> scalar.

    Raises:
        SettingsError: shapes that do not belong together.
    """
    check_pair("student logits", student_logits, "teacher logits", teacher_logits)
    teacher = resize_logits(teacher_logits.detach().float(), (student_logits.shape[2], student_logits.shape[3]))
    if teacher.shape[1] == 1:
        return binary_cross_entropy(student_logits, (teacher[:, 0] > 0).to(torch.uint8), valid)
    return cross_entropy(student_logits, teacher.argmax(1), valid)


def confident(teacher_logits: Tensor, least: float, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels for which the teacher's highest probability is `least` or more (FixMatch, Sohn et al. 2020), and their share.

    A mean over them, times the share, is a mean over all valid pixels in which the others count 0. Teacher logits of (log 3, 0) and (0, 0)
    have highest probabilities of 3/4 and 1/2: with 0.7 the first counts, and the share is 1/2.

    Shape:
        (N, C, h, w), valid (N, H, W) bool -> (N, H, W) bool and a scalar; one logit stands for (0, z).
    """
    logits = resize_logits(teacher_logits.detach().float(), (valid.shape[1], valid.shape[2]))
    highest = logits.abs().sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(1).amax(1)
    counted = valid & (highest >= least)
    return counted, counted.sum() / valid.sum().clamp(min=1)


def combine(task: Tensor, distilled: Tensor, alpha: float) -> Tensor:
    """`(1 - alpha) * task + alpha * distilled`; task = 1, distilled = 3, alpha = 0.25 give 1.5.

    `distilled` contains its T^2 already, at every alpha. 0 gives `task` itself and 1 `distilled` itself, bit for bit, and
    the other term is not touched: not even its NaN.

    Raises:
        SettingsError: alpha outside [0, 1].

    Example:
        >>> float(combine(torch.tensor(1.0), torch.tensor(3.0), alpha=0.25))
        1.5
    """
    if not 0 <= alpha <= 1:
        raise SettingsError(f"alpha {alpha}: choose the teacher's share from 0 (labels only) to 1 (teacher only).")
    if alpha in (0, 1):
        return distilled if alpha else task
    return (1 - alpha) * task + alpha * distilled


def feature_mse(projected_student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared difference of features (FitNets, Romero et al. 2015) over valid positions and channels.

    The student's features have been through `projection` and are resized bilinearly to the teacher's grid. Features of
    (1, 2) against (1, 4) give `(0 + 4) / 2 = 2`.

    Args:
        projected_student: features with the teacher's number of channels.
        teacher: features.
        valid: on any grid; the teacher's positions take the nearest value.

    Shape:
        (N, C, H, W), (N, C, h, w), valid (N, H', W') bool -> scalar.

    Raises:
        SettingsError: shapes that do not belong together.
    """
    student, teacher, valid = on_the_teachers_grid(projected_student, teacher, valid)
    return masked_mean((student - teacher).square().mean(1), valid)


def hint(projected_student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Hint of normalised features (FitNets, Romero et al. 2015, arXiv:1412.6550): `mean_V |s / |s| - t / |t||^2`.

    At each position both feature vectors are scaled to length 1, so the loss is `2 - 2 cos(s, t)`, from 0 to 4, however large the
    features of either network are. (3, 4) against (1, 0) gives `(0.6 - 1)^2 + 0.8^2 = 0.8`.

    Args:
        projected_student: features that went through `projection`, with the teacher's number of channels.
        teacher: features.
        valid: on any grid; the teacher's positions take the nearest value.

    Shape:
        (N, C, H, W), (N, C, h, w), valid (N, H', W') bool -> scalar.

    Raises:
        SettingsError: shapes that do not belong together.
    """
    student, teacher, valid = on_the_teachers_grid(projected_student, teacher, valid)
    return masked_mean((unit_length(student) - unit_length(teacher)).square().sum(1), valid)


def unit_length(features: Tensor) -> Tensor:
    """Each position's vector (N, C, H, W) scaled to length 1; a vector of zeros stays, with a gradient that is finite."""
    return features * (features.square().sum(1, keepdim=True) + SMALL).rsqrt()


def on_the_teachers_grid(
    student: Tensor, teacher: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check, then float32 features and valid positions on the teacher's grid; the teacher's are detached and 0 where invalid."""
    check_pair("projected student features", student, "teacher features", teacher)
    grid = (teacher.shape[2], teacher.shape[3])
    student, teacher = resize_logits(student.float(), grid), teacher.detach().float()
    if valid is not None:
        check_valid(valid, (teacher.shape[0], *valid.shape[1:3]))
        valid = functional.interpolate(valid[:, None].float(), grid, mode="nearest-exact")[:, 0] > 0
        teacher = torch.where(valid[:, None], teacher, 0)
    return student, teacher, valid


def projection(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 1x1 convolution from the student's to the teacher's channels: trained with the student, thrown away after."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of logits (never of probabilities), align_corners=False; the same tensor if sizes agree.

    Shape:
        (N, C, h, w) -> (N, C, *size).
    """
    if logits.shape[2:] == size:
        return logits
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


def tempered(student: Tensor, teacher: Tensor, temperature: float, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check, then float32 logits / temperature on the student's grid; the teacher's are detached and 0 where invalid."""
    check_pair("student logits", student, "teacher logits", teacher)
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        raise SettingsError(f"temperature {temperature}: choose one from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}.")
    teacher = resize_logits(teacher.detach().float(), (student.shape[2], student.shape[3])) / temperature
    if valid is not None:
        check_valid(valid, (student.shape[0], *student.shape[2:]))
        # Before the softmax: a NaN that is only masked after it comes back in the gradient, as 0 * NaN.
        teacher.masked_fill_(~valid[:, None], 0)
    return student.float() / temperature, teacher


def masked_mean(each: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of (N, H, W) where valid; 0 where nothing is."""
    if valid is None:
        return each.mean()
    return torch.where(valid, each, 0).sum() / valid.sum().clamp(min=1)


def labelled(logits: Tensor, labels: Tensor, valid: Tensor | None) -> Tensor:
    """Which pixels have a label and data: (N, H, W) bool."""
    shape = (logits.shape[0], *logits.shape[2:])
    if labels.shape != shape or labels.is_floating_point():
        raise SettingsError(
            f"labels {tuple(labels.shape)} {labels.dtype} do not fit logits {tuple(logits.shape)}: give integers {shape}."
        )
    if valid is None:
        return labels != IGNORE
    check_valid(valid, shape)
    return (labels != IGNORE) & valid


def check_maps(name: str, maps: Tensor, two_or_more: bool = False) -> None:
    """Four axes, and two channels where a softmax needs them."""
    if maps.ndim != 4:
        raise SettingsError(f"{name} {tuple(maps.shape)}: four axes (N, C, H, W) are needed.")
    if two_or_more and maps.shape[1] < 2:
        raise SettingsError(
            f"{name} {tuple(maps.shape)}: the softmax of one channel is always 1; use bernoulli_kl or binary_cross_entropy."
        )


def check_pair(name: str, student: Tensor, other: str, teacher: Tensor) -> None:
    """The same images and channels on both sides; grids may differ."""
    check_maps(name, student)
    check_maps(other, teacher)
    if student.shape[:2] != teacher.shape[:2]:
        raise SettingsError(
            f"{name} {tuple(student.shape)} do not fit {other} {tuple(teacher.shape)}: both need the same images and channels. "
            "Train both for the same classes (logits), or put `projection` in between (features)."
        )


def check_valid(valid: Tensor, shape: tuple[int, ...]) -> None:
    """A mask of truth values on the right grid."""
    if valid.shape != shape or valid.dtype != torch.bool:
        raise SettingsError(f"valid {tuple(valid.shape)} {valid.dtype}: a bool mask of {shape} is needed.")
