"""Serving a run's folder to browsers on this machine, and to nobody else, by Starlette and uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.datastructures import Headers
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import BaseRoute, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from stemfuse.experiments.errors import RunError

LOOPBACK = "127.0.0.1"
REQUEST_S = 10.0
"""How long a connection may take to send a request, and may stay open without one."""
PROGRESS_S = 30.0
"""How long a browser may take to receive the next part of a file."""
CONNECTIONS = 64
"""At the same time; browsers open six."""
POLICY = (
    b"default-src 'self' 'unsafe-inline' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""Pages of the folder have their scripts in them; whatever these do, no other server is asked or sent anything."""
HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


def serve_folder(
    folder: str | os.PathLike[str], port: int, ready: Callable[[int], None], routes: Sequence[BaseRoute] = ()
) -> None:
    """Serve the files of a folder on this machine until a signal comes.

    Parameters
    ----------
    folder : path-like
        Its files are served, without hidden ones, links that lead out of it, and lists of what there is.
    port : int
        0 takes a free one.
    ready : callable
        Called as ``ready(port)`` when connections are accepted.
    routes : sequence of BaseRoute
        What is answered before a file is looked for, such as `stemfuse.experiments.desk.desk_routes`.

    Raises
    ------
    RunError
        The port is taken, or no port.
    """
    try:
        listening = socket.create_server((LOOPBACK, port), backlog=CONNECTIONS)
    except (OSError, OverflowError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        raise RunError(
            f"port {port} cannot be used ({reason}); choose another with --port, or 0 for a free one"
        ) from problem
    with listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            folder_app(folder, port, routes),
            http=LoopbackProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(REQUEST_S),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16_384,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # a request that makes no sense is no news here
        ready(port)
        uvicorn.Server(config).run(sockets=[listening])


def folder_app(folder: str | os.PathLike[str], port: int, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application: routes, and files of a folder, for pages of this very server only."""
    return OwnPagesOnly(ExceptionMiddleware(Router(routes, default=VisibleFiles(folder))), port)


class VisibleFiles(StaticFiles):
    """Files of a folder; hidden ones and links that lead out of it are not there."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(directory=Path(folder).resolve(), html=True, follow_symlink=False)
        self._folder = Path(folder).resolve()

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Where a file lies, and what it is; nothing for what is not served."""
        found, status = super().lookup_path(path)
        if status is None:
            return "", None
        # a link to a hidden file has a name that is not hidden
        inside = Path(found).relative_to(self._folder).parts
        if any(part.startswith(".") for part in (*Path(path).parts, *inside) if part != "."):
            return "", None
        # what may not be read is not said to be there
        return (found, status) if os.access(found, os.R_OK) else ("", None)


class OwnPagesOnly:
    """Refuses what pages of other sites make a browser ask for.

    A page elsewhere may give this server a host name of its own (DNS rebinding), or embed its files. It cannot forge
    the headers Host, Origin and Sec-Fetch-Site.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{LOOPBACK}:{port}", f"localhost:{port}"}
        if port == 80:
            self._hosts |= {LOOPBACK, "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *HEADERS]
                if all(name.lower() != b"content-security-policy" for name, _ in headers):
                    headers.append((b"content-security-policy", POLICY))
                message["headers"] = headers
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal:
            await PlainTextResponse(refusal + "\n", 403)(scope, receive, send_guarded)
        elif scope["path"] == "/":
            await RedirectResponse("/report/")(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> str:
        if headers.getlist("host") != headers.getlist("host")[:1] or headers.get("host", "").lower() not in self._hosts:
            return f"this server answers to {' and '.join(sorted(self._hosts))} only"
        for origin in headers.getlist("origin"):
            if origin.lower() not in {f"http://{host}" for host in self._hosts}:
                return "pages of other sites are not answered"
        # a link to the report on another page may be followed
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            return "pages of other sites are not answered"
        return ""


class LoopbackProtocol(H11Protocol):
    """HTTP with a bound on connections, and on how long a request may take to arrive and an answer to be received."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or close it when there are too many."""
        if len(self.connections) >= CONNECTIONS:
            transport.abort()
            return
        super().connection_made(transport)
        self._close_after(REQUEST_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._close_after(None)
        if self in self.connections:
            super().connection_lost(exc)

    def handle_events(self) -> None:
        """Read requests; the time of one that has arrived does not count any more."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._close_after(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._close_after(REQUEST_S)

    def pause_writing(self) -> None:
        """Wait until the browser has received what was sent."""
        super().pause_writing()
        self._close_after(PROGRESS_S)

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        self._close_after(None)

    def _close_after(self, seconds: float | None) -> None:
        """Close the connection then, whatever was not received; never when None."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
