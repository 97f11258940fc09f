"""Tests that need what not every machine has say so, and are skipped where it is missing."""

import gc
import shutil
import signal

import pytest

NEEDED = {"ffmpeg": ("ffmpeg", "ffprobe"), "browser": ("chromium", "chromedriver")}


# a shell ignores Ctrl-C for what it starts in the background, and processes that tests start would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for marker, programs in NEEDED.items():
        lacking = [program for program in programs if shutil.which(program) is None]
        if lacking:
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"needs {' and '.join(lacking)}"))


def pytest_collection_finish():
    """Search the imported packages for garbage once, not again and again: a million objects that stay."""
    gc.collect()
    gc.freeze()
