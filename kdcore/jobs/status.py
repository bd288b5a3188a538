"""How far a job is, as its status file says it."""

import time
from typing import Any, Literal

from pydantic import field_validator, model_validator

from kdcore.errors import shortened
from kdcore.jobs.progress import Told
from kdcore.settings import Seconds

State = Literal["queued", "running", "finished", "failed", "stopped", "interrupted", "broken"]
ACTIVE = ("queued", "running")
FORMAT = 2  # of status files: 1 had a stage in words, and other names for states in jobs that were no studies
LAUNCH_SECONDS = 60.0  # after which a process that has not come to life is not expected any more
OLDER_STATES = {"waiting": "queued", "launched": "queued", "ended": "finished"}


class Status(Told):
    """How far a job is, with what it does now.

    Attributes:
        format: of the file.
        state: 'interrupted' and 'broken' are never written: they are what a reader makes of the files.
        message: a sentence for a person: why it failed, what is worth knowing about the result.
        device: 'cpu' or 'cuda' while it waits for one, then those it got, for example 'cuda:0'.
        host: the machine it runs on.
        queued, started, ended, updated: seconds since 1970; `queued` is its place in the queue.
        launched: when a process was last started for it, None if it runs in a terminal.
        seconds: spent working on it, by the clock, over all resumptions.
    """

    format: int = FORMAT
    state: State = "queued"
    message: str = ""
    device: str = ""
    host: str = ""
    queued: Seconds = 0.0
    launched: Seconds | None = None
    started: Seconds | None = None
    ended: Seconds | None = None
    updated: Seconds = 0.0
    seconds: Seconds = 0.0

    @model_validator(mode="before")
    @classmethod
    def read_format_1(cls, values: Any) -> Any:
        """Other names for the same, in files of an older version; a later one is refused rather than misread."""
        if not isinstance(values, dict):
            return values
        written = values.get("format", 1)
        if isinstance(written, int) and written > FORMAT:
            raise ValueError("was written by a later version of kdcore; use that one")
        values = {"queued" if name == "created" else name: value for name, value in values.items()}
        state = str(values.get("state"))
        return values | {"format": FORMAT} | ({"state": OLDER_STATES[state]} if state in OLDER_STATES else {})

    @field_validator("message")
    @classmethod
    def _short(cls, message: str) -> str:
        return shortened(message)

    @property
    def over(self) -> bool:
        """Whether no process works on it, or is expected to."""
        return self.state not in ACTIVE

    @property
    def just_launched(self) -> bool:
        """Whether a process was started for it a moment ago; a time in the future is that of a clock that was set back."""
        return self.launched is not None and lately(self.launched)

    @property
    def needs_process(self) -> bool:
        """Whether a process must be alive if what the job says of itself is still true."""
        return self.state == "running" or (self.state == "queued" and not (self.just_launched or lately(self.queued)))


def lately(moment: float) -> bool:
    """Whether a moment is so close that a process may still be on its way."""
    return abs(time.time() - moment) < LAUNCH_SECONDS
