"""Where things lie: the repository, what is shared beside it, and the clip that stempeg packages."""

from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"
DATA = SHARED / "data"
GOLDEN = SHARED / "golden"
# found without importing stempeg, which asks for the program ffmpeg
CLIP = next(Path(find_spec("stempeg").submodule_search_locations[0], "data").glob("*.stem.mp4"))
