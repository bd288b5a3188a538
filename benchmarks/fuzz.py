"""Fuzzing of the program's own file formats with atheris (libFuzzer): every file gives a value or one sentence.

    pip install atheris && OMP_NUM_THREADS=1 python benchmarks/fuzz.py --seconds 120 --save

Each format starts from sound files and lets coverage lead the way, in a process of its own. A find is anything else than a value or a
`KdcoreError` whose message is short enough, more than 2 GiB, or 20 seconds without an end; its bytes are kept in `fuzz-finds/`.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measuring import ROOT, parser, publish, table

EXAMPLE = ROOT / "kdcore/example"
RUN = EXAMPLE / "runs/alone-s0"
FINDS = Path("fuzz-finds")
DONE = re.compile(r"Done (\d+) runs")
COVERAGE = re.compile(r"cov: (\d+)")


def targets() -> dict[str, tuple[Callable[[Path], object], str, list[bytes]]]:
    """For each format what reads it, its file's name, and sound files to begin with."""
    from kdcore.evaluation.scores import Scores
    from kdcore.inference.layer_index import StudyLayers
    from kdcore.jobs.small_files import read_json
    from kdcore.jobs.status import Status
    from kdcore.jobs.store import RunDirectory
    from kdcore.jobs.study_folder import About, StudyFolder, read_report
    from kdcore.models.checkpoint import load_tensors
    from kdcore.models.onnx_graph import read_graph
    from kdcore.settings import CollectionSettings, StudySettings, load

    def sound(*files: Path) -> list[bytes]:
        return [file.read_bytes() for file in files]

    return {
        "collection.yaml": (lambda file: load(CollectionSettings, file), "collection.yaml", sound(*ROOT.glob("benchmarks/collections/*.yaml"))),
        "study.yaml": (lambda file: load(StudySettings, file), "study.yaml", sound(EXAMPLE / "study.yaml")),
        "about.json": (lambda file: read_json(About, file), "about.json", sound(EXAMPLE / "about.json")),
        "job.json": (lambda file: read_json(Status, file), "job.json", [b'{"format": 2, "state": "finished"}']),
        "report.json": (read_report, "report.json", sound(EXAMPLE / "report.json")),
        "layers.json": (lambda file: read_json(StudyLayers, file), "layers.json", sound(EXAMPLE / "layers/layers.json")),
        "metrics.jsonl": (lambda file: RunDirectory(file.parent).read_metrics(100), "metrics.jsonl", sound(RUN / "metrics.jsonl")),
        "a study's folder": (lambda file: StudyFolder(file.parent).job, "study.yaml", sound(EXAMPLE / "study.yaml")),
        "scores.npz": (Scores.load, "scores.npz", sound(RUN / "scores.npz")),
        "checkpoint": (load_tensors, "best.safetensors", sound(RUN / "checkpoints/best.safetensors")),
        "ONNX graph": (read_graph, "network.onnx", [small_network()]),
    }  # fmt: skip


def small_network() -> bytes:
    """An ONNX file: one convolution, logits of two classes."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", bands, "h", "w"])
        for name, bands in (("image", 3), ("logits", 2))
    ]
    node = helper.make_node("Conv", ["image", "w"], ["logits"])
    made: bytes = helper.make_model(
        helper.make_graph([node], "small", ends[:1], ends[1:], [weight])
    ).SerializeToString()
    return made


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one format in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["kdcore"]):
        read, file_name, sound = targets()[name]
        from kdcore.errors import LONGEST, KdcoreError

    place = folder / "case" / file_name
    (folder / "sound").mkdir(parents=True)
    place.parent.mkdir()
    for number, data in enumerate(sound):
        (folder / "sound" / str(number)).write_bytes(data)

    def once(data: bytes) -> None:
        place.write_bytes(data)
        try:
            read(place)
        except KdcoreError as error:
            if len(str(error)) > LONGEST:
                raise RuntimeError(f"a message of {len(str(error))} characters") from error

    limits = [
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={FINDS.absolute()}/",
    ]
    atheris.Setup([name, str(folder / "sound"), f"-max_len={2 * max(map(len, sound))}", *limits], once)
    atheris.Fuzz()


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=int, default=60, help="for each format")
    arguments.add_argument("--one", help="fuzz this format only, in this process")
    arguments.add_argument("--folder", type=Path, help="for the files of --one")
    given = arguments.parse_args()
    FINDS.mkdir(exist_ok=True)
    if given.one:
        fuzz(given.one, given.seconds, given.folder)
        return
    rows, finds = [], 0
    for name in targets():
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                "--seconds",
                str(given.seconds),
                "--folder",
                f"{folder}/x",
            ]
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        done, coverage = DONE.search(run.stderr), COVERAGE.findall(run.stderr)
        finds += run.returncode != 0
        found = "-" if run.returncode == 0 else (run.stdout + run.stderr).strip().splitlines()[-1][:200]
        rows.append([name, done[1] if done else "", coverage[-1] if coverage else "", found])
        print(rows[-1], file=sys.stderr, flush=True)
    body = table(["format", "inputs", "branches covered", "found"], rows)
    publish("fuzz", "Fuzzing of the program's own files", f"{body}\n\n{finds} finds.", given.save)


if __name__ == "__main__":
    main()
