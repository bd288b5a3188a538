"""How exact is the AP that is shown, and what does counting it cost?

    OMP_NUM_THREADS=1 python benchmarks/average_precision.py [--rounds 12] [--save]        # about three minutes on one core

Scores of four million pixels are simulated: one class with a prevalence of 50 % to 0.1 %, calibrated, too sure of itself, crowded at
one end, with ties; as float32 and rounded to bfloat16. AP from the counted levels is set against scikit-learn's on the raw scores, beside
the AP of 255 evenly spaced levels of probability, as maps have them and as an earlier version counted them. The same for six classes.

Then windows of 512 px are counted in turn by both: probabilities rounded to 255 levels and counted tile by tile, and odds as
`kdcore.evaluation.counting` counts them, with confusion matrix and boundaries. State: bytes of both histograms a tile and class.

Limits: 0.05 points of AP; 0.9 of the speed of the 255 levels; 4,096 bytes a tile and class (256 numbers of 8 bytes, twice).
"""

import numpy as np
import torch
from measuring import in_turn, parser, publish, ratio, table, verdict
from scipy.special import logit
from sklearn.metrics import average_precision_score

from kdcore.evaluation.counting import ScoresBuilder, boundary_band
from kdcore.evaluation.curves import average_precision
from kdcore.evaluation.levels import LEVELS, quantise
from kdcore.evaluation.scores import Scores
from kdcore.models.networks import odds, probabilities
from kdcore.training.run import keep_freed_memory

SIDE, WINDOW, TILE = 2048, 512, 128
LIMIT, SPEED, STATE = 0.05, 0.9, 4096
SHARES = (0.5, 0.1, 0.01, 0.001)
DISTANCE, SPREAD = 2.5, 1.6


def kinds(calibrated: np.ndarray) -> dict[str, np.ndarray]:
    """Log-odds of networks that put the pixels in one order, or lose some of it in ties."""
    return {
        "calibrated": calibrated,
        "3 x too sure": 3 * calibrated,
        "all at one end": 9 + calibrated / 40,
        "ties": np.rint(2 * calibrated) / 2,
        "a heavy tie": np.maximum(calibrated, np.quantile(calibrated, 0.9)),
    }


def count(given: np.ndarray, labels: np.ndarray, classes: int) -> Scores:
    """Scores of (K, H, W) odds, window by window."""
    names = tuple(f"class {index}" for index in range(classes))
    builder = ScoresBuilder(names, (1,) if classes == 2 else range(classes), tile=TILE)
    for row in range(0, labels.shape[0], WINDOW):
        for column in range(0, labels.shape[1], WINDOW):
            cut = slice(row, row + WINDOW), slice(column, column + WINDOW)
            builder.add_window("s", row, column, given[:, *cut], labels[cut], 2, predicted=labels[cut])
    return builder.build()


def exactness(rng: np.random.Generator) -> tuple[list[tuple[object, ...]], float]:
    """A row for each kind of network, and the largest error in points."""
    rows, worst = [], 0.0
    for share in SHARES:
        truth = (rng.random((SIDE, SIDE)) < share).astype(np.uint8)
        seen = rng.normal(0, SPREAD, truth.shape) + DISTANCE * truth
        for name, sure in kinds((seen - DISTANCE / 2) * DISTANCE / SPREAD**2 + logit(share)).items():
            cells: list[str] = []
            for kind in (torch.float32, torch.bfloat16):
                raw = torch.from_numpy(sure).to(kind).float().numpy()
                scores = count(np.exp(raw[None]), truth, 2)
                exact = average_precision_score(truth.ravel(), raw.ravel())
                ours, coarse = (
                    100 * (float(found[0]) - exact)
                    for found in (
                        average_precision(*scores.total(), scores.ties),
                        average_precision(*scores.on_map()),
                    )
                )
                worst = max(worst, abs(ours))
                cells += [f"{100 * exact:.2f}", f"{ours:+.3f}", f"{coarse:+.2f}"]
            rows.append((f"{100 * share:g} %", name, *cells))
    return rows, worst


