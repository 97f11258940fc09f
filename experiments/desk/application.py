"""What the server answers for the desk: its page, the songs of the run by number, and one place to save a fusion."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import wraps
from pathlib import PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from stemfuse.separators import StemfuseError

from .pages import page_file, page_files
from .run_songs import RunSongs
from .saving import save_blend

MOST_SENT = 32_000_000
"""Bytes of a fusion that is saved: four hours of weights that change every second."""

SENDING_S = 20.0
"""How long it may take to arrive."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The desk's page runs its own scripts, asks this server, and nobody else."""

PART = 1 << 18
"""Bytes that are sent at a time."""


def desk_routes(run_folder: str | os.PathLike[str], songs: RunSongs | None = None) -> Sequence[BaseRoute]:
    """Routes of the desk below ``/desk``.

    Songs are named by their number in the run, passages by samples: no request names a file, so that of the stem store
    and the data set only channels of this run's songs are handed out.

    Parameters
    ----------
    run_folder : path-like
        The run.
    songs : RunSongs, optional
        Its songs, where they are known already.
    """
    desk = _Desk(songs or RunSongs(run_folder))
    return [
        Mount(
            "/desk",
            routes=[
                Route("/", desk.page),
                Route("/run.json", desk.listing),
                Route("/songs/{number:int}/song.json", desk.song),
                Route("/songs/{number:int}/audio", desk.audio),
                Route("/songs/{number:int}/loudness.json", desk.loudness),
                Route("/songs/{number:int}/fusions", desk.save, methods=["POST"]),
                Route("/{name}", desk.file),
            ],
        )
    ]


def _answered(handler: Callable[[Any, Request], Awaitable[Response]]) -> Callable[[Any, Request], Awaitable[Response]]:
    """What goes wrong with a song is said in one line; every answer has the desk's policy."""

    @wraps(handler)
    async def answer(self: Any, request: Request) -> Response:
        try:
            response = await handler(self, request)
        except IndexError:
            response = PlainTextResponse("no such song\n", 404)
        except (StemfuseError, OSError) as error:
            response = PlainTextResponse(" ".join(str(error).split()) + "\n", 422)
        response.headers["content-security-policy"] = POLICY
        return response

    return answer


class _Desk:
    def __init__(self, songs: RunSongs) -> None:
        self._songs = songs

    @_answered
    async def page(self, request: Request) -> Response:
        return Response(page_file("desk.html"), media_type="text/html")

    @_answered
    async def file(self, request: Request) -> Response:
        kinds = {".js": "text/javascript", ".css": "text/css"}
        name = request.path_params["name"]
        # only names of the list: nothing is looked up in a folder
        if name not in page_files() or not (kind := kinds.get(PurePosixPath(name).suffix)):
            return PlainTextResponse("Not Found\n", 404)
        return Response(page_file(name), media_type=kind)

    @_answered
    async def listing(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._songs.listing))

    @_answered
    async def song(self, request: Request) -> Response:
        number = request.path_params["number"]
        return JSONResponse(await run_in_threadpool(lambda: self._songs.song(number).document()))

    @_answered
    async def audio(self, request: Request) -> Response:
        start, stop = _passage(request)
        number = request.path_params["number"]
        samples = await run_in_threadpool(lambda: self._songs.song(number).samples(start, stop))
        size = {"content-length": str(len(samples))}
        return StreamingResponse(_parts(samples), media_type="application/octet-stream", headers=size)

    @_answered
    async def loudness(self, request: Request) -> Response:
        start, stop = _passage(request)
        number = request.path_params["number"]
        return JSONResponse(await run_in_threadpool(lambda: self._songs.song(number).weighted(start, stop)))

    @_answered
    async def save(self, request: Request) -> Response:
        # a form on another page can post, but not as JSON, and a browser always names where it came from
        if not request.headers.get("origin"):
            return _refused("expected the header Origin, which browsers send: save from the desk's page", 403)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused("expected application/json", 415)
        sent = await _body(request)
        if isinstance(sent, Response):
            return sent
        number = request.path_params["number"]
        text = sent.decode("utf-8", "replace")

        def save() -> str:
            path = save_blend(self._songs.run, self._songs.song(number), text)
            return path.relative_to(self._songs.run.path).as_posix()

        file = await run_in_threadpool(save)
        return JSONResponse({"file": file, "path": str(self._songs.run.path / file)}, 201)


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    """Content part by part: the server ends what a slow browser has not received in time, part by part."""
    for start in range(0, len(content), PART):
        yield content[start : start + PART]


def _refused(text: str, status: int) -> Response:
    # what was not read of the request is not waited for
    return PlainTextResponse(text + "\n", status, headers={"connection": "close"})


async def _body(request: Request) -> bytes | Response:
    """What was sent, or why it is refused: before it is read where its length says that it is too long."""
    too_long = _refused(f"expected at most {MOST_SENT} bytes", 413)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 12 or int(length) > MOST_SENT:
        return too_long
    received = bytearray()
    try:
        async with asyncio.timeout(SENDING_S):
            async for part in request.stream():
                received += part
                if len(received) > MOST_SENT:
                    return too_long
    except (TimeoutError, ClientDisconnect):
        return _refused("the request did not arrive", 408)
    return bytes(received)


def _passage(request: Request) -> tuple[int, int]:
    """Start and stop of a passage in samples; zeros, which no song takes, where they are no numbers."""
    given = [request.query_params.get(name, "") for name in ("start", "stop")]
    if not all(text.isascii() and text.isdecimal() and len(text) < 12 for text in given):
        return 0, 0
    return int(given[0]), int(given[1])
