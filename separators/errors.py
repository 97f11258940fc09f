"""What can go wrong at the border: every error says what came, what was expected and what to do."""


class StemfuseError(Exception):
    """Base of all errors that a user can mend; the command line prints them without a traceback."""


class AudioError(StemfuseError, ValueError):
    """Audio that cannot be used as it is: unreadable, wrong rate, channels or length, NaN."""


class WriteError(AudioError):
    """A file that cannot be written: a full disk, a read-only folder."""


class TrackError(StemfuseError, ValueError):
    """A track or a data set that lacks something: a source, a reference, a mixture, a name."""


class StoreError(StemfuseError, ValueError):
    """A stem store entry that is damaged, foreign, of another mixture or cannot be written."""


class SeparatorError(StemfuseError, ValueError):
    """A separator that is unknown, wrongly set up or broke its contract."""


class TrainingError(StemfuseError, ValueError):
    """A training that is wrongly set up, cannot be resumed or diverges."""


class MissingWeightsError(SeparatorError, FileNotFoundError):
    """Published or trained weights that are not on this machine."""

    # OSError would print errno and file name; the message alone is meant for people
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConformanceError(StemfuseError, AssertionError):
    """A separator broke rules of the protocol; the message has one line per broken rule."""
