"""Install packages into the environment of this Python: by uv, set up as pip is; by pip where uv cannot.

uv unpacks many files at once: a tenth of pip's time. It does not read pip's configuration, so this hands it over.
"""

import ast
import os
import re
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]
ROOMS = ("global", "install", ":env:")
"""Parts of pip's configuration; a later one is stronger."""


def configured() -> dict[str, list[str]]:
    """What pip is told by its files and by the environment; values by option."""
    lines = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for line in lines:
            if said := re.fullmatch(rf"{room}\.([\w-]+)=(.*)", line):
                found[said[1]] = str(ast.literal_eval(said[2])).split()
    return found


def uv_options(pip: dict[str, list[str]]) -> list[str]:
    """The same for uv: all indexes are asked for the best version, as pip does."""
    names = {
        "index-url": "--default-index",
        "extra-index-url": "--index",
        "find-links": "--find-links",
        "constraint": "--constraint",
        "trusted-host": "--allow-insecure-host",
    }
    given = [word for option, name in names.items() for value in pip.get(option, ()) for word in (name, value)]
    return [*given, *(["--no-index"] if pip.get("no-index") else []), "--index-strategy", "unsafe-best-match"]


def install(wanted: list[str]) -> int:
    """Install what is wanted; the exit status."""
    pip = configured()
    certificates = {"SSL_CERT_FILE": pip["cert"][0]} if "cert" in pip else {}
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    if subprocess.run([*PIP, "install", "--quiet", "--no-compile", "uv>=0.5"]).returncode == 0:
        if subprocess.run([*uv, *uv_options(pip), *wanted], env=os.environ | certificates).returncode == 0:
            return 0
        print("uv could not install; now by pip", file=sys.stderr)
    # pip would compile every file of every package on one core; Python compiles what it imports, and keeps it
    return subprocess.run([*PIP, "install", "--quiet", "--no-compile", *wanted]).returncode


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
