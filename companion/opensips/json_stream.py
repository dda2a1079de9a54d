"""A JSON document read piece by piece, for answers too big to hold in memory."""

import codecs
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

MAX_VALUE_CHARS: Final = 8 << 20
"""What one value read as a whole (`value`) may take; more is no document we know."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class JsonStream:
    """A cursor in a document whose bytes still come in.

    `enter` an object or array, then `next_key` or `next_item` steps through it; what comes next there is read as a
    whole by `value`, or entered in its turn. Bytes that are no UTF-8 become lone surrogates, which no printable text
    has. Raises ValueError where the document is no JSON, ends early or has a value that is too big.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._entered = False
        self._ended = False

    async def enter(self, bracket: Literal["{", "["]) -> None:
        await self._take(bracket)
        self._entered = True

    async def next_key(self) -> str | None:
        """The next key of the object entered last; None leaves it at its end."""
        if not await self._next("}"):
            return None
        if await self._peek() != '"':
            raise ValueError("a key that is no string")
        key: str = await self.value()
        await self._take(":")
        return key

    async def next_item(self) -> bool:
        """Whether the array entered last has another item; False leaves it at its end."""
        return await self._next("]")

    async def value(self) -> Any:
        """The next value as a whole."""
        await self._peek()
        self._entered = False
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise ValueError("nested too deep") from error
            except ValueError:
                if self._ended:
                    raise
            else:
                if self._ended or not isinstance(value, int | float) or not self._goes_on(end):
                    self._at = end
                    return value
            await self._double()

    async def end(self) -> None:
        """Make sure that nothing follows."""
        if await self._peek():
            raise ValueError("something behind the document")

    def _goes_on(self, end: int) -> bool:
        """Whether a number that was read up to there may have more to it."""
        return self._text[end : end + 1] in ".eE"  # "" too

    async def _next(self, closing: str) -> bool:
        first, self._entered = self._entered, False
        if await self._peek() == closing:
            self._at += 1
            return False
        if not first:
            await self._take(",")
        return True

    async def _peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            await self._more()

    async def _take(self, character: str) -> None:
        if await self._peek() != character:
            raise ValueError(f"{character} expected")
        self._at += 1

    async def _double(self) -> None:
        """Get twice what there was: a value tried again at each chunk would cost the square of its length."""
        held = len(self._text) - self._at
        if held > MAX_VALUE_CHARS:
            raise ValueError("a value that is too big")
        while not self._ended and len(self._text) - self._at <= 2 * held:
            await self._more()

    async def _more(self) -> None:
        chunk = await anext(self._chunks, None)
        self._ended = chunk is None
        self._text = self._text[self._at :] + self._decoder.decode(chunk or b"", final=self._ended)
        self._at = 0
