"""Tokens: only who has the secret is found, and the configuration never has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.tokens import access
from companion.tokens.access import Scope, Token


def test_a_new_token_is_found_by_its_secret() -> None:
    """Who shows the secret is known by name; any other text, the digest too, is nobody's."""
    secret, token = access.make("ann", "operate")
    other_secret, other = access.make("bob", "read")
    assert token == access.find([token, other], secret)
    assert other == access.find([token, other], other_secret)
    assert [access.find([token, other], wrong) for wrong in ("", secret[:-1], token.digest, token.line)] == [None] * 4


def test_the_line_does_not_tell_the_secret() -> None:
    """What is configured reads back as the same token, and has nothing of the secret."""
    secret, token = access.make("grafana", "read")
    assert token == Token.parse(token.line)
    assert secret not in token.line
    assert secret.startswith("companion_")
    assert len(secret) >= 43


def test_every_token_is_new() -> None:
    """No two tokens are the same, even of one name."""
    assert len({access.make("ann", "read")[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ann",
        "ann:read",
        f"ann:read:{'0' * 63}",
        f"ann:read:{'g' * 64}",
        f"ann:all:{'0' * 64}",
        f"ann:none:{'0' * 64}",
        f"a nn:read:{'0' * 64}",
        f":read:{'0' * 64}",
        f"{'a' * 65}:read:{'0' * 64}",
        f"ann:read:{'0' * 64}:x",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    """A line that is no token is refused, and the refusal does not repeat what may be a secret."""
    with pytest.raises(ValueError, match="NAME:SCOPE:SHA256HEX") as refused:
        Token.parse(line)
    assert not line or line not in str(refused.value)


@given(st.text(), st.text())
def test_any_text(line: str, secret: str) -> None:
    """Any text is a token or is refused, and any secret is looked for without harm."""
    try:
        token = Token.parse(line)
    except ValueError:
        token = access.make("ann", "read")[1]
    assert access.find([token], secret) is None


@pytest.mark.parametrize(
    ("scope", "needed", "expected"),
    [
        ("none", "none", True),
        ("none", "read", False),
        ("read", "read", True),
        ("read", "operate", False),
        ("operate", "read", True),
        ("operate", "operate", True),
    ],
)
def test_scopes(scope: Scope, needed: Scope, *, expected: bool) -> None:
    """To operate includes to read."""
    assert expected == access.allows(scope, needed)
