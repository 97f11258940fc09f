"""What can go wrong: every error says what it got, what was expected and what to do.

Each package has an ``errors.py``. All errors of stemfuse, and where they are defined::

    StemfuseError                       separators    a user can mend it; printed without a traceback
    ├── AudioError                      separators    audio that cannot be used as it is
    │   └── WriteError                  separators    a file that cannot be written
    ├── TrackError                      separators    a track or data set with something missing
    ├── StoreError                      separators    an entry of the stem store
    ├── SeparatorError                  separators    a separator and its options
    │   └── MissingWeightsError         separators    weights that are not on this machine
    ├── ConformanceError                separators    a separator that breaks rules
    ├── TrainingError                   separators    a training
    │   └── CheckpointError             separators    a damaged file of one
    ├── DeviceError                     analysis      a device that this machine does not have
    ├── GramError                       analysis      statistics of a track
    ├── ScoreError                      analysis      tables of scores
    ├── FusionError                     blending      a fusion, its options and its weights
    ├── ConfigError                     experiments   a recipe
    └── RunError                        experiments   a run

    ArithmeticError (Python's)
    └── NotPositiveDefiniteError        analysis      caught inside the package
    UserWarning (Python's)
    ├── SingularReferencesWarning       analysis      references whose projection rounding decides
    └── LeakWarning                     blending      tracks that were seen in training are scored

Most of them are a ValueError too, so that code that knows nothing of stemfuse can catch them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar


class StemfuseError(Exception):
    """Base of all errors that a user can mend; the command line prints them without a traceback.

    Attributes
    ----------
    is_usage : bool
        Whether a name, an option or a path was given wrongly, and nothing has been done; the exit code is 2 then.
    """

    is_usage = False


Raised = TypeVar("Raised", bound=StemfuseError)


def wrong_usage(error: Raised) -> Raised:
    """The error, marked as one of usage: the command line ends with exit code 2.

    Examples
    --------
    >>> wrong_usage(TrackError("unknown")).is_usage, TrackError("damaged").is_usage
    (True, False)
    """
    error.is_usage = True
    return error


@contextmanager
def usage_errors() -> Iterator[None]:
    """Inside it options are checked and nothing is done: all errors are of usage."""
    try:
        yield
    except StemfuseError as error:
        wrong_usage(error)
        raise


class AudioError(StemfuseError, ValueError):
    """Audio that cannot be used as it is: unreadable, wrong rate, channels or length, NaN."""


class UnreadableError(AudioError):
    """A file that a reader cannot read, from its header on or from some sample on."""


class WriteError(AudioError):
    """A file that cannot be written: a full disk, a read-only folder."""


class TrackError(StemfuseError, ValueError):
    """A track or a data set with something missing: a source, a reference, a mixture, a name."""


class StoreError(StemfuseError, ValueError):
    """A stem store entry that is damaged, foreign, of another mixture or cannot be written."""


class SeparatorError(StemfuseError, ValueError):
    """A separator that is unknown, wrongly set up or broke its contract."""


class TrainingError(StemfuseError, ValueError):
    """A training that is wrongly set up, cannot be resumed or diverges."""


class CheckpointError(TrainingError):
    """A checkpoint or a trained network whose file is damaged."""


class MissingWeightsError(SeparatorError, FileNotFoundError):
    """Published or trained weights that are not on this machine."""

    # OSError would print errno and file name; the message alone is meant for people
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConformanceError(StemfuseError, AssertionError):
    """A separator broke rules of the protocol; the message has one line per broken rule."""


def listed(names: Iterable[object], most: int = 5, between: str = ", ") -> str:
    """Names for a message: the first few, and how many more there are.

    Parameters
    ----------
    names : iterable
        Shown as ``str()`` shows them; give ``map(repr, names)`` for quotes.
    most : int
        How many are shown.
    between : str
        What separates them.

    Examples
    --------
    >>> listed(["drums", "bass"]), listed("abcdefgh", most=3)
    ('drums, bass', 'a, b, c and 5 more')
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more
