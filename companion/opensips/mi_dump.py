"""Read the reply to ul_dump while it comes in: a big one does not fit into memory as a whole."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from companion.opensips.json_stream import JsonStream


async def read_records(chunks: AsyncIterator[bytes], reply: dict[str, Any]) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield (table, record) of each AOR in a dump's reply; put the other members of the reply into `reply`.

    Raises ValueError where the reply is not JSON or not a dump.
    """
    stream = JsonStream(chunks)
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key == "result":
            reply[key] = None
            async with aclosing(_read_tables(stream)) as records:
                async for record in records:
                    yield record
        else:
            reply[key] = await stream.value()
    await stream.end()


async def _read_tables(stream: JsonStream) -> AsyncGenerator[tuple[Any, Any], None]:
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key != "Domains":
            await stream.value()
            continue
        await stream.enter("[")
        while await stream.next_item():
            async with aclosing(_read_table(stream)) as records:
                async for record in records:
                    yield record


async def _read_table(stream: JsonStream) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield the records of one table, with its name, which comes first."""
    name = None
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key == "name":
            name = await stream.value()
        elif key == "AORs":
            await stream.enter("[")
            while await stream.next_item():
                yield name, await stream.value()
        else:
            await stream.value()
