"""What does evaluation add to the network's forward pass?

    OMP_NUM_THREADS=1 python benchmarks/histogram.py [--rounds 20] [--save]        # about a minute on one core

The tiny student looks at windows of 512 px with a halo of 32, as in `kdcore.inference.evaluate`. In turn with that its logits
are quantised and counted: 255 levels, confusion matrix, boundary bands. Imagery and labels are a district of the demo area.

Limit: 10 % for quantising and counting. Softmax and arg-max, which any evaluation needs, stand beside it.
"""

import numpy as np
import torch
from measuring import in_turn, milliseconds, parser, publish, ratio, table, verdict

from kdcore.data.demo import CLASSES, make_district
from kdcore.data.procedural.canvas import METRES
from kdcore.data.procedural.styles import DIFFICULTY
from kdcore.evaluation.counting import ScoresBuilder, boundary_pixels
from kdcore.evaluation.levels import quantise
from kdcore.models.networks import build_network, probabilities
from kdcore.settings import PRESETS, EvaluationSettings

LIMIT = 0.10
SETTINGS = EvaluationSettings()
WINDOW, HALO = SETTINGS.window, SETTINGS.halo


def measure(classes: int, rounds: int, image: torch.Tensor, labels: np.ndarray) -> list[tuple[object, ...]]:
    """Rows for one number of classes."""
    names = tuple(entry.name for entry in CLASSES)[:classes]
    scored = (1,) if classes == 2 else tuple(range(classes))
    network = build_network(PRESETS["tiny"], 3, len(scored), [110.0] * 3, [45.0] * 3, seed=0).eval()
    inside = slice(HALO, HALO + WINDOW)
    labels = np.minimum(labels[inside, inside], classes - 1)
    with torch.no_grad():
        logits = network(image)[0, :, inside, inside]
    share = probabilities(logits[None])[0].numpy()
    levels = quantise(share)
    predicted = (logits[0] > 0 if len(scored) == 1 else logits.max(dim=0).indices).numpy().astype(np.uint8)
    band = boundary_pixels(SETTINGS.boundary_metres, METRES)

    def decide() -> None:
        probabilities(logits[None])[0].numpy()
        (logits[0] > 0 if len(scored) == 1 else logits.max(dim=0).indices).numpy().astype(np.uint8)

    def add_window() -> None:
        ScoresBuilder(names, scored, tile=SETTINGS.tile).add_window(
            "scene", 0, 0, levels, labels, band, predicted=predicted
        )

    with torch.no_grad():
        times = in_turn(
            {
                "forward": lambda: network(image),
                "softmax and arg-max": decide,
                "quantise": lambda: quantise(share),
                "count": add_window,
            },
            rounds,
        )
    under = times["forward"].cpu
    rows = [
        (f"{classes} classes: {name}", milliseconds(time.cpu), f"{100 * ratio(time.cpu, under)[0]:.1f} %", "")
        for name, time in times.items()
    ]
    both = [a + b for a, b in zip(times["quantise"].cpu, times["count"].cpu, strict=True)]
    value, low, high = ratio(both, under)
    rows.append(
        (
            f"{classes} classes: **quantise and count**",
            milliseconds(both),
            f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})",
            f"{100 * LIMIT:.0f} % {verdict(value, LIMIT)}",
        )
    )
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    chosen = arguments.parse_args()
    district, labels, _ = make_district(0, 0, WINDOW + 2 * HALO, DIFFICULTY)
    image = torch.from_numpy(district.astype(np.float32))[None]
    rows = [row for classes in (5, 2) for row in measure(classes, chosen.rounds, image, labels)]
    body = table(("", "CPU ms a window", "share of the forward pass", "limit"), rows) + (
        f"\n\nTiny student, window {WINDOW} px, halo {HALO} px, boundary band {boundary_pixels(SETTINGS.boundary_metres, METRES)} px; "
        f"medians of {chosen.rounds} rounds in turn, with 95 % intervals."
    )
    publish("histogram", "What evaluation adds to the forward pass", body, chosen.save)


if __name__ == "__main__":
    main()
