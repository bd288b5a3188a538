"""From the ids in an address to files. Ids are slugs that are looked up; a path or an address never comes from outside."""

import os
from dataclasses import dataclass
from pathlib import Path

from kdcore.errors import RunError
from kdcore.inference.layer_index import FOLDER, SceneLayers, StudyLayers
from kdcore.inference.uploads import PREFIX, find_upload
from kdcore.jobs.store import list_runs
from kdcore.jobs.workspace import Workspace
from kdcore.settings import SLUG


@dataclass(frozen=True)
class ShownScene:
    """A scene with the files that the map is drawn from.

    Attributes:
        layers: classes and colours of the study.
        scene: where the scene lies.
        imagery: GeoTIFF of the part that is shown.
        truth: classes on the pixels of the whole scene; there is none for a raster of one's own.
        maps: the probabilities of each run that mapped the scene, by the run's name.
    """

    layers: StudyLayers
    scene: SceneLayers
    imagery: Path
    truth: Path | None
    maps: dict[str, Path]

    def map_of(self, run: str) -> Path:
        """The probabilities of a run.

        Raises:
            RunError: there is no such run, or it has not mapped this scene.
        """
        if run not in self.maps:
            raise RunError(f"There is no map of {self.scene.id!r} by a run {run[:100]!r}.")
        return self.maps[run]


def find_scene(study_id: str, scene_id: str) -> ShownScene:
    """Look up a scene of a study in the workspace.

    Raises:
        RunError: there is no such study or scene, or the study has no map yet.
    """
    study = find_study(study_id)
    if scene_id.startswith(PREFIX):
        return uploaded(study_id, scene_id)
    layers = StudyLayers.load(study)
    scene = layers.scene(scene_id)
    folder = study / FOLDER / scene.id
    candidates = {run.path.name: run.maps / f"{scene.name}.tif" for run in list_runs(study / "runs")}
    for path in (folder, *candidates.values()):
        check_inside(path, study)
    return ShownScene(
        layers,
        scene,
        folder / "imagery.tif",
        folder / "truth.tif",
        {run: path for run, path in candidates.items() if path.is_file()},
    )


def check_inside(path: Path, study: Path) -> None:
    """Refuse a study whose files name others: it may have been sent by somebody.

    Raises:
        RunError: a scene's name leads out of the study's folder.
    """
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(study)):
        raise RunError(f"{study.name}: names a file outside the study, so its map is not shown.")


def uploaded(study_id: str, upload_id: str) -> ShownScene:
    """A raster of one's own that the study's networks have marked.

    Raises:
        RunError: there is no such upload for this study, or it is not finished.
    """
    upload = find_upload(Workspace(), upload_id)
    if upload.status.study != study_id:
        raise RunError(f"There is no scene {upload_id[:100]!r} in this study.")
    layers = upload.layers
    return ShownScene(layers, layers.scene(upload_id), upload.imagery, None, upload.probabilities())


def find_study(study_id: str) -> Path:
    """The folder of a study of the workspace.

    Raises:
        RunError: there is none.
    """
    if not SLUG.fullmatch(study_id):
        raise RunError(f"{study_id[:100]!r} is no study's name.")
    try:
        return Workspace().study(study_id).path
    except RunError as error:  # which names the workspace's folder and other studies
        raise RunError(f"There is no study {study_id[:100]!r}.") from error
