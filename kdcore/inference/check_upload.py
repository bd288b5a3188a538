"""`python -m kdcore.inference.check_upload FILE NAME`: reads the header of a stranger's file where it can do no harm."""

import sys
from contextlib import suppress
from pathlib import Path

from kdcore.errors import DataError
from kdcore.inference.uploads import CHECK_SECONDS, REFUSED, check_geotiff

MOST_MEMORY = 4_000_000_000  # bytes of address space, what the libraries take included


def limit() -> None:
    """Allow this process so much memory and time, and no more; on Windows only the caller's limit on time holds."""
    with suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CHECK_SECONDS, CHECK_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    limit()
    try:
        check_geotiff(Path(sys.argv[1]), sys.argv[2])
    except DataError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.exit(REFUSED)
