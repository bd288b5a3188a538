"""The bundled example's networks and the area that they were trained on, which the tests of deployment share."""

from pathlib import Path

import kdcore
from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo

EXAMPLE = Path(kdcore.__file__).parent / "example/runs"


def example_checkpoint(arm: str = "distilled") -> Path:
    return EXAMPLE / f"{arm}-s0/checkpoints/best.safetensors"


def demo_area(folder: Path) -> Collection:
    """A smaller cut of the demo area: the same classes and styles."""
    write_demo(folder, size=384)
    return Collection.open(folder)
