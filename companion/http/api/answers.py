"""Keep the answers that many readers ask for: those about the whole of a large fleet."""

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Annotated, Final

import msgspec
from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from companion.query.reader import Reader
from companion.text import Json

FRESH_SECONDS: Final = 1.0
"""How long an answer is kept: what changes shows so much later at the most."""
MAX_KEPT: Final = 64


class Answers:
    """Read each answer once for all who ask for it at about the same time, and encode it once.

    A small fleet is read anew for everybody: that costs little.
    """

    def __init__(self, reader: Reader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, bytes]] = {}
        """Answers with the times when their reads began, oldest first."""
        self._reads: dict[Hashable, asyncio.Task[bytes]] = {}

    async def respond(self, question: Hashable, read: Callable[[], Json]) -> Response:
        """Return the answer to a question; `read`, which blocks, reads it in a thread."""
        return Response(await self._find(question, read), media_type="application/json")

    async def _find(self, question: Hashable, read: Callable[[], Json]) -> bytes:
        if not self._reader.is_fleet_large:
            return await run_in_threadpool(_encode, read)
        self._drop_old()
        if kept := self._kept.get(question):
            return kept[1]
        task = self._reads.get(question)
        if task is None:
            task = self._reads[question] = asyncio.create_task(self._read(question, read))
            task.add_done_callback(partial(self._forget, question))
        return await asyncio.shield(task)

    async def _read(self, question: Hashable, read: Callable[[], Json]) -> bytes:
        started = self._clock()
        answer = await run_in_threadpool(_encode, read)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[question] = started, answer
        return answer

    def _drop_old(self) -> None:
        before = self._clock() - FRESH_SECONDS
        for question in [question for question, (at, _) in self._kept.items() if at < before]:
            del self._kept[question]

    def _forget(self, question: Hashable, task: "asyncio.Task[bytes]") -> None:
        del self._reads[question]
        if not task.cancelled():
            task.exception()  # those who asked may be gone, and asyncio would log it


def _encode(read: Callable[[], Json]) -> bytes:
    return msgspec.json.encode(read())


async def _find_answers(request: Request) -> Answers:  # async: FastAPI runs all else in a thread of its own
    answers: Answers = request.app.state.answers
    return answers


AnswersDependency = Annotated[Answers, Depends(_find_answers)]
