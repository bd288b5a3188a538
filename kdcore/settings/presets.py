"""Named recipes and studies to start from."""

from kdcore.settings.network import PRESETS
from kdcore.settings.recipe import Recipe
from kdcore.settings.study import Budget, Hardware, StudySettings, TeacherSettings

RECIPES: dict[str, Recipe] = {
    # Hinton, Vinyals & Dean 2015: labels and softened predictions, half and half.
    "classic": Recipe(temperature=2.0, alpha=0.5),
    # Beyer et al. 2022, function matching: the teacher alone, on views stretched by mixing, for long schedules.
    "patient": Recipe(temperature=1.0, alpha=1.0, mix="cutmix"),
    # As many crops without labels as with labels in a batch. The teacher needs none, so it has most of the say.
    "unlabelled": Recipe(temperature=2.0, alpha=0.9, unlabelled=1.0),
    # Shu et al. 2021: the channel-wise loss beside the pixel-wise one, with the paper's weight for logits (temperature 1 to 4).
    "channel-wise": Recipe.model_validate({"temperature": 2.0, "alpha": 0.5, "channels": 3.0}),
    # UniMatch's views (Yang et al. 2023) with a teacher that is there: it sees two crops without labels as they are, the student distorted.
    "augmented": Recipe(temperature=2.0, alpha=0.9, unlabelled=2.0, mix="cutmix", augment="unlabelled"),
    # Baselines. FixMatch (Sohn et al. 2020) with the study's teacher: what it is sure of is a label.
    "pseudo-labels": Recipe(
        distillation="hard", confidence=0.95, alpha=0.5, unlabelled=1.0, mix="cutmix", augment="unlabelled"
    ),
    # Tarvainen & Valpola 2017, without any teacher: the average of the student's own weights.
    "mean-teacher": Recipe(
        temperature=1.0,
        mean_teacher=0.99,
        alpha=0.5,
        unlabelled=1.0,
        mix="cutmix",
        augment="unlabelled",
        teacher_sees="crop",
    ),
}


STUDY_PRESETS: dict[str, StudySettings] = {
    "demo": StudySettings(
        teacher=TeacherSettings(network=PRESETS["light"], budget=Budget(steps=400, batch_size=4, crop=128)),
        student=PRESETS["fast"],
        recipe=RECIPES["unlabelled"],  # the area has a district without labels
        budget=Budget(steps=350, batch_size=4, crop=128),
        seeds=(0,),
        hardware=Hardware(cache_views="one"),  # eight would take longer than the student's training
    ),
    "quick": StudySettings(
        teacher=TeacherSettings(network=PRESETS["light"], budget=Budget(steps=500, crop=128)),
        student=PRESETS["fast"],  # four times as fast as tiny and as good: benchmarks/results/front.md
        budget=Budget(steps=400, crop=128),
    ),
    "standard": StudySettings(
        teacher=TeacherSettings(budget=Budget(steps=2000)),
        budget=Budget(steps=2000),
    ),
    "thorough": StudySettings(
        teacher=TeacherSettings(network=PRESETS["large"], seeds=(0, 1, 2), budget=Budget(steps=10000, batch_size=16)),
        budget=Budget(steps=20000, batch_size=16),
        seeds=(0, 1, 2, 3, 4),
        hardware=Hardware(compile=True, readers=8),
    ),
}

PRESET_MEANINGS = {
    "demo": "The settings of the demo study: less than five minutes on two CPU cores.",
    "quick": "Minutes on two CPU cores: shows the whole story, too short to judge a recipe.",
    "standard": "About an hour a seed on two CPU cores, minutes on a GPU.",
    "thorough": "Large networks and five seeds. For a GPU.",
}
