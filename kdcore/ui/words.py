"""Words that several pages show. A page's own sentences stand in the page."""

from typing import NamedTuple

from kdcore.settings import CHOICES


class PageWords(NamedTuple):
    """How a page presents itself in the navigation."""

    file: str
    title: str
    icon: str
    help: str


PAGES = (
    PageWords(
        "start.py",
        "Start",
        ":material/home:",
        "What this is, and whether it works: one finished study, looked at in a minute.",
    ),
    PageWords(
        "race.py",
        "Race",
        ":material/sports_score:",
        "Teacher and student map the same ground side by side, as fast as they are.",
    ),
    PageWords(
        "data.py",
        "Data",
        ":material/database:",
        "What a study is fed: scenes, classes, the spatial split, and every problem with how to fix it.",
    ),
    PageWords(
        "train.py",
        "Train",
        ":material/school:",
        "Set temperature and alpha, start a study, and watch all of its networks learn.",
    ),
    PageWords(
        "map.py",
        "Map",
        ":material/map:",
        "Imagery with the masks of truth, teacher and students: where do they differ?",
    ),
    PageWords(
        "mistakes.py",
        "Mistakes",
        ":material/troubleshoot:",
        "The places where the student lost most against the teacher: photo, truth, teacher and student side by side.",
    ),
    PageWords(
        "curves.py",
        "Curves",
        ":material/show_chart:",
        "Precision and recall of all networks, with intervals: does distillation help?",
    ),
    PageWords(
        "labels.py",
        "Labels",
        ":material/sell:",
        "Students with growing shares of the labels, with and without the teacher: what is it worth in labels?",
    ),
    PageWords(
        "sweep.py",
        "Sweep",
        ":material/tune:",
        "Many short trainings: which temperature and alpha are worth using, and does it matter?",
    ),
    PageWords(
        "deploy.py",
        "Deploy",
        ":material/rocket_launch:",
        "Use the student instead of the teacher: speed against quality, what an area costs, and the files to take along.",
    ),
    PageWords(
        "runs.py",
        "Runs",
        ":material/folder_open:",
        "All studies: compare, stop, resume, download, archive and delete them.",
    ),
)

STORY = (
    "A large, slow **expert** (the *teacher*) has taught a small, fast **apprentice** (the *student*) to find things in aerial photos. "
    "Drag the line."
)
PICTURES = {  # layers of the map that Start shows, and what they are called there
    "imagery": "Photo",
    "truth": "Truth",
    "teacher": "Expert",
    "distilled": "Apprentice",
    "disagreement": "Who is right?",
}
PLAIN_ARMS = {
    "teacher": PICTURES["teacher"],
    "alone": "Apprentice without expert",
    "distilled": PICTURES["distilled"],
    "all_labels": "Apprentice with all labels",
}

# A term and the sentence that explains it to someone who does not program.
TERMS = {
    "teacher": "The teacher is a large, slow expert. It is trained first, and then only predicts.",
    "student": "The student is a small, fast apprentice. It is what you would use in the field.",
    "temperature": "Temperature: how much of the teacher's doubt to pass on. At 1 the student hears the teacher's answer as it is; the higher, "
    "the more it also hears what else the pixel might have been.",
    "alpha": "Alpha: how much to listen to the teacher. At 0 the student learns from labels alone, at 1 from the teacher alone.",
    "precision": "Precision: of what it marked as a class, how much is.",
    "recall": "Recall: of all pixels of a class, how much it found.",
    "mean AP": "Mean AP: average precision, averaged over the classes. 100 is perfect.",
    "points": "A difference of percentages is given in points: from 80 % to 82 % is 2 points.",
    "seed": "A seed fixes what is random in a training: first weights and order of the crops. "
    "It takes three seeds or more to separate a recipe's effect from how much results vary between runs.",
    "step": "A step is one small correction of the network, after looking at one batch of crops.",
    "recipe": "A recipe: what the distilled student listens to, and how much.",
    "score": "Mean AP (average precision, averaged over the classes) on the test part, which decided nothing before: 100 is perfect. It judges "
    "how well a network ranks sure places above unsure ones; it is not the share of right pixels.",
    "size": "The weights as 32-bit numbers, four bytes for each of a network's parameters.",
    "speed": "Imagery that both networks mark in a second in PyTorch, without reading and writing files.",
    "all labels": "The same student, trained with all labels and no teacher: what a share of the labels costs, and what distillation is measured "
    "against. One more training for each seed.",
    "label curve": "One study for each share instead, all with one teacher. The Labels page then says what the teacher is worth in labels. "
    "The student with all labels is left out: it is the share of 100.",
    "validation": "The part of the imagery that decides which weights are kept. The test part decides nothing: the networks are scored on it at the end.",
    "buffer": "Ground that belongs to no part, so that training crops do not reach into the ground that is used for testing.",
}

