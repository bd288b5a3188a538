"""How a training on a CPU holds its memory."""

import ctypes

GIBIBYTE = 1 << 30
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # of <malloc.h>


def keep_freed_memory() -> bool:
    """Let this process keep what a step frees for the next step, instead of giving it back and having it cleared again.

    glibc hands maps of more than 32 MB back at once, and the kernel clears each page anew: a sixth of a small network's step went
    there. The process grows to its largest step and stays there until it ends. Other C libraries are left as they are.

    Returns:
        Whether the C library took the settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {MMAP_THRESHOLD: GIBIBYTE, TRIM_THRESHOLD: 2 * GIBIBYTE - 1, TOP_PAD: GIBIBYTE // 16}
    taken = [bool(mallopt(name, value)) for name, value in settings.items()]
    return all(taken)
