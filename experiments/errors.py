"""What can go wrong in a run or a command.

::

    StemfuseError
        ConfigError    a recipe or an option; the command line ends with exit code 2
        RunError       a run folder, or a run of which a part failed
            DamagedRecordError    the record of a run has changed since it was written
            SeveralProblemsError  several things are missing or wrong, a line for each
            UnfittedError         fusions that could not be fitted, while all others are done
        TrackError     see separators
            UnusableTracksError   tracks of a data set that cannot be used, a line for each
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stemfuse.separators import StemfuseError, TrackError


class ConfigError(StemfuseError, ValueError):
    """A recipe that is unreadable or has an unknown key or a value of the wrong kind."""

    is_usage = True


class RunError(StemfuseError, ValueError):
    """A run folder that is not one, or a run of which a part failed."""


class DamagedRecordError(RunError):
    """A record of a run whose content has changed since it was written; the next run makes all of it anew."""


class SeveralProblemsError(RunError):
    """Several things that are missing or wrong, all said at once.

    Parameters
    ----------
    problems : sequence of str
        A line for each.
    is_usage : bool
        See `StemfuseError`.
    """

    def __init__(self, problems: Sequence[str], is_usage: bool = False) -> None:
        super().__init__("; ".join(problems))
        self.problems, self.is_usage = tuple(problems), is_usage
        self.heading = f"{len(self.problems)} things are missing or wrong:"


class UnusableTracksError(TrackError):
    """Tracks of a data set that cannot be used, all said at once.

    Parameters
    ----------
    heading : str
        Whose and how many they are.
    problems : sequence of str
        A line for each.
    """

    # another process gets the whole message alone, and the attributes later
    def __init__(self, heading: str, problems: Sequence[str] = ()) -> None:
        super().__init__(f"{heading} {'; '.join(problems)}" if problems else heading)
        self.heading, self.problems = heading, tuple(problems)


class UnfittedError(RunError):
    """Fusions of a run that could not be fitted; all others are done.

    Parameters
    ----------
    failed : mapping of str to str
        By label, why.
    count : int
        How many fusions the run has.
    """

    def __init__(self, failed: Mapping[str, str], count: int) -> None:
        lines = "; ".join(f"{label}: {reason}" for label, reason in list(failed.items())[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        super().__init__(
            f"{len(failed)} of {count} fusions could not be fitted: {lines}{more}; all others are done: mend these in "
            "the recipe, or leave them out, and run it again"
        )
