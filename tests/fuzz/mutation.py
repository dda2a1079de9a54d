"""Change seeds a little: bytes, texts and JSON values, always the same by the same random numbers. No I/O."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

ODD_TEXTS: Final = (
    *(
        "",
        "\0",
        "\n",
        "a\r\nb",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "\ufffd",
        "é",
        "🦊",
        "%",
        "%00",
        "%ff",
        "%zz",
        "..",
        "/",
    ),
    *(
        "x" * 300,
        "x" * 5000,
        "[" * 2000,
        '{"a":' * 1500,
        "\\",
        '"',
        "<script>",
        "sip:",
        "sip:@",
        "sip:[::1",
        ";;;",
        "=",
        "@@",
    ),
    *(
        "nan",
        "NaN",
        "Infinity",
        "1e999",
        "-1",
        "0x10",
        "1" * 400,
        "١٢٣",
        "２",
        "urn:uuid:",
        "tel:",
        "a.b.c",
        "0.0.0.0",
        "[::]:0",
    ),
)
ODD_NUMBERS: Final = (
    0,
    -1,
    1,
    255,
    256,
    1 << 31,
    -(1 << 31),
    (1 << 53) - 1,
    1 << 53,
    (1 << 63) - 1,
    1 << 63,
    1 << 64,
    -(1 << 63),
)
ODD_FLOATS: Final = (0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1e-320)
ODD_BYTES: Final = (
    *(
        b"\x00",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"{",
        b"}",
        b"[",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
        b"e9999999",
        b"\xd9\xff",
    ),
    *(
        b"\x93",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc1",
        b"\xc7\xff\x05",
        b"[" * 3000,
        b'{"jsonrpc"',
        b"\xa7latency",
    ),
)
MAX_BYTES: Final = 1 << 16


def mutate_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with up to eight changes, seldom none."""
    mutant = bytearray(random.choice(seeds))
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 4, 8))):
        start = random.randrange(len(mutant) + 1)
        end = min(len(mutant), start + random.choice((0, 1, 1, 2, 8, 64)))
        _change(random, mutant, start, end, seeds)
    return bytes(mutant[:MAX_BYTES])


def _change(random: Random, mutant: bytearray, start: int, end: int, seeds: Sequence[bytes]) -> None:
    kind = random.randrange(5)
    if kind == 0:
        mutant[start:end] = random.randbytes(random.choice((1, 1, 4, 16)))
    elif kind == 1:
        mutant[start:end] = random.choice(ODD_BYTES)
    elif kind == 2:
        del mutant[start:end]
    elif kind == 3:
        mutant[start:start] = mutant[start:end]
    else:
        other = random.choice(seeds)
        at = random.randrange(len(other) + 1)
        mutant[start:] = other[at:]


def mutate_text(random: Random, seeds: Sequence[str]) -> str:
    """Return one of the texts with changes; it may hold half a surrogate pair."""
    text = random.choice(seeds)
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 1, 3, 12)))
        middle = random.choice((random.choice(ODD_TEXTS), chr(random.randrange(0x300)), text[start:end] * 2, ""))
        text = text[:start] + middle + text[end:]
    return text[:MAX_BYTES]


def mutate_value(random: Random, value: Any) -> Any:
    """Return a JSON value with up to three parts replaced, removed or added."""
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        value = _mutate_part(random, value)
    return value


def _mutate_part(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        return _mutate_member(random, value)
    if isinstance(value, list) and value and random.random() < 0.9:
        index = random.randrange(len(value))
        return [
            *value[:index],
            *([_mutate_part(random, value[index])] * random.choice((0, 1, 1, 1, 2))),
            *value[index + 1 :],
        ]
    if isinstance(value, str) and random.random() < 0.6:
        return mutate_text(random, [value])
    return odd_value(random)


def _mutate_member(random: Random, value: dict[str, Any]) -> dict[str, Any]:
    name = random.choice(list(value))
    kind = random.random()
    if kind < 0.1:
        return {other: part for other, part in value.items() if other != name}
    if kind < 0.2:
        return {**value, mutate_text(random, [name]): value[name]}
    return {**value, name: _mutate_part(random, value[name])}


def odd_value(random: Random) -> Any:
    """Return a value that few expect."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: random.choice(ODD_TEXTS),
        lambda: random.choice(ODD_NUMBERS) + random.choice((0, 0, 1)),
        lambda: random.choice(ODD_FLOATS),
        lambda: random.choice((None, True, False, [], {}, [[]], {"": None})),
        lambda: [odd_value(random) for _ in range(random.randrange(3))],
        lambda: {random.choice(ODD_TEXTS): odd_value(random)},
    )
    return random.choice(makers)()


def to_json(value: Any) -> bytes:
    """Return a value as JSON, with NaN and halves of surrogate pairs as they are."""
    return json.dumps(value).encode("utf-8", "surrogatepass")
