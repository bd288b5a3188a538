"""Which recipe to begin with, and what speaks for each; docs/studies.md has the tables."""

from kdcore.settings import RECIPES, STUDY_PRESETS, Recipe

OWN = "own"  # a recipe that is none of the named ones
UNLABELLED = "unlabelled"
FORMER_NAMES = {"features": "channel-wise"}  # it never compared features

FEW = (
    "Measured with 13.3 % of the labels of one town's buildings and 9.9 % of one city's land cover, where the teacher had all labels, EMA weights "
    "and an average over flips: "
)
UNMEASURED = "Nobody has measured it here yet: compare it with another recipe on the same data."
EVIDENCE = {
    "classic": f"{FEW}no detectable difference to the student alone (buildings +1.2 points of AP, -0.1 to +2.5). Two studies with all labels found "
    "none either (+0.4, -0.2 to +1.0, and -0.3, -1.9 to +1.3). In published comparisons it closes about a quarter of the gap to the teacher. It is the plain "
    "one, to begin with where all imagery has labels: nothing measured here speaks for another.",
    "patient": f"{FEW}no detectable difference to the student alone in short trainings (buildings +1.9 points of AP, -1.2 to +5.2). In its paper it "
    "needs many times the usual steps to pay.",
    UNLABELLED: f"{FEW}on buildings 12.5 points of IoU above the student alone (+1.7 to +23.4) and 12.0 of AP (-8.5 to +32.5: one test scene is "
    "too little to be sure), in 1,500 steps; on land cover 6.2 of AP (-9.0 to +21.3: no detectable difference, three seeds are too few). "
    "But the same student with all labels and no teacher was as good (buildings 87.9 AP, distilled 87.4; land cover 70.1 and 70.1). So it is for imagery "
    "that has no labels and a teacher that knows such imagery: use every label that you have.",
    "channel-wise": f"{FEW}no detectable difference to the student alone (buildings +1.0 points of AP, -2.4 to +4.2). In its paper it gains a little "
    "over the classic recipe with many classes.",
    "augmented": f"{UNMEASURED} In semi-supervised segmentation strongly augmented views gain several points where labels are few. It needs imagery "
    "without labels.",
    "pseudo-labels": f"{UNMEASURED} It is a baseline: what a teacher's classes alone are worth, without its probabilities. It needs imagery without labels.",
    "mean-teacher": f"{UNMEASURED} It is a baseline: what imagery without labels is worth without a teacher.",
    OWN: "Nobody has measured it: compare it with a named recipe on the same data.",
}
"""What was measured of the recipes of `kdcore.settings.RECIPES`, for people."""


def recommended(preset: str, unlabelled: bool) -> str:
    """The recipe to begin with, where nobody has chosen one.

    Args:
        preset: key of `STUDY_PRESETS`.
        unlabelled: whether the data have imagery without labels. Labels that somebody leaves unused are none: using them is as good.
    """
    usual = name_of(STUDY_PRESETS[preset].recipe)
    if unlabelled:
        return UNLABELLED
    return "classic" if usual == UNLABELLED else usual


def name_of(recipe: Recipe) -> str:
    """The name of a recipe among `RECIPES`, or 'own'."""
    return next((name for name, known in RECIPES.items() if known == recipe), OWN)


def current_name(name: str) -> tuple[str, str]:
    """The name that a recipe has now, and a sentence where it had another one; an unknown name stays as it is."""
    if name not in FORMER_NAMES:
        return name, ""
    now = FORMER_NAMES[name]
    return now, f"The recipe {name!r} is called {now!r} now: it distils logits channel by channel, and no features."
