"""The Reader, asked from an event loop: in threads of its own, so that a Redis that hangs holds up nobody else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from companion.config import Config
from companion.errors import UnavailableError
from companion.query.reader import Reader
from companion.store.connection import ResponseError, Unreachable

THREADS: Final = 8
T = TypeVar("T")


class Source:
    """What all pages of one application read from."""

    def __init__(self, config: Config, reader: Reader) -> None:
        self.config = config
        self.reader = reader
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dashboard")

    async def ask(self, question: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """A question of the reader's, and its answer.

        Raises UnavailableError when Redis does not answer, UsageError for what there is not.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, partial(question, *arguments, **named))
        except (*Unreachable, ResponseError) as error:
            raise UnavailableError(type(error).__name__) from error
