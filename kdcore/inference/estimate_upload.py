"""`python -m kdcore.inference.estimate_upload FILE NAME MAPS`: areas from a stranger's sample, read where it can do no harm.

MAPS is a JSON object: the file of each map to judge, by its name. Prints what `kdcore.inference.area_sample.estimate` gives, as JSON.
"""

import json
import sys
from pathlib import Path

from kdcore.errors import KdcoreError
from kdcore.inference.area_sample import estimate
from kdcore.inference.check_upload import limit
from kdcore.inference.uploads import REFUSED

if __name__ == "__main__":
    limit()
    maps = {name: Path(file) for name, file in json.loads(sys.argv[3]).items()}
    try:
        text, code = json.dumps(estimate(Path(sys.argv[1]), maps)), 0
    except KdcoreError as error:
        text, code = str(error).replace(sys.argv[1], sys.argv[2]), REFUSED
        for name, file in maps.items():
            text = text.replace(str(file), name)
    sys.stdout.buffer.write(text.encode())
    sys.exit(code)
