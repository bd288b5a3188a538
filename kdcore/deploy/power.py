"""Mean power of the processor or GPU while something runs, where the machine tells. Never imports torch."""

import shutil
import subprocess
import time
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SECONDS = 10.0  # that nvidia-smi may take


class Meter:
    """Adds up energy over intervals: `begin`, work, `end`, as often as one likes; then `watts`.

    A processor counts the energy of its packages in microjoules (Intel RAPL, also by AMD); the system often lets only the
    administrator read that. A GPU tells the mean power of the last second.
    """

    def __init__(self, device: str, folder: Path = POWERCAP) -> None:
        self.on_gpu = device == "cuda"
        self.packages = [] if self.on_gpu else packages(folder)
        self.joules = self.seconds = 0.0
        self.draws: list[float] = []
        self.before: list[int] | None = None
        self.started = 0.0

    def begin(self) -> None:
        """Work starts now."""
        self.before, self.started = self.read(), time.perf_counter()

    def end(self) -> None:
        """Work has ended."""
        after, seconds = self.read(), time.perf_counter() - self.started
        if self.on_gpu:
            self.draws += gpu_watts()
        elif self.before and after:
            used = [
                new - old if new >= old else new + largest - old  # the counter starts again at its end
                for old, new, largest in zip(self.before, after, self.largest(), strict=True)
            ]
            self.joules, self.seconds = self.joules + sum(used) / 1e6, self.seconds + seconds

    @property
    def watts(self) -> float | None:
        """Mean power over all intervals; None where nothing is known."""
        if self.on_gpu:
            return sum(self.draws) / len(self.draws) if self.draws else None
        return self.joules / self.seconds if self.seconds else None

    def read(self) -> list[int] | None:
        """The counters in microjoules; None where there are none or they may not be read."""
        try:
            return [int((package / "energy_uj").read_text()) for package in self.packages] or None
        except (OSError, ValueError):
            return None

    def largest(self) -> list[int]:
        """Where each counter starts again."""
        return [int((package / "max_energy_range_uj").read_text()) for package in self.packages]


def packages(folder: Path) -> list[Path]:
    """The counters of whole processors; those of their parts, such as cores, have one more colon in their name."""
    return sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1)


def gpu_watts() -> list[float]:
    """What the first GPU draws now; empty where nobody tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
        return [float(told.splitlines()[0])]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return []
