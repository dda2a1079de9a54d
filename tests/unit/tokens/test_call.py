"""Tokens for telling of a call: what is good, and what is not."""

from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidTokenError
from companion.tokens.call import MAX_CALL_ID, MAX_DEVICE, Claims, check, is_name, make

SECRET = "s" * 32
NOW = 1_795_452_109
CLAIMS = Claims("alice/urn:uuid:c386bbc4", "5f2c1b0e9a@phone.example.com")

names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=60)


def signed(**claims: Any) -> str:
    good = {"aud": "last-mile", "sub": CLAIMS.device, "call": CLAIMS.call_id, "iat": NOW, "exp": NOW + 60}
    payload = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(payload, SECRET, "HS256")


@given(names, names)
def test_there_and_back(device: str, call_id: str) -> None:
    """A token says of whose call it is, while it is good."""
    claims = Claims(device, call_id)
    assert check(SECRET, make(SECRET, claims, NOW, 60), NOW + 59) == claims


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever text comes, it is no token, and nothing else happens."""
    with pytest.raises(InvalidTokenError):
        check(SECRET, text, NOW)


@given(st.data())
def test_a_changed_token(data: st.DataObject) -> None:
    """A token in which any character is another one is none: also the last, whose last bits mean nothing."""
    good = make(SECRET, CLAIMS, NOW, 60)
    place = data.draw(st.integers(0, len(good) - 2))
    character = data.draw(st.characters(exclude_characters=good[place]))
    with pytest.raises(InvalidTokenError):
        check(SECRET, good[:place] + character + good[place + 1 :], NOW)


def test_expiry() -> None:
    """A token is good until the second it says, and then expired; one that was never good is wrong."""
    token = make(SECRET, CLAIMS, NOW, 60)
    with pytest.raises(InvalidTokenError) as expired:
        check(SECRET, token, NOW + 60)
    with pytest.raises(InvalidTokenError) as wrong:
        check("t" * 32, token, NOW + 60)
    assert (expired.value.reason, wrong.value.reason) == ("expired", "wrong")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * (MAX_DEVICE + 1)},
        {"sub": "a\nb"},
        {"sub": "a\ud800"},
        {"call": None},
        {"call": ["a"]},
        {"call": "x" * (MAX_CALL_ID + 1)},
        {"iat": None},
        {"iat": NOW + 31},
        {"iat": "now"},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": float("nan")},
        {"nbf": float("nan")},
        {"nbf": float("-inf")},
        {"exp": NOW + 86_400 + 31},
        {"nbf": NOW + 31},
        {"nbf": "x"},
    ],
    ids=str,
)
def test_claims(claims: dict[str, Any]) -> None:
    """A token that is signed well, but says what it must not or not what it must, is wrong."""
    with pytest.raises(InvalidTokenError) as wrong:
        check(SECRET, signed(**claims), NOW)
    assert wrong.value.reason == "wrong"


@pytest.mark.parametrize("claims", [{"iat": NOW + 29}, {"nbf": NOW + 29}, {"aud": ["last-mile", "other"]}, {"x": 1}])
def test_backends_of_others(claims: dict[str, Any]) -> None:
    """A backend whose clock is a little ahead, or that says more, makes good tokens."""
    assert check(SECRET, signed(**claims), NOW) == CLAIMS


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_algorithms(algorithm: str) -> None:
    """One algorithm is taken and no other, whatever a token says."""
    payload = jwt.decode(signed(), options={"verify_signature": False})
    with pytest.raises(InvalidTokenError):
        check("s" * 64, jwt.encode(payload, "s" * 64, algorithm), NOW)


def test_without_a_secret() -> None:
    """Where there is no secret no token is good, not even one that was signed with none."""
    with pytest.raises(InvalidTokenError):
        check("", signed(), NOW)


@pytest.mark.parametrize("name", ["a\x00", "a\x7f", "a\x9f", "\n", "a\u2028", "a\u202e", "\ud800", ""])
def test_names(name: str) -> None:
    """Nothing is called by what can not be shown, or turns what stands behind it."""
    assert not is_name(name, 100)
    assert is_name("ä 1/…", 5)
    assert not is_name("x" * 6, 5)
