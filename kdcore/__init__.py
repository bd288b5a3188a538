"""Knowledge distillation of satellite-image segmentation."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcore.api import Study

__all__ = ["Study", "__version__"]
__version__ = version("kdcore")


def __getattr__(name: str) -> Any:
    """`kdcore.Study`, imported when it is asked for: the command and the dashboard are quick without it."""
    if name == "Study":
        from kdcore.api import Study

        return Study
    raise AttributeError(f"module 'kdcore' has no attribute {name!r}")
