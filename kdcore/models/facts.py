"""What a network was trained for, however it is kept. Never imports torch."""

from typing import Protocol


class Facts(Protocol):
    """What a network was trained for. `CheckpointInfo` and `OnnxInfo` are both of this kind."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes."""

    @property
    def colours(self) -> tuple[str | None, ...]:
        """Of all classes as '#RRGGBB', None for one without; empty where nobody said."""

    @property
    def bands(self) -> int:
        """Bands of the imagery that it is given."""

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Their numbers in the source files, from 1."""

    @property
    def metres_per_pixel(self) -> float | None:
        """Ground sample distance of the imagery; None where unknown."""

    @property
    def dtype(self) -> str:
        """Of the imagery."""
