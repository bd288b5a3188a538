"""Errors that a user can cause and mend."""

from unicodedata import category

LONGEST = 1500  # letters of a message


def written_out(text: str) -> str:
    """Text whose control characters, marks of direction and bytes that are no UTF-8 are written out; line ends and tabs stay."""
    if text.isprintable():
        return text
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(ascii(one)[1:-1] if category(one) in hidden and one not in "\n\t" else one for one in text)


def shortened(text: str) -> str:
    """A message of at most `LONGEST` letters: one that echoes more of what was found is cut in the middle."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2 - 30
    return f"{text[:half]} ... [{len(text) - 2 * half:,} letters left out] ... {text[-half:]}"


class KdcoreError(Exception):
    """What was found, where, and what to do about it, in one sentence or two.

    The command prints it without a traceback and exits with code 2; the dashboard shows it as a message. One that echoes thousands of
    letters of what was found is cut in the middle: its beginning says where, its end what to do. Control characters of what was found
    are written out, so that a name cannot move the cursor or turn the text around.
    """

    def __str__(self) -> str:
        """The message, at most `LONGEST` letters."""
        return shortened(written_out(super().__str__()))


def in_short(error: object, most: int = 200) -> str:
    """The beginning of what a library said, on one line."""
    return " ".join(str(error).split())[:most]


def unexpected(error: BaseException) -> str:
    """An error that nobody foresaw as a message: its kind, and what it says."""
    return shortened(written_out(f"{type(error).__name__}: {error}"))


class SettingsError(KdcoreError):
    """A setting that is missing, unknown or out of range."""


class DataError(KdcoreError):
    """A file, scene, mask or collection that cannot be used as it is."""


class CheckpointError(KdcoreError):
    """Weights that are missing, broken or made for something else."""


class RunError(KdcoreError):
    """A run or study that cannot be started, resumed or read."""


class TrainingDiverged(RunError):
    """The loss stopped being a number; the last good checkpoint is kept."""


class Stopped(RunError):
    """Someone asked for the stop; what was saved is kept, and resuming goes on exactly there."""


class Preempted(Stopped):
    """The machine's scheduler asked for the stop, and is to start the same again."""
