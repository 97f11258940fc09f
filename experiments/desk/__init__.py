"""The desk: a song's mixing matrix as a live console in the browser, served for a run or kept as one page."""

from .application import desk_routes
from .pages import write_excerpt
from .run_songs import RunSongs
from .song import DeskSong

__all__ = ["DeskSong", "RunSongs", "desk_routes", "write_excerpt"]
