"""Read records of JSON, many with one command."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from companion.store.connection import ResponseError
from companion.store.reading import Reading, check
from companion.store.store import Store

T = TypeVar("T")


def prepare_records(store: Store, keys: Sequence[str]) -> Reading[list[str | None]]:
    """Prepare to read the values of these keys, None for one that is not there: one command for the keys of a shard."""
    by_shard: defaultdict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_shard[store.keys.shard_of(key)].append(index)

    def make(replies: Sequence[Any]) -> list[str | None]:
        records: list[str | None] = [None] * len(keys)
        for own, values in zip(by_shard.values(), replies, strict=True):
            for index, value in zip(own, check(values), strict=True):
                records[index] = value
        return records

    return Reading([("MGET", *(keys[index] for index in own)) for own in by_shard.values()], make)


def decode_record(text: bytes | str, decoder: msgspec.json.Decoder[T]) -> T:
    """Read a record. Raises ResponseError, as Redis does for a value of another type, where it is none of ours."""
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ResponseError(f"WRONGTYPE a value is no record of the companion: {error}") from None
