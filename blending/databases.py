"""Databases that keep the trials of a search: opened by one process at a time, waited for while others write."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.held_files import hold, let_go

from .errors import FusionError

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows: there only the repeated tries help
    fcntl = None

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_S = 60.0
"""How long a database may be locked by others before a search gives up."""
BUSY_S = 5.0
"""How long SQLite itself waits for a lock; what is asked of it is tried again then."""
PAUSE_S = 0.5
"""The longest pause between two tries."""

HEADER = b"SQLite format 3\0"

PASSING = (
    "locked",
    "busy",
    "already exists",
    "deadlock",
    "could not serialize",
    "unique constraint",
    "too many clients",
)
"""Words of errors that go when others have ended what they do."""
DAMAGED = ("not a database", "malformed", "no such column", "corrupt", "schema version", "unsupported file format")
"""Words of errors that stay because of what the database holds."""
FULL = ("disk is full", "disk full", "no space")


def open_database(address: str, writing: bool) -> Any:
    """Optuna's storage in a database.

    Parameters
    ----------
    address : str
        As SQLAlchemy takes it, such as ``"sqlite:///search.db"``; a relative file is one of the folder that this
        process works in now.
    writing : bool
        Whether trials will be added; the database is made when missing.

    Raises
    ------
    FusionError
        The database is damaged, or no database; it cannot be reached; or others kept it locked for `PATIENCE_S`.
    """
    from optuna.storages import RDBStorage

    address = _absolute(address)
    file = sqlite_file(address)
    if file is not None:
        check_file(file, writing)
    # tables that two processes make at once fail in both
    arguments = {"connect_args": {"timeout": BUSY_S}} if file is not None else {"pool_pre_ping": True}
    with locked(file):
        return patiently(lambda: RDBStorage(address, engine_kwargs=arguments), shown_address(address))


def patiently(action: Callable[[], Result], where: str, patience_s: float = PATIENCE_S) -> Result:
    """Do something with a storage, again and again while others have it locked.

    Parameters
    ----------
    action : callable
        What is done; it fails as a whole or not at all.
    where : str
        The storage, for messages.
    patience_s : float
        How long.

    Raises
    ------
    FusionError
        It cannot be done; the message says why and what to do.
    """
    since, pause_s, warned = time.monotonic(), 0.01, False
    while True:
        try:
            return action()
        except (FusionError, KeyError, OSError):
            raise
        except Exception as error:  # every database has errors of its own
            reason = _reason(error)
            waited = time.monotonic() - since
            if not _passes(error, reason) or waited > patience_s:
                raise FusionError(_advice(error, reason, where, waited)) from error
            if waited > BUSY_S and not warned:
                log.warning("%s: locked by another program, waiting for it", where)
                warned = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S)


def sqlite_file(address: str) -> Path | None:
    """The file of an SQLite address; None for databases in memory and on servers.

    Examples
    --------
    >>> sqlite_file("sqlite:////tmp/search.db").name, sqlite_file("mysql://host/name")
    ('search.db', None)
    """
    scheme, slashes, path = address.partition(":///")
    if not slashes or not scheme.startswith("sqlite") or not path or path.startswith((":", "file:")):
        return None
    return Path(path.partition("?")[0])


def shown_address(address: str) -> str:
    """An address without its password.

    Examples
    --------
    >>> shown_address("mysql://me:secret@host/name")
    'mysql://me:***@host/name'
    """
    scheme, mark, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}{mark}{name}{':***' if colon else ''}{at}{host}"


@contextlib.contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """Let one process at a time do something with a file; the system unlocks it when a process ends."""
    if file is None or fcntl is None:
        yield
        return
    path = file.with_name(f"{file.name}.lock")
    descriptor = None
    # a folder that cannot be written, or has no locks: what needs them says so itself
    with contextlib.suppress(OSError):
        descriptor = hold(path, _wait_and_lock)
    if descriptor is None:
        yield
        return
    try:
        yield
    finally:
        let_go(path, descriptor)


def _wait_and_lock(descriptor: int) -> bool:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _absolute(address: str) -> str:
    """The address of a database, with an absolute path where it is a file."""
    file = sqlite_file(address)
    if file is None:
        return address
    scheme, _, path = address.partition(":///")
    _, mark, query = path.partition("?")
    return f"{scheme}:///{file.absolute()}{mark}{query}"


def check_file(file: Path, writing: bool) -> None:
    """Refuse what can be no SQLite database before SQLite sees it: it says neither which file nor why."""
    if not file.parent.is_dir():
        raise wrong_usage(
            FusionError(f"{file}: the folder {file.parent} is missing; make it, or name another file for storage")
        )
    if not file.exists():
        if not writing:
            raise FusionError(f"{file}: no such file; the search was kept elsewhere, or not at all")
        return
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(HEADER))
    except OSError as error:
        raise FusionError(
            f"{file}: cannot be read ({error.strerror or error}); name another file for storage"
        ) from error
    if begin and begin != HEADER:
        raise FusionError(f"{file}: damaged, or no SQLite database; name another file for storage")


def check_address(address: str) -> None:
    """Refuse an address that SQLAlchemy cannot read, or whose driver is missing; nothing is opened.

    Raises
    ------
    FusionError
        The message says which.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        create_engine(address).dispose()
    except (ImportError, ArgumentError, ValueError) as error:
        raise wrong_usage(FusionError(_advice(error, _reason(error), shown_address(address), 0.0))) from error


def _reason(error: BaseException) -> str:
    """The database's own words in the errors that Optuna and SQLAlchemy make of them."""
    inner: BaseException | None = error
    while inner is not None and inner.__cause__ is not None and inner.__cause__ is not inner:
        inner = inner.__cause__
    return " ".join(str(inner or error).split("\n")[0].split()) or type(error).__name__


def _passes(error: Exception, reason: str) -> bool:
    """Whether it may go when others have ended what they do."""
    from optuna.exceptions import DuplicatedStudyError
    from sqlalchemy.exc import IntegrityError

    # an assertion of Optuna fails where another process has made only half of the tables
    racing = isinstance(error, DuplicatedStudyError | IntegrityError | AssertionError)
    return racing or any(words in reason.lower() for words in PASSING)


def _advice(error: Exception, reason: str, where: str, waited_s: float) -> str:
    words = reason.lower()
    if _passes(error, reason):
        return f"{where}: locked by another program for {waited_s:.0f} s; end that program, or name another storage"
    if any(sign in words for sign in FULL):
        return f"{where}: no trials can be kept ({reason}); free some space and go on with the same command"
    if any(sign in words for sign in DAMAGED):
        return f"{where}: damaged, or no database of Optuna ({reason}); name another storage"
    if isinstance(error, ImportError):
        return f"{where}: its driver is missing ({reason}); install it, or name an SQLite file: storage=sqlite:///search.db"
    return f"{where}: no search can be kept there ({reason}); name another storage, such as storage=search.journal"
