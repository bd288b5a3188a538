"""What a map can be asked to show: layers with their names, colours and the address of their tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kdcore.inference.layer_index import Bounds, SceneLayers

ROOT = "../.."  # from the frames that maps are drawn in (/component/NAME/index.html, /leaflet/kdcore/map.html) to the dashboard
DEEPER = 4  # zoom levels beyond the one at which a pixel of the map is one of the scene

Focus = tuple[str, Bounds]
"""A rectangle to look at, and a key: the map moves there once for each key."""
Kind = Literal["imagery", "truth", "mask", "probability", "disagreement"]
Mode = Literal["swipe", "side"]

# Only the first run is right, only the second is, both are wrong: also distinct with colour blindness, and no class has them.
DISAGREEMENT_COLOURS = ("#00FFFF", "#8A00E6", "#000000")
# Equally spaced from probability 0 to 1, dark to light (matplotlib's viridis).
PROBABILITY_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725")


@dataclass(frozen=True)
class LegendEntry:
    """A colour with its name. `hide` is the index of the class that a person can switch off, None where it cannot be."""

    name: str
    colour: str
    hide: int | None = None


@dataclass(frozen=True)
class MapLayer:
    """One layer over the imagery, or the imagery alone.

    Attributes:
        name: shown to people; any text.
        kind: what it is.
        path: of its tiles in the server, with {z}, {x} and {y}; empty for the imagery alone, which lies under every layer.
        legend: its colours with their names.
        threshold: whether the threshold changes it.
        sentence: what a person sees in it, for people who do not program.
    """

    name: str
    kind: Kind
    path: str
    legend: tuple[LegendEntry, ...] = ()
    threshold: bool = False
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the browser."""
        return asdict(self)


@dataclass(frozen=True)
class StudyMapLayers:
    """Makes the layers of one scene of a study.

    Attributes:
        study, scene: ids in the addresses.
        classes, colours: of all classes.
        version: changes when what is shown does, so that browsers may keep tiles.
        hidden: classes that are switched off when the map opens.
    """

    study: str
    scene: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    version: str = "0"
    hidden: tuple[int, ...] = ()

    @property
    def binary(self) -> bool:
        """Whether there are two classes: then a threshold decides."""
        return len(self.classes) == 2

    def imagery(self) -> MapLayer:
        """Nothing over the imagery."""
        return MapLayer("Imagery", "imagery", "", sentence="the imagery alone")

    def background(self, bands: Sequence[int] = ()) -> str:
        """Path of the imagery's own tiles, which lie under every layer; drawn with bands of these numbers, else with the usual ones."""
        return self._path("imagery") + (f"&bands={','.join(map(str, bands))}" if bands else "")

    def truth(self) -> MapLayer:
        """The labels."""
        return MapLayer(
            "Truth", "truth", self._path("truth"), self._classes(), sentence="the truth, as people labelled it"
        )

    def mask(self, run: str, name: str) -> MapLayer:
        """The classes that a run decides on."""
        return MapLayer(
            name, "mask", self._path(f"mask-{run}"), self._classes(), self.binary, f"what the {lower(name)} marked"
        )

    def probability(self, run: str, name: str, index: int) -> MapLayer:
        """How probable a run finds a class."""
        steps = ("0 %", "25 %", "50 %", "75 %", "100 %")
        legend = tuple(LegendEntry(step, colour) for step, colour in zip(steps, PROBABILITY_COLOURS, strict=True))
        return MapLayer(
            f"{name}: probability of {self.classes[index]}",
            "probability",
            self._path(f"probability-{run}-{index}"),
            legend,
            sentence=f"how sure the {lower(name)} is of {self.classes[index]}",
        )

    def disagreement(self, first: str, second: str, names: tuple[str, str], title: str) -> MapLayer:
        """Where two runs differ from the truth."""
        texts = (f"only the {lower(names[0])} is right", f"only the {lower(names[1])} is right", "both are wrong")
        return MapLayer(
            title,
            "disagreement",
            self._path(f"disagreement-{first}-{second}"),
            tuple(LegendEntry(text, colour) for text, colour in zip(texts, DISAGREEMENT_COLOURS, strict=True)),
            self.binary,
            f"colours show where the {lower(names[0])} or the {lower(names[1])} is wrong",
        )

    def point(self) -> str:
        """Path that tells a pixel's probabilities."""
        return f"point/{self.study}/{self.scene}"

    def _path(self, layer: str) -> str:
        return f"tiles/{self.study}/{self.scene}/{layer}/{{z}}/{{x}}/{{y}}.png?v={self.version}"

    def _classes(self) -> tuple[LegendEntry, ...]:
        return tuple(
            LegendEntry(name, colour, index)
            for index, (name, colour) in enumerate(zip(self.classes, self.colours, strict=True))
        )


def map_base(
    scene: SceneLayers,
    layers: StudyMapLayers,
    runs: Mapping[str, str],
    *,
    basemap: bool = False,
    linked: bool = False,
    simple: bool = False,
) -> dict[str, Any]:
    """What the map's script begins with: a scene, without layers yet.

    Args:
        scene: where it lies.
        layers: makes the addresses of its tiles.
        runs: name on screen of each run that a click tells about, by the run's own name.
        basemap: whether OpenStreetMap, from the internet, is drawn around the scene.
        linked: whether the page's address takes over view and threshold, and gives them back where it is opened.
        simple: a picture within a page: without sliders and zoom by wheel; its handle moves once by itself.
    """
    return {
        "root": ROOT,
        "study": layers.study,
        "scene": layers.scene,
        "title": scene.name,
        "point": layers.point(),
        "bounds": scene.bounds,
        "native": scene.zoom,
        "deepest": scene.zoom + DEEPER,
        "options": {
            "zoomSnap": 0,
            "maxZoom": scene.zoom + DEEPER,
        },  # steps would leave up to a third of the frame empty
        "unit": scene.unit,
        "crs": scene.crs_name if scene.georeferenced else "",
        "note": "" if scene.georeferenced else f"No georeference: flat map in {scene.unit}",
        "runs": [{"run": run, "name": name} for run, name in runs.items()],
        "hidden": layers.hidden,
        "basemap": basemap and scene.georeferenced,
        "linked": linked,
        "simple": simple,
    }


def map_wanted(
    mode: Mode, left: MapLayer, right: MapLayer, focus: Focus | None = None, *, photo: str
) -> dict[str, Any]:
    """What the map's script is to show: two layers with a handle between them, or two maps that move together, a layer on each.

    `photo` is the path of the imagery's tiles, which lie under both.
    """
    looked_at = None if focus is None else {"key": focus[0], "bounds": focus[1]}
    return {"mode": mode, "left": left.to_dict(), "right": right.to_dict(), "photo": photo, "focus": looked_at}


def swatch_html(colour: str) -> str:
    """A small box in a class's colour, to stand before its name."""
    return f'<span aria-hidden="true" class="kdcore-swatch" style="background:{colour}"></span>'


def lower(name: str) -> str:
    """A name inside a sentence: 'Distilled student' becomes 'distilled student'."""
    return name[:1].lower() + name[1:]


def hidden_at_first(classes: Sequence[str], shares: Mapping[str, float]) -> tuple[int, ...]:
    """Classes that are switched off when a map opens, so that the imagery is seen: the background, or else the most common class.

    Args:
        classes: names of all.
        shares: of the labelled pixels, by name; those of classes that are not scored are left out.
    """
    if len(classes) == 2:
        return (0,)
    known = [shares.get(name) or 0.0 for name in classes]
    return (known.index(max(known)),) if any(known) else ()
