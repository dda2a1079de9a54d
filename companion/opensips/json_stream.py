"""Read a JSON document piece by piece, for answers too big to hold in memory."""

import codecs
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

MAX_VALUE_CHARS: Final = 8 << 20
"""The longest value that `value` reads as a whole; a longer one is in no document of OpenSIPS."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class JsonStream:
    """Read a document with a cursor while its bytes still come in.

    `enter` an object or array, then step through it with `next_key` or `next_item`. Read the next value as a whole with
    `value`, or enter it in turn. Bytes that are not UTF-8 become U+FFFD, as in events: else a contact
    would have two names.
    Raises ValueError where the document is not JSON, ends early or has a value that is too big.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at = 0
        self._entered = False
        self._ended = False

    async def enter(self, bracket: Literal["{", "["]) -> None:
        await self._take(bracket)
        self._entered = True

    async def next_key(self) -> str | None:
        """Return the next key of the object entered last, or None at its end, which leaves it."""
        if not await self._next("}"):
            return None
        if await self._peek() != '"':
            raise ValueError("a key that is not a string")
        key: str = await self.value()
        await self._take(":")
        return key

    async def next_item(self) -> bool:
        """Return whether the array entered last has another item; False leaves it."""
        return await self._next("]")

    async def value(self) -> Any:
        """Return the next value as a whole."""
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
        """Check that nothing follows the document."""
        if await self._peek():
            raise ValueError("text behind the end of the document")

    def _goes_on(self, end: int) -> bool:
        """Return whether a number that ends there may continue with a fraction or exponent."""
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
        """Return the next character that is not white space, or "" at the end."""
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
        """Read until the text is twice as long: decoding again at each chunk would cost the square of the length."""
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
