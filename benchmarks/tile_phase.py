"""How much do a network's labels depend on where its tiles begin, and on how much they see around what they answer for?

    OMP_NUM_THREADS=1 python benchmarks/tile_phase.py [--checkpoint FILE] [--save]        # a minute on one core

The example study's distilled student (`unet` with `tu-regnetx_002`, stride 8) maps a test district of the demo area in tiles of 512 px,
once from the district's corner and once from rows and columns further in. *Other label*: share of the pixels whose most probable class
differs. *Other halo* compares tiles that begin at the corner with the same tiles and a halo of 64 px.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import parser, publish, table
from numpy.typing import NDArray

from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.data.scene import Box, Crop, Scene
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import SegmentationNetwork
from kdcore.models.tiled import looks, make_grid, without_gaps

EXAMPLE = Path(__file__).parents[1] / "kdcore/example/runs/distilled-s0/checkpoints/best.safetensors"
SHIFTS = (0, 32, 64, 16, 8, 1)
OVERLAPS = (13, 25)  # per cent: tiles begin at multiples of 446 and of 384 px
TILE = 512


@torch.no_grad()
def labels(network: SegmentationNetwork, collection: Collection, scene: Scene, shift: int, halo: int = 32) -> NDArray:
    """Classes of a scene without its first `shift` rows and columns, in tiles that begin there."""
    height, width = scene.height - shift, scene.width - shift
    tiles = make_grid(height, width, TILE, halo).tiles()
    found = np.empty((height, width), dtype=np.uint8)

    def read(index: int) -> Crop:
        window = tiles[index].window
        box = window._replace(row=window.row + shift, column=window.column + shift).intersection(scene.box)
        return without_gaps(collection.reader.read(scene, box), network.fill)

    for tile, (_, logits) in zip(
        tiles, looks(read, len(tiles), lambda images: network(torch.from_numpy(images))), strict=True
    ):
        found[tile.kept.within(Box(0, 0, height, width))] = logits[:, *tile.inner].argmax(dim=0).numpy()
    return found


@torch.no_grad()
def plugin_labels(network: SegmentationNetwork, collection: Collection, scene: Scene, overlap: int) -> NDArray:
    """Classes of a scene in tiles that overlap by so many pixels, half of which is cut away on each side but the scene's own."""
    found = np.empty((scene.height, scene.width), dtype=np.uint8)
    cut = overlap // 2
    for row in range(0, scene.height, TILE - overlap):
        for column in range(0, scene.width, TILE - overlap):
            box = Box(row, column, TILE, TILE)
            image = np.broadcast_to(network.fill[:, None, None], (len(network.fill), TILE, TILE)).astype(np.float32)
            inside = box.intersection(scene.box)
            image[:, : inside.height, : inside.width] = collection.reader.read(scene, inside).image
            classes = network(torch.from_numpy(image[None])).argmax(dim=1)[0].numpy()
            top, left = (cut if row else 0), (cut if column else 0)
            found[row + top : row + TILE, column + left : column + TILE] = classes[
                top : inside.height, left : inside.width
            ]
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--checkpoint", type=Path, default=EXAMPLE)
    options = arguments.parse_args()
    network = load_network(options.checkpoint)[0].eval()
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection.open(write_demo(Path(folder)))
        scene = collection.regions("test")[0].scene
        whole = labels(network, collection, scene, 0)
        rows = []
        for shift in SHIFTS[1:]:
            other = labels(network, collection, scene, shift) != whole[shift:, shift:]
            inner = other[64:-64, 64:-64]
            rows.append([f"tiles begin {shift} px further in", f"{other.mean():.2%}", f"{inner.mean():.2%}"])
        others = {"a halo of 64 px instead of 32": labels(network, collection, scene, 0, 64)}
        for percent in OVERLAPS:
            name = f"as Deepness cuts tiles with an overlap of {percent} %"
            others[name] = plugin_labels(network, collection, scene, int(TILE * percent / 100))
        for name, found in others.items():
            other = found != whole
            rows.append([name, f"{other.mean():.2%}", f"{other[64:-64, 64:-64].mean():.2%}"])
    body = table(["", "other label", "other label, 64 px and more from the border"], rows)
    publish("tile_phase", "How much labels depend on where tiles begin", body, options.save)


if __name__ == "__main__":
    main()
