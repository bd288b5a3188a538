"""Is a training step faster with bfloat16?

    OMP_NUM_THREADS=1 python benchmarks/precision.py [--device cuda] [--rounds 5] [--save]
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI OMP_NUM_THREADS=1 python benchmarks/precision.py    # a processor without bfloat16

Steps of students and teachers in float32 and with bfloat16, in turn, on made-up crops; what `precision: auto` rests on.
"""

import torch
from measuring import in_words, parser, publish, ratio, table

from kdcore.inference.engines import choose_device
from kdcore.jobs.plan import pixels
from kdcore.settings import PRESETS, Budget, Hardware
from kdcore.training.precision import choose_precision
from kdcore.training.probe import cost_of_step, make

NAMES = ("tiny", "small", "light", "medium")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in NAMES:
        budget = Budget(batch_size=4, crop=128)
        seconds: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
        for _ in range(given.rounds):
            for precision, found in seconds.items():
                hardware = Hardware.model_validate({"device": given.device, "precision": precision})
                found.append(cost_of_step(make(PRESETS[name]), None, budget, hardware) * pixels(budget))
        rows.append(
            (name, *(f"{1000 * min(found):.0f}" for found in seconds.values()), in_words(ratio(*seconds.values())))
        )
    body = table(("network", "float32, ms a step", "bfloat16, ms a step", "float32 over bfloat16"), rows)
    chosen = choose_precision(choose_device(given.device))
    body += (
        f"\n\n`auto` takes {chosen} here. 4 crops of 128 px, one thread; the shortest of {given.rounds} rounds of 5 steps each, "
        "ratios with their 95 % interval."
    )
    publish("precision", "bfloat16 in training", body, given.save)


if __name__ == "__main__":
    main()