# State of a study or run: its name on screen, badge colour and icon.
STATES = {
    "queued": ("waiting", "gray", ":material/schedule:"),
    "running": ("running", "blue", ":material/autorenew:"),
    "finished": ("finished", "green", ":material/check:"),
    "failed": ("failed", "red", ":material/error:"),
    "stopped": ("stopped", "orange", ":material/pause:"),
    "interrupted": ("interrupted", "orange", ":material/power_off:"),
    "broken": ("cannot be read", "red", ":material/broken_image:"),
}

NO_STUDY_TITLE = "Nothing to show yet"
NO_STUDY = (
    "A study trains a teacher and two students under the same conditions. Once one is finished, it is shown here."
)
NO_STUDY_BUTTON = "Start a study"
EXAMPLE = "example"  # id of the bundled study
EXAMPLE_NOTE = (
    "This is the bundled example: a recorded study with trainings of about two minutes on one processor core, so the masks still have many mistakes. The "
    "score judges how well a network ranks sure places above unsure ones; it is not the share of right pixels."
)

# What each of the recipes of `kdcore.settings.RECIPES` does; what speaks for it says `kdcore.recipes`.
RECIPES = {
    "classic": "Half labels, half the teacher's softened predictions: what most people mean by distillation.",
    "patient": "The teacher alone, asked about crops that are pasted into each other. Meant for long trainings.",
    "unlabelled": "As many crops without labels as with: the teacher says what is there, and has most of the say.",
    "channel-wise": "Adds a loss on *where* in a crop each class is, not only on what each pixel is.",
    "augmented": "Two crops without labels for each labelled one, and the student sees them pasted, recoloured and blurred.",
    "pseudo-labels": "The classes that the teacher is sure of are labels of imagery without any: a baseline.",
    "mean-teacher": "No teacher: the student's own averaged weights say what is in imagery without labels. A baseline.",
    "own": "Every part is set by you: temperature and alpha here, the rest under **More settings**.",
}
NO_UNLABELLED = (
    "A recipe like *unlabelled* needs imagery without labels: put some into the folder `unlabelled/` of these data."
)
MIXES = {"none": "None", "cutmix": "Paste a rectangle of another crop", "mixup": "Blend two crops"}
AUGMENTED = {"none": "None", "unlabelled": "Of crops without labels", "all": "Of all crops"}
VIEWS = {"eight": "for eight views", "one": "for one view, turned to fit"}
MATCHES = {"steps": "as many steps as the distilled one", "seconds": "as much time as the distilled one"}
TASKS = {"cross_entropy": "Cross entropy", "cross_entropy+dice": "Cross entropy and Dice"}
DISTILLATIONS = {name: method.label for name, method in CHOICES.items()}

LIVE = "Trains the demo study on this machine, now: a teacher and two students, a few minutes on two cores. You can watch, and close the page."
NO_EXAMPLE = "No study is finished yet. **Run it live** trains one on this machine in a few minutes, on a demo area that needs no download."
WATCHED = "One place of the validation part, as every network sees it. No network is trained on it. Each picture is renewed when its network is validated."
NO_RACE = (
    "How fast these networks are was not measured yet. Measure it on the **Deploy** page, or let both of them map the ground on this machine "
    "now: that takes a few seconds for small networks."
)
RACE_LIVE = "Live, on this machine"
RACE_LIVE_HELP = (
    "Runs both networks over every tile of this ground on this machine, and shows the times that they took. A training that runs meanwhile "
    "slows both down."
)
RACE_TIMES = "Recorded: from the speeds that the Deploy page measured, both networks in the same engine. Live: every tile timed on this machine."
RACE_RECORDED = "Each tile takes its share of the speed that was measured; tiles overlap by 32 px on each side. Scores are the study's, in PyTorch."
RACE_STAND_IN = (
    "The expert's weights are not on this machine, so a network of the same architecture with other weights was timed: the time does not depend "
    "on them. The map is the expert's own."
)
RACE_FLIPS = "The expert's score is an average over eight flips and rotations of each tile; its time is that of one."
RACE_FLIPS_RUN = "The expert is an average over eight flips and rotations of each tile, all of which were timed."
MAP_HELP = """
Drag the line, or reach its handle with the tab key and move it with the arrow keys. Click a pixel to see what every network makes of it. The address
above keeps this view: copy it to show it to someone.
"""
STREETS = """
OpenStreetMap's streets, drawn around the scene. Your browser asks its servers for them, so they learn where you look. Nothing else here needs the
internet.
"""
