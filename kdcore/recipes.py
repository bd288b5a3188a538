"""Which recipe to begin with, and what speaks for each; docs/studies.md has the tables."""

from kdcore.settings import RECIPES, STUDY_PRESETS, Recipe

OWN = "own"  # a recipe that is none of the named ones
UNLABELLED = "unlabelled"

EVIDENCE = {
    "classic": "With a tenth of the labels of real imagery no difference to the student alone could be detected (buildings +1.2 points of AP, "
    "-0.1 to +2.5). In published comparisons it closes about a quarter of the gap to the teacher. Begin with it where all imagery has labels: "
    "no other recipe did detectably better there.",
    "patient": "With a tenth of the labels of real imagery and short trainings no difference to the student alone could be detected (buildings "
    "+1.9 points of AP, -1.2 to +5.2). In its paper it needs many times the usual steps to pay.",
    UNLABELLED: "With a tenth of the labels, and the rest as imagery without labels, students came out above the student alone by 12.1 points of AP "
    "on buildings (+7.4 to +17.3) and 5.1 on land cover (+2.4 to +7.9): three quarters of the way to the teacher and more. Trainings of 600 steps "
    "instead of 1,500 gained 6.9 and nothing detectable. So it is the one to begin with where there is imagery without labels; give it time.",
    "features": "With a tenth of the labels of real imagery no difference to the student alone could be detected (buildings +1.0 points of AP, "
    "-2.4 to +4.2). In its paper it gains a little over the classic recipe with many classes.",
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
