"""Choose the event loop: uvloop, for all commands that run one."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end and return its result."""
    return uvloop.run(main)
