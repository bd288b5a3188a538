"""What a collection, a run, a study and a sweep are: typed, frozen, validated; YAML in and out. Never imports torch.

Everything else in kdcore receives these, from here; the files beside this one are one idea each.
"""

from kdcore.settings.data import (
    MOST_BANDS,
    PALETTE,
    PLACEHOLDER,
    SPLITS,
    ClassSettings,
    CollectionSettings,
    Places,
    SplitName,
    SplitSettings,
    check_colour,
    class_colours,
)
from kdcore.settings.fields import SLUG, Frozen, Seconds, check_slug, limits, meaning, sentence, validate
from kdcore.settings.files import fingerprint, load, read_yaml, save, to_yaml
from kdcore.settings.network import PRESETS, Network, NetworkSettings, parse_network
from kdcore.settings.presets import PRESET_MEANINGS, RECIPES, STUDY_PRESETS
from kdcore.settings.recipe import (
    ADDED,
    CHOICES,
    DISTILLATIONS,
    FORMULA,
    FROM_THE_TEACHER,
    NOT_OFFERED,
    OF_FEATURES,
    WITHOUT_FEATURES,
    Augment,
    Method,
    Mix,
    Recipe,
)
from kdcore.settings.study import (
    Arm,
    Budget,
    EvaluationSettings,
    Hardware,
    RunSettings,
    StudySettings,
    TeacherSettings,
    load_study,
)
from kdcore.settings.sweep import Objective, Range, SearchSpace, SweepSettings
