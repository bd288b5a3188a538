"""The map on a page: which layers there are, what they mean in a sentence, and drawing it."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from kdcore.errors import RunError
from kdcore.inference.layer_index import FOLDER, INDEX, Bounds, SceneLayers, StudyLayers
from kdcore.inference.uploads import Upload
from kdcore.jobs.plan import planned_runs, run_name, teacher_run
from kdcore.jobs.study_folder import StudyFolder
from kdcore.server.reading import warm_up
from kdcore.ui.formatting import plain
from kdcore.ui.study_picker import choose_study
from kdcore.views.arms import ARM_NAMES
from kdcore.views.map_layers import MapLayer, Mode, StudyMapLayers, hidden_at_first, map_base, map_wanted

HERE = Path(__file__).parent
HEIGHT = 320  # pixels at least; a map grows with the window
ABOVE = 300  # pixels of a page that lie above and below its map

COMPARISONS = {
    "disagreement": ("teacher", "distilled", "Teacher or distilled?"),
    "distillation": ("alone", "distilled", "Alone or distilled?"),
}
component = st.components.v2.component(
    "kdcore_picture",
    html="<iframe></iframe>",
    css="iframe { display: block; width: 100%; border: 0; color-scheme: normal; }",  # else a dark page gets a white ground
    js=(HERE / "picture.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class MapChoice:
    """What one scene's map can show.

    Attributes:
        scene: where it lies.
        layers: by key: imagery, truth, teacher, alone, distilled, all_labels where it was trained, disagreement, distillation, and
            how sure each run is.
        runs: name on screen of each run, by the run's own name.
        makes: makes addresses.
    """

    scene: SceneLayers
    layers: Mapping[str, MapLayer]
    runs: Mapping[str, str]
    makes: StudyMapLayers


def show_study(title: str, icon: str, show: Callable[[StudyFolder, StudyLayers], None]) -> None:
    """A page about the maps of a study: the choice of one, and what `show` makes of it.

    Args:
        title: what the page answers.
        icon: of the page.
        show: draws the rest, of a study with what its map can show.
    """
    study = choose_study(title, icon)
    if study is None:
        return
    try:
        layers = StudyLayers.load(study.path)
    except RunError as error:
        st.info(plain(str(error)), icon=":material/map:")
        st.page_link("runs.py", label="Look at the studies", icon=":material/folder_open:")
    else:
        show(study, layers)


def arms_of(study: StudyFolder, seed: int | None = None) -> dict[str, str]:
    """The run that stands for each arm: an ensemble for its teachers, and the students of one seed (the first without)."""
    seeds = study.settings.seeds
    seed = seed if seed in seeds else seeds[0]
    students = [run.arm for run in planned_runs(study.settings) if run.arm != "teacher" and run.seed == seed]
    return {"teacher": teacher_run(study.settings).name} | {
        arm: run_name(arm, seed) for arm in ARM_NAMES if arm in students
    }


def seeds_shown(study: StudyFolder) -> tuple[int, ...]:
    """The seeds whose students mapped the scenes; the recorded example keeps the maps of one."""
    seeds = study.settings.seeds
    return tuple(seed for seed in seeds if study.run(run_name("distilled", seed)).maps.is_dir()) or seeds[:1]


def map_choice(
    study: StudyFolder, scene: SceneLayers, seed: int | None = None, names: Mapping[str, str] = ARM_NAMES
) -> MapChoice:
    """All layers of a scene for one seed of the students, under the arms' names on the page."""
    layers, arms = StudyLayers.load(study.path), arms_of(study, seed)
    files = [study.path / FOLDER / INDEX, *(study.path / f"runs/{run}/maps/{scene.name}.tif" for run in arms.values())]
    makes = makes_layers(study, scene, layers, files)
    found = {"imagery": makes.imagery(), "truth": makes.truth()}
    found |= {arm: makes.mask(run, names[arm]) for arm, run in arms.items()}
    for key, (first, second, title) in COMPARISONS.items():
        found[key] = makes.disagreement(arms[first], arms[second], (names[first], names[second]), title)
    return MapChoice(
        scene, found | certainties(makes, arms, layers), {run: names[arm] for arm, run in arms.items()}, makes
    )


def upload_choice(study: StudyFolder, upload: Upload) -> MapChoice:
    """All layers of a raster of one's own: there is no truth, and only the runs whose weights are here.

    Raises:
        RunError: it is not marked yet.
    """
    layers = upload.layers
    marked = upload.probabilities()
    arms = {arm: run for arm, run in arms_of(study).items() if run in marked}
    makes = makes_layers(study, layers.scenes[0], layers, [upload.path / INDEX])
    found = {"imagery": makes.imagery()} | {arm: makes.mask(run, ARM_NAMES[arm]) for arm, run in arms.items()}
    return MapChoice(
        layers.scenes[0],
        found | certainties(makes, arms, layers),
        {run: ARM_NAMES[arm] for arm, run in arms.items()},
        makes,
    )


