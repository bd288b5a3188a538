"""What does each part of the cache of soft labels cost?

    OMP_NUM_THREADS=1 python benchmarks/soft_label_cache.py [--teacher light] [--save]        # two minutes on one core

The demo area and a teacher with random weights; seconds of the processor. *Computing* is done once for all seeds, students and studies;
the rest is done at each start of a run. Decided by these numbers:

- **Two numbers of views** stay: one view takes an eighth of the disk and a fraction of the time; eight are what the teacher says of the very
  view (`soft_label_views.py` measures what a student gains).
- **Comparing one window in eight with a second view** tells what one view loses; comparing each window doubled the computing.
- **One checksum a region** stays: it costs little beside reading the same bytes for the crops, and finds what a disk lost. Checksums of each
  view, for looking at a part of a large region only, went.
- **Asking the network again about three windows at each start** went: it costs more than all checksums, and finds only what the folder's name
  (weights, data, windows, device, format) should have told.
- **Deleting what was not used for longest** stays: without it a full folder makes every later study ask its teacher at each step,
  1.5 times a step's time (`soft_labels.py`).
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from measuring import parser, publish, table
from soft_labels import BUDGET, served

from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.data.survey import survey
from kdcore.teacher import store
from kdcore.teacher.soft_labels import regions_of
from kdcore.teacher.store import Store, Stored, in_words, make_room
from kdcore.teacher.views import Member, tiles_of


def seconds(do: Callable[[], object]) -> str:
    """Of the processor, all threads together."""
    started = time.process_time()
    do()
    return f"{time.process_time() - started:.2f}"


def parts(collection: Collection, one: Store, member: Member) -> list[tuple[str, str]]:
    """What a start of a run does, or did, with soft labels of eight views that are there."""
    rng = np.random.default_rng(0)

    def ask_again() -> None:
        for index in rng.integers(len(one.regions), size=3):
            region = one.regions[int(index)]
            tile = tiles_of(region)[int(rng.integers(len(tiles_of(region))))]
            member.ask(member.read(region, tile).image, 0, False)

    def hold() -> None:
        with ExitStack() as stack:
            make_room(one.folder.parent, [one], 20.0, stack)

    store.checksum.cache_clear()
    return [
        (f"checksums of {in_words(one.bytes)}, once a process", seconds(lambda: one.remove_damaged(print))),
        ("the same again in this process", seconds(lambda: one.remove_damaged(print))),
        ("making room and holding it", seconds(hold)),
        ("mapping the files", seconds(lambda: Stored(one))),
        ("asking the network again about three windows (left out)", seconds(ask_again)),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--teacher", default="light")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        collection = Collection.open(write_demo(folder / "area", 0))
        found = survey(collection, BUDGET.crop)
        regions = regions_of(found, False)
        windows = sum(len(tiles_of(region)) for region in regions)
        computed = []
        for views in (1, 8):
            with ExitStack() as stack:
                started = time.process_time()
                kept, teacher = stack.enter_context(
                    served(folder, collection, found, options.teacher, "one" if views == 1 else "eight")
                )
                computed.append((views, windows, in_words(kept.bytes), f"{time.process_time() - started:.1f}"))
        member = Member(teacher.members[0], collection.reader)
        mine = next(
            one
            for place in (folder / "answers").iterdir()
            if place.is_dir() and not (one := Store(place, collection.root, regions, member.channels, 8)).unfinished()
        )
        rows = parts(collection, mine, member)
    body = (
        table(("views", "windows", "on the disk", "computing, s"), computed)
        + "\n\n"
        + table(("at each start, eight views", "s"), rows)
    )
    publish("soft_label_cache", "What the parts of the cache of soft labels cost", body, options.save)


if __name__ == "__main__":
    main()
