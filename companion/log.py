"""Configure structured logging, and log a flood of like problems as one line."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

from companion.credentials import mask_all

Level = Literal["debug", "info", "warning", "error"]
Logger = structlog.stdlib.BoundLogger

QUIET_SECONDS: Final = 60.0
"""An episode of like problems ends when none occurred for so long."""


def configure(
    log_format: Literal["console", "json"] = "console",
    level: Level = "info",
    stream: TextIO | None = None,
    process: str = "",
) -> None:
    """Send every log line to a stream (None: stderr), as text for people or as JSON for machines.

    `process` is a field of each line, where several processes write to one log.
    """
    stream = stream or sys.stderr
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if process:
        shared.append(lambda _logger, _method, event: {**event, "process": process})
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _mask_credentials, renderer],
        )
    )
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for retried in ("aio_pika", "aiormq"):  # we log what fails there once, not at each attempt
        logging.getLogger(retried).setLevel(logging.CRITICAL)
    for chatty in ("apscheduler", "uvicorn", "httpx2", "httpcore2", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _mask_credentials(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask the credentials in a line, also in those of libraries and in tracebacks."""
    return {name: mask_all(value) for name, value in event.items()}


def get(name: str) -> Logger:
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


class FloodFilter(logging.Filter):
    """Let through the first of a series of like lines of the libraries that strangers can make write them.

    Lines are alike if the same place in the code writes them, about the same kind of exception: there are few kinds.
    A request that is cancelled when the server stops is no error.
    """

    LOGGERS: Final = frozenset(("uvicorn", "asyncio", "engineio", "socketio", "nicegui", "websockets"))

    def __init__(self, quiet_seconds: float = QUIET_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._last_at: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in self.LOGGERS:
            return True
        error = record.exc_info[0] if record.exc_info else None
        if error is asyncio.CancelledError:
            return False
        kind = record.pathname, record.lineno, error
        now, last_at = self._clock(), self._last_at.get(kind)
        self._last_at[kind] = now
        return last_at is None or now - last_at > self._quiet_seconds


class Episodes:
    """Log the first of a series of like problems and stay silent about the rest of it.

    An episode ends when its problem did not occur for `quiet_seconds`. The next occurrence starts a new one and logs
    the length of the last one. Metrics count every occurrence elsewhere.
    """

    def __init__(
        self, logger: Logger, quiet_seconds: float = QUIET_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._episodes: dict[str, tuple[float, int]] = {}

    def warn(self, problem: str, **fields: object) -> None:
        """Record one occurrence; `problem` names the episode and is one of a few fixed texts, never network input."""
        now = self._clock()
        last_at, count = self._episodes.get(problem, (0.0, 0))
        if count and now - last_at <= self._quiet_seconds:
            self._episodes[problem] = (now, count + 1)
            return
        self._episodes[problem] = (now, 1)
        self._logger.warning(problem, **fields, **({"previous_episode": count} if count else {}))
