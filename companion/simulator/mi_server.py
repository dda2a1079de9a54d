"""Serve MI over HTTP like mi_http, with everything that can go wrong on the way."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from companion.errors import UnavailableError

JSON = "application/json"
SLOW_SECONDS = 1.0

# the reply to a request's body; None = there is none, ever
Answer = Callable[[bytes], bytes | None]


class Fault(StrEnum):
    """Name what an MI server does wrong until it is healed."""

    HANG = "hang"  # take the request and never answer
    SLOW = "slow"  # answer, but only after `slow_seconds`
    GARBAGE = "garbage"  # 200 with a body that is no JSON
    SERVER_ERROR = "server_error"  # HTTP 500, and nothing done
    UNAUTHORIZED = "unauthorized"  # HTTP 401, whatever the password
    CLOSE = "close"  # close the connection instead of an answer, nothing done
    CLOSE_AFTER = "close_after"  # do what was asked, then close the connection without an answer


class MiServer:
    """Serve one request at a time on `host`:`port` (0 = any free one), with Basic auth when `login` is given.

    `login` is "user:password", as 4.0's httpd takes it.
    """

    def __init__(self, answer: Answer, listen: str, login: str = "") -> None:
        self._answer_body = answer
        self._listen = listen
        self._login = login
        self._one_at_a_time = asyncio.Lock()
        self._healed = asyncio.Event()
        self._fault: Fault | None = None
        self._times = 0
        self.slow_seconds = SLOW_SECONDS

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}/mi"

    @property
    def is_busy(self) -> bool:
        """Return whether a request is being served."""
        return self._one_at_a_time.locked()

    async def start(self) -> None:
        """Bind and serve; UnavailableError when the address can not be had."""
        listener = _bind(self._listen)
        self._host, self._port = listener.getsockname()[:2]
        app = Starlette(routes=[Route("/mi", self._serve, methods=["POST"])])
        self._server = _Server(_make_config(app))
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.heal()
        for connection in list(self._server.server_state.connections):
            _abort(connection)
        self._server.should_exit = True
        await self._task

    def fail(self, fault: Fault, times: int = -1) -> None:
        """Fail from the next request on, so many times (-1 = until healed)."""
        self.heal()
        self._healed = asyncio.Event()
        self._fault, self._times = fault, times

    def heal(self) -> None:
        self._fault = None
        self._healed.set()

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        async with self._one_at_a_time:
            return await self._serve_one(request, body)

    async def _serve_one(self, request: Request, body: bytes) -> Response:
        fault = self._next_fault()
        if fault:
            return await self._choose_handler(fault)(request, body)
        if self._login and request.headers.get("authorization") != _encode_login(self._login):
            return _make_unauthorized()
        return await self._answer(request, body)

    async def _answer(self, request: Request, body: bytes) -> Response:
        answer = self._answer_body(body)
        return Response(answer, media_type=JSON) if answer else await self._hang(request, body)

    def _next_fault(self) -> Fault | None:
        if self._fault and self._times:
            self._times -= 1
            return self._fault
        return None

    def _choose_handler(self, fault: Fault) -> Callable[[Request, bytes], Awaitable[Response]]:
        return {
            Fault.HANG: self._hang,
            Fault.SLOW: self._slow,
            Fault.GARBAGE: _answer_garbage,
            Fault.SERVER_ERROR: _answer_server_error,
            Fault.UNAUTHORIZED: _refuse,
            Fault.CLOSE: self._close,
            Fault.CLOSE_AFTER: self._close_after,
        }[fault]

    async def _hang(self, request: Request, _: bytes) -> Response:
        """Wait for the caller to give up, or for the healing."""
        gone = asyncio.create_task(_wait_disconnected(request))
        healed = asyncio.create_task(self._healed.wait())
        await asyncio.wait({gone, healed}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        healed.cancel()
        return await self._close(request, b"")

    async def _slow(self, request: Request, body: bytes) -> Response:
        await asyncio.sleep(self.slow_seconds)
        return await self._answer(request, body)

    async def _close(self, request: Request, _: bytes) -> Response:
        for connection in list(self._server.server_state.connections):
            if request.client and _read_peer(connection) == tuple(request.client):
                _abort(connection)
        return Response(status_code=500)

    async def _close_after(self, request: Request, body: bytes) -> Response:
        self._answer_body(body)
        return await self._close(request, body)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the owner of the loop."""
        yield


def _make_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11")


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    try:
        return socket.create_server((host, int(port)))
    except OSError as error:
        raise UnavailableError(f"can not listen on {listen}: {error}") from error


def _read_peer(connection: Any) -> tuple[str, int]:
    peer: tuple[str, int] = connection.transport.get_extra_info("peername")[:2]
    return peer


def _abort(connection: Any) -> None:
    connection.transport.abort()


async def _wait_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _encode_login(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def _make_unauthorized() -> Response:
    return Response(status_code=401, headers={"WWW-Authenticate": 'Basic realm="OpenSIPS"'})


async def _refuse(_: Request, __: bytes) -> Response:
    return _make_unauthorized()


async def _answer_garbage(_: Request, __: bytes) -> Response:
    return Response(b"<html>\xff not what you asked for", media_type=JSON)


async def _answer_server_error(_: Request, __: bytes) -> Response:
    return Response(b"<html><body>Internal server error!</body></html>", 500, media_type="text/html")
