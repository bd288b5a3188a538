"""A deployment's record with numbers chosen by hand, and a folder that holds it, for tests that need no export."""

from pathlib import Path

from kdcore.deploy.record import INDEX, Deployment, Difference, EngineName, EngineSpeed, Form, Kind
from kdcore.files import write_json
from kdcore.settings import Arm

REFUSED = "mean AP falls by 2.4 points (1.9 to 2.9) on validation; 1.0 is allowed"
PARAMETERS = {"teacher": 6_265_293, "alone": 143_157, "distilled": 143_157}
MACS = {"teacher": 26_000.0, "alone": 1_250.0, "distilled": 1_250.0}
MEGABYTES = {"teacher": 25.0, "alone": 0.6, "distilled": 0.6}
AP = {"teacher": 0.789, "alone": 0.679, "distilled": 0.693}


def speed(engine: EngineName, megapixels: float, watts: float | None = None) -> EngineSpeed:
    """A speed on tiles of 512 px: 0.262144 megapixels each."""
    return EngineSpeed(
        engine=engine, device="cpu", milliseconds=262.144 / megapixels, megapixels_per_second=megapixels,
        peak_mb={"torch": 800, "onnxruntime": 300, "openvino": 400, "openvino-bf16": 400}[engine], watts=watts,
    )  # fmt: skip


def form(arm: Arm, kind: Kind, *speeds: EngineSpeed, points: float | None = None, refused: str = "") -> Form:
    """A form of an arm; `points` is its difference on validation, with an interval of half a point to both sides."""
    difference = None if points is None else Difference(points=points, low=points - 0.5, high=points + 0.5)
    return Form(
        arm=arm,
        run=f"{arm}-s0",
        kind=kind,
        file="" if kind == "torch" or refused else f"{arm}{'-int8' if kind == 'int8' else ''}.onnx",
        megabytes=MEGABYTES[arm] / (4 if kind == "int8" else 1),
        parameters=PARAMETERS[arm],
        macs_per_pixel=MACS[arm],
        mean_ap=None if refused else AP[arm] + (points or 0.0) / 100,
        mean_iou=None,
        difference=difference,
        flips=None if kind == "torch" else 0.0 if kind == "onnx" else 0.0123,
        largest_difference=None if kind == "torch" else 1.2e-6 if kind == "onnx" else 0.11,
        refused=refused,
        speeds=speeds,
    )


def with_bfloat16(deployment: Deployment) -> Deployment:
    """The same where the processor computes in bfloat16: the distilled student at 7.5 megapixels a second, the others refused."""
    more = {
        "teacher": form("teacher", "bf16", points=-2.4, refused=REFUSED),
        "alone": form("alone", "bf16", points=-2.4, refused=REFUSED),
        "distilled": form("distilled", "bf16", speed("openvino-bf16", 7.5), points=-0.2),
    }
    forms = [part for each in deployment.forms for part in ([each, more[each.arm]] if each.kind == "onnx" else [each])]
    return deployment.model_copy(update={"forms": tuple(forms)})


def make_deployment(study: str = "town", *, teacher: bool = True, watts: float | None = None) -> Deployment:
    """The teacher at 0.5 megapixels a second in PyTorch, the distilled student at 6.2 as int8 in OpenVINO, which loses 0.4 points."""
    forms = [
        form("alone", "torch", speed("torch", 1.5)),
        form("alone", "onnx", speed("openvino", 4.0), speed("onnxruntime", 3.0), points=0.0),
        form("alone", "int8", refused=REFUSED, points=-2.4),
        form("distilled", "torch", speed("torch", 1.55, watts)),
        form("distilled", "onnx", speed("openvino", 4.1), speed("onnxruntime", 3.1), points=0.0),
        form("distilled", "int8", speed("openvino", 6.2, watts), speed("onnxruntime", 3.5), points=-0.4),
    ]
    if teacher:
        forms = [
            form("teacher", "torch", speed("torch", 0.5, watts)),
            form("teacher", "onnx", speed("openvino", 0.9), speed("onnxruntime", 0.7), points=0.0),
            form("teacher", "int8", speed("openvino", 1.9), speed("onnxruntime", 0.8), points=-0.1),
            *forms,
        ]
    return Deployment(
        study=study,
        machine="Test processor",
        threads=2,
        tile=512,
        metres_per_pixel=0.5,
        measured=1.79e9,
        versions={"torch": "2.14.0", "onnxruntime": "1.32.0", "openvino": "2026.4.0"},
        margin=1.0,
        forms=tuple(forms),
    )


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """The record, and small files in the place of the networks and their descriptions."""
    for each in deployment.forms:
        if each.file:
            for suffix in (".onnx", ".stac.json", ".md"):
                path = folder / f"{Path(each.file).stem}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{path.name} of {each.arm}")
    write_json(folder / INDEX, deployment.model_dump(mode="json"))
