"""Predicts a raster in this process with small caches and prints its largest memory, in MB."""

import os
import resource
import sys
from pathlib import Path

os.environ["GDAL_CACHEMAX"] = "16"

from kdcore.inference import source
from tests.inference.engines import Known, first_band, predict

source.CACHE_MB = 16
predict(Path(sys.argv[1]), Path(sys.argv[2]), Known(first_band), blend=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
