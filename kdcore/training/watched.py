"""A picture to watch: what the network in training makes of one crop of the validation part, renewed at every validation.

It changes nothing of the training: the network is asked once more in evaluation mode, without gradients, and no random number is drawn.
`photo.jpg` and `truth.png` are written once; `prediction.png` says in its text `step` after which step it was made.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kdcore.data.collection import Collection, positions
from kdcore.data.masks import IGNORE
from kdcore.data.scene import Box, Scene
from kdcore.data.survey import class_counts, spread
from kdcore.errors import KdcoreError
from kdcore.files import replacing
from kdcore.jobs.store import RunDirectory
from kdcore.models.networks import SegmentationNetwork, computing_on
from kdcore.models.tiled import without_gaps
from kdcore.settings import class_colours
from kdcore.views.pictures import show_imagery, show_labels

SIDE = 192  # pixels: asking about them takes less than a hundredth of the steps between two validations
CANDIDATES = 12  # crops among which the one with most to see is chosen


@dataclass
class Watched:
    """Draws what a network makes of the crop.

    Attributes:
        run: gets the pictures.
        collection: the data.
        buffer: pixels that the validation part keeps away from the test part.
        device: where the network is.
    """

    run: RunDirectory
    collection: Collection
    buffer: int
    device: torch.device
    _image: NDArray[np.float32] | None = field(default=None, init=False)

    def __call__(self, network: SegmentationNetwork, step: int) -> None:
        """Renew the picture. One that cannot be drawn or written is no reason to end a training."""
        with suppress(KdcoreError):
            if self._image is None:
                self._image = self._begin(network.fill)
            if self._image is not None:
                classes = self._ask(network, self._image)
                self._write("prediction.png", show_labels(classes, self._colours), {"step": str(step)})

    @property
    def _colours(self) -> list[str]:
        return class_colours([entry.colour for entry in self.collection.settings.classes])

    def _begin(self, fill: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The imagery of the crop, (bands, height, width), once photo and truth are written; None without a validation part."""
        place = choose_crop(self.collection, self.buffer)
        if place is None:
            return None
        crop = self.collection.reader.read(*place)
        self._write("photo.jpg", show_imagery(crop.image, crop.valid))
        self._write("truth.png", show_labels(crop.labels, self._colours))
        return without_gaps(crop, fill).image

    @torch.no_grad()
    def _ask(self, network: SegmentationNetwork, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The classes (height, width) that a network decides on; it is in evaluation mode afterwards, as after a validation."""
        network.eval()
        with computing_on(self.device):
            (logits,) = network(torch.from_numpy(image[None]).to(self.device))
        predicted = (logits[0] > 0) if len(logits) == 1 else logits.max(dim=0).indices
        classes: NDArray[np.uint8] = predicted.cpu().numpy().astype(np.uint8)
        return classes

    def _write(self, name: str, picture: NDArray[np.uint8], said: dict[str, str] | None = None) -> None:
        """Write a picture (height, width, 3) in one step, with texts where it is a PNG.

        Raises:
            KdcoreError: the disk is full or the folder cannot be written to.
        """
        texts = PngInfo()
        for key, value in (said or {}).items():
            texts.add_text(key, value)
        with replacing(self.run.watched / name) as temporary:
            Image.fromarray(picture).save(temporary, **({"quality": 85} if said is None else {"pnginfo": texts}))


def choose_crop(collection: Collection, buffer: int) -> tuple[Scene, Box] | None:
    """The crop of the validation part, at most `SIDE` pixels wide and tall, whose labels are most varied; None where there is none.

    Of at most `CANDIDATES` that are spread evenly; the same for every run of a study.
    """
    places = list(positions(collection, "validation", SIDE, SIDE, buffer))
    whole = [place for place in places if place[1].area == SIDE**2]
    candidates = spread(whole or places, CANDIDATES)
    return max(candidates, key=lambda place: variety(collection, *place), default=None)


def variety(collection: Collection, scene: Scene, box: Box) -> float:
    """Entropy of the classes in a crop, nats; pixels without label or data weigh against it."""
    labels = collection.reader.read(scene, box).labels
    shares = class_counts(labels, len(collection.settings.classes)) / labels.size
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() * (labels != IGNORE).mean())
