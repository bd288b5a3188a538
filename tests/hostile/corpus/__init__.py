"""Hostile and malformed inputs over all doors, made by code: what each is, and what is right."""

from tests.hostile.corpus.addresses import CASES as ADDRESSES
from tests.hostile.corpus.networks import CASES as NETWORKS
from tests.hostile.corpus.onnx import CASES as ONNX
from tests.hostile.corpus.place import Case
from tests.hostile.corpus.rasters import CASES as RASTERS
from tests.hostile.corpus.studies import CASES as STUDIES
from tests.hostile.corpus.texts import CASES as TEXTS
from tests.hostile.corpus.vectors import CASES as VECTORS

ALL: tuple[Case, ...] = (*RASTERS, *VECTORS, *TEXTS, *NETWORKS, *ONNX, *STUDIES, *ADDRESSES)
CASES: dict[str, Case] = {f"{case.door}: {case.name}": case for case in ALL}
assert len(CASES) == len(ALL), "two cases of one name"
