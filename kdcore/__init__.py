"""Knowledge distillation of satellite-image segmentation."""

from importlib.metadata import version

__version__ = version("kdcore")
