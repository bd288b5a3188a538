"""Which recipe to begin with, and what speaks for each; docs/studies.md has the tables."""

from kdcore.settings import RECIPES, STUDY_PRESETS, Recipe

OWN = "own"  # a recipe that is none of the named ones
UNLABELLED = "unlabelled"

EVIDENCE = {
    "classic": "Measured on buildings and land cover with a few hundred steps: no difference to the student alone could be detected. In "
    "published comparisons it closes about a quarter of the gap to the teacher.",
    "patient": "Not measured yet on real imagery here. In its paper it needs many times the usual steps to pay.",
    "unlabelled": "Not measured yet on real imagery here. It can only help where the teacher is clearly better than the student alone.",
    "features": "Not measured yet on real imagery here. In its paper it gains a little over the classic recipe with many classes.",
    OWN: "Nobody has measured it: compare it with a named recipe on the same data.",
}
"""What was measured of the recipes of `kdcore.settings.RECIPES`, for people."""


def recommended(preset: str, unlabelled: bool) -> str:
    """The recipe that the evidence supports, where nobody has chosen one.

    Args:
        preset: key of `STUDY_PRESETS`.
        unlabelled: whether there is imagery without labels, or a share of the labels that is not used.
    """
    usual = name_of(STUDY_PRESETS[preset].recipe)
    if unlabelled:
        return UNLABELLED
    return "classic" if usual == UNLABELLED else usual


def name_of(recipe: Recipe) -> str:
    """The name of a recipe among `RECIPES`, or 'own'."""
    return next((name for name, known in RECIPES.items() if known == recipe), OWN)