def makes_layers(study: StudyFolder, scene: SceneLayers, layers: StudyLayers, files: list[Path]) -> StudyMapLayers:
    """What makes the addresses of a scene's layers; they change when one of the files does."""
    newest = max((path.stat().st_mtime_ns for path in files if path.is_file()), default=0)
    version = f"{newest // 1_000_000:x}"
    return StudyMapLayers(study.id, scene.id, layers.classes, layers.colours, version, hidden_classes(study, layers))


def hidden_classes(study: StudyFolder, layers: StudyLayers) -> tuple[int, ...]:
    """Classes that are not drawn at first, see `kdcore.views.map_layers.hidden_at_first`."""
    scored = study.report()["arms"]["teacher"].get("classes", {})
    return hidden_at_first(layers.classes, {name: numbers["prevalence"] for name, numbers in scored.items()})


def certainties(makes: StudyMapLayers, arms: Mapping[str, str], layers: StudyLayers) -> dict[str, MapLayer]:
    """How sure each run is of each class, by 'arm-class'."""
    return {
        f"{arm}-{index}": makes.probability(run, ARM_NAMES[arm], index)
        for arm, run in arms.items()
        for index in layers.scored
    }


def forget_unless(key: str, options: Container[object]) -> None:
    """Forget what was chosen before if this study or scene does not have it; the widget then shows its default."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


def choose_layer(side: str, choice: MapChoice, preferred: str) -> str:
    """Let a person pick the layer of one side; the address keeps it."""
    options = list(choice.layers)
    forget_unless(side.lower(), options)
    chosen: str = st.selectbox(
        side,
        options,
        options.index(preferred) if preferred in options else 0,
        key=side.lower(),
        bind="query-params",
        format_func=lambda key: choice.layers[key].name,
        width=200,
    )
    return chosen


def show_map(
    choice: MapChoice,
    left: str,
    right: str,
    mode: Mode,
    *,
    focus: tuple[str, Bounds] | None = None,
    bands: Sequence[int] = (),
    basemap: bool = False,
) -> None:
    """Draw a scene with a layer on each side; view and threshold stand in the page's address.

    Args:
        choice: from `map_choice`.
        left: key of a layer.
        right: key of the other.
        mode: one map with a handle, or two maps that move together.
        focus: a key and a rectangle in degrees; the map moves there once for each key.
        bands: numbers of those that the imagery is drawn with; the usual ones without.
        basemap: whether OpenStreetMap is loaded from the internet.
    """
    warm_up()
    from streamlit_folium import st_folium  # seconds of import, and pandas: for pages with this map only

    from kdcore.views.maps import scene_map, shown

    with st.container(key="map-frame"):
        st.html(f"<style>.st-key-map-frame iframe {{ height: {height(ABOVE)}; }}</style>")
        st_folium(
            scene_map(choice.scene, choice.makes, choice.runs, basemap=basemap, linked=True),
            # streamlit-folium compares maps without what follows an underscore; the key tells scenes apart that it would not.
            key=f"map {choice.makes.study} {choice.scene.id} {choice.makes.version} {basemap}",
            height=HEIGHT,
            use_container_width=True,
            returned_objects=[],
            feature_group_to_add=shown(
                mode, choice.layers[left], choice.layers[right], focus, photo=choice.makes.background(bands)
            ),
        )


def show_picture(choice: MapChoice, titles: Mapping[str, str], right: str, above: int) -> None:
    """Draw a scene as a picture within a page: the imagery left of a line, a layer right of it.

    Args:
        choice: from `map_choice`.
        titles: of layers, by key; on this page they are called so.
        right: key of the layer.
        above: pixels of the window that picture and legend leave to the rest of the page.
    """
    warm_up()
    left, over = (replace(choice.layers[key], name=titles[key]) for key in ("imagery", right))
    data = {
        "title": f"Picture of {choice.scene.name}",
        "height": height(above),
        "base": map_base(choice.scene, choice.makes, choice.runs, simple=True),
        "wanted": map_wanted("swipe", left, over, photo=choice.makes.background()),
    }
    component(data=[data], key="picture-frame")  # in a list: Streamlit imports pandas to look at what a dict holds


def height(above: int) -> str:
    """Height of a map's frame in CSS: what is left of the window."""
    return f"max({HEIGHT}px, calc(100dvh - {above}px))"


def sentence(left: MapLayer, right: MapLayer, mode: Mode) -> str:
    """What a person sees, in one sentence."""
    if mode == "side":
        return f"On the left {left.sentence}; on the right {right.sentence}. Both maps move together."
    return f"Left of the handle {left.sentence}; right of it {right.sentence}."


def scene_with(layers: StudyLayers, scene_id: str | None) -> SceneLayers:
    """A scene by its id, or the first.

    Raises:
        RunError: there are no scenes.
    """
    if not layers.scenes:
        raise RunError("This study has no scene with test pixels, so there is nothing to show on a map.")
    return next((scene for scene in layers.scenes if scene.id == scene_id), layers.scenes[0])
