"""The JSON cursor."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.opensips import json_stream
from companion.opensips.json_stream import JsonStream

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


async def pieces(text: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


async def walk(stream: JsonStream, like: Any) -> Any:
    """The document, read by stepping into everything that can be stepped into; `like` tells what that is."""
    if isinstance(like, dict):
        read: dict[str, Any] = {}
        await stream.enter("{")
        while (key := await stream.next_key()) is not None:
            read[key] = await walk(stream, like[key])
        return read
    if isinstance(like, list):
        items: list[Any] = []
        await stream.enter("[")
        while await stream.next_item():
            items.append(await walk(stream, like[len(items)]))
        return items
    return await stream.value()


@given(DOCUMENTS, st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
async def test_any_document_in_any_pieces(document: Any, size: int, indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001
    """Stepping through a document or reading it whole gives what json.loads gives, wherever the bytes are split."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    expected = json.loads(json.dumps(document))
    if ascii_only:
        stream = JsonStream(pieces(text, size))
        assert await walk(stream, document) == expected
        await stream.end()
    whole = JsonStream(pieces(json.dumps(document, indent=indent).encode(), size))
    assert await whole.value() == expected
    await whole.end()


@given(
    st.binary(max_size=12).map(lambda data: bytes(byte for byte in data if byte > 31 and byte not in b'"\\')),
    st.integers(1, 5),
)
@example(b"sip:\xe2\xb67@h", 1)
async def test_bytes_that_are_not_utf8(data: bytes, size: int) -> None:
    """They become what the bridge makes of them in events, wherever they are split."""
    stream = JsonStream(pieces(b'"' + data + b'"', size))
    assert await stream.value() == data.decode("utf-8", "replace")


@pytest.mark.parametrize("text", [b"", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a" 1}', b'{"a":1,}', b'{1:"a"}', b"[1]"])
async def test_what_is_no_object_is_said(text: bytes) -> None:
    """A document that ends early or is none ends in ValueError, never in a wait."""
    stream = JsonStream(pieces(text, 2))
    with pytest.raises(ValueError):  # noqa: PT011
        await read_object(stream)


async def read_object(stream: JsonStream) -> None:
    await stream.enter("{")
    while await stream.next_key() is not None:
        await stream.value()


async def test_something_behind_the_document_is_said() -> None:
    """Nothing but white space may follow."""
    stream = JsonStream(pieces(b"1 \n2", 1))
    assert await stream.value() == 1
    with pytest.raises(ValueError, match="behind"):
        await stream.end()


async def test_a_value_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that never ends costs a bounded amount of memory; one nested too deep is no crash."""
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARS", 1000)
    with pytest.raises(ValueError, match="too big"):
        await JsonStream(pieces(b'"' + b"a" * 10_000, 10)).value()
    with pytest.raises(ValueError, match="deep"):
        await JsonStream(pieces(b"[" * 200_000, 100_000)).value()