def six_classes(rng: np.random.Generator) -> tuple[list[tuple[object, ...]], float]:
    """The same for the softmax of six classes, of 50 % to 0.1 % of the pixels."""
    shares = (0.5, 0.3, 0.15, 0.04, 0.009, 0.001)
    labels = rng.choice(6, p=shares, size=(1024, 1024)).astype(np.uint8)
    rows, worst = [], 0.0
    for name, sureness in (("softmax", 1), ("softmax, 3 x as sure", 3)):
        drawn = sureness * (rng.normal(size=(6, *labels.shape)) + 2 * (np.arange(6)[:, None, None] == labels))
        logits = torch.from_numpy(drawn.astype(np.float32))[None]
        scores = count(odds(logits)[0].numpy(), labels, 6)
        raw = torch.softmax(logits.double(), dim=1)[0].numpy()
        exact = [average_precision_score(labels.ravel() == k, raw[k].ravel()) for k in range(6)]
        for share, one, ours, coarse in zip(
            shares,
            exact,
            average_precision(*scores.total(), scores.ties),
            average_precision(*scores.on_map()),
            strict=True,
        ):
            worst = max(worst, 100 * abs(float(ours) - one))
            rows.append(
                (
                    f"{100 * share:g} %",
                    name,
                    f"{100 * one:.2f}",
                    f"{100 * (ours - one):+.3f}",
                    f"{100 * (coarse - one):+.2f}",
                    "",
                    "",
                    "",
                )
            )
    return rows, worst


def evenly(levels: np.ndarray, labels: np.ndarray, scored: tuple[int, ...]) -> list[np.ndarray]:
    """Histograms of a window's tiles in 255 evenly spaced levels."""
    found = []
    for row in range(0, WINDOW, TILE):
        for column in range(0, WINDOW, TILE):
            cut = slice(row, row + TILE), slice(column, column + TILE)
            for level, number in zip(levels, scored, strict=True):
                bins = level[cut] + np.left_shift(labels[cut] == number, 8, dtype=np.uint16)
                found.append(np.bincount(bins.ravel(), minlength=512))
    return found


def speed(classes: int, rounds: int, rng: np.random.Generator) -> tuple[object, ...]:
    """Megapixels per second of both, from logits to counts."""
    labels = rng.integers(0, classes, size=(WINDOW, WINDOW)).astype(np.uint8)
    drawn = rng.normal(size=(classes, WINDOW, WINDOW)) * 3 + 2 * (np.arange(classes)[:, None, None] == labels)
    scored = (1,) if classes == 2 else tuple(range(classes))
    logits = torch.from_numpy((drawn[1:] - drawn[:1] if classes == 2 else drawn).astype(np.float32))[None]
    predicted = drawn.argmax(axis=0)
    names = tuple(f"class {index}" for index in range(classes))
    builder = ScoresBuilder(names, scored, tile=TILE)
    places = iter(range(10**6))

    def ours() -> None:
        builder.add_window("s", WINDOW * next(places), 0, odds(logits)[0].numpy(), labels, 2, predicted=predicted)

    def before() -> None:
        levels = quantise(probabilities(logits)[0].numpy())
        valid = levels.max(axis=0) != 255
        for index in range(classes):
            boundary_band(labels == index, valid, 2), boundary_band(predicted == index, valid, 2)
        for row in range(0, WINDOW, TILE):
            for column in range(0, WINDOW, TILE):
                cut = slice(row, row + TILE), slice(column, column + TILE)
                np.bincount((labels[cut] * np.uint16(classes) + predicted[cut]).ravel(), minlength=classes**2)
        evenly(levels, labels, scored)

    for _ in range(5):  # the first windows are held back
        ours()
    times = in_turn({"ours": ours, "before": before}, rounds)
    value, low, high = ratio(times["before"].cpu, times["ours"].cpu)
    mega = WINDOW**2 / 1e6
    fast = [f"{mega / float(np.median(times[name].cpu)):.1f}" for name in ("before", "ours")]
    scores = builder.build()
    state = (scores.positives.nbytes + scores.negatives.nbytes) / len(scores) / len(scored)
    return (
        classes,
        *fast,
        f"{value:.2f} ({low:.2f} to {high:.2f})",
        verdict(-value, -SPEED),
        f"{state:.0f}",
        verdict(state, STATE),
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=12)
    chosen = arguments.parse_args()
    keep_freed_memory()  # as a training does
    rng = np.random.default_rng(0)
    rows, worst = exactness(rng)
    more, also = six_classes(rng)
    header = (
        "prevalence",
        "scores",
        "exact AP",
        "error",
        f"error of {LEVELS} levels",
        "bf16: exact AP",
        "error",
        f"error of {LEVELS} levels",
    )
    speeds = [speed(classes, chosen.rounds, rng) for classes in (2, 6)]
    body = "\n\n".join(
        [
            f"Largest error {max(worst, also):.3f} points of AP; limit {LIMIT}: {verdict(max(worst, also), LIMIT)}.",
            table(header, [*rows, *more]),
            table(("classes", f"MPx/s, {LEVELS} levels", "MPx/s, new", "new / 255 levels",
                   f"limit {SPEED}", "bytes a tile and class", f"limit {STATE}"), speeds),
            "Errors are in points of AP, against scikit-learn's on the raw scores. Speed: CPU seconds from logits to counts, in turn.",
        ]
    )  # fmt: skip
    publish("average_precision", "Average precision: exactness and speed", body, chosen.save)


if __name__ == "__main__":
    main()
