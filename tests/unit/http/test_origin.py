"""Where a request comes from: who only looks like a neighbour is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.http.access import origin

LOCAL = ("127.0.0.1", 50_000)


def scope(*headers: tuple[str, str], client: tuple[str, int] | None = LOCAL, version: str = "1.1") -> dict[str, Any]:
    """An ASGI scope with these headers; of `host` there is one unless it is among them."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    if not any(name == b"host" for name, _ in fields):
        fields.append((b"host", b"127.0.0.1:8780"))
    return {"type": "http", "scheme": "http", "headers": fields, "client": client, "http_version": version}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:8780", "localhost"),
        ("127.0.0.1:8780", "127.0.0.1"),
        ("[::1]:8780", "::1"),
        ("a.example.com:443", "a.example.com"),
        ("", ""),
        ("a b", ""),
        ("a/b", ""),
        ("user@localhost", ""),
        ("localhost:x", ""),
        ("localhost:8780:1", ""),
        ("local\u00e4", ""),
    ],
)
def test_host(host: str, expected: str) -> None:
    """The name asked for is read without port and case; what is no name is none."""
    assert expected == origin.host(scope(("host", host)))


def test_two_hosts_are_none() -> None:
    """A request that names two hosts names none."""
    assert origin.host(scope(("host", "localhost"), ("host", "evil.example"))) == ""


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8780", "[::1]:8780"])
def test_a_neighbour(client: str, host: str) -> None:
    """Who asks on loopback by a loopback name is a neighbour."""
    assert origin.is_local(scope(("host", host), client=(client, 1)))


@pytest.mark.parametrize(
    "request_scope",
    [
        scope(client=("192.0.2.1", 1)),
        scope(client=("::ffff:192.0.2.1", 1)),
        scope(client=None),
        scope(client=("unix", 0)),
        scope(("host", "companion.example.com")),
        scope(("host", "192.0.2.1:8780")),
        scope(("host", "localhost.evil.example")),
        scope(("host", "127.0.0.1.evil.example")),
        scope(("host", "")),
        scope(version="1.0"),
        *(
            scope((name, "127.0.0.1"))
            for name in ("forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip")
        ),
    ],
)
def test_no_neighbour(request_scope: dict[str, Any]) -> None:
    """Another machine, a proxy with or without headers, a foreign name: none of them is a neighbour."""
    assert not origin.is_local(request_scope)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("companion.example.com", True),
        ("a.inner.example", True),
        ("10.1.2.3", True),
        ("fd00::1", True),
        ("evil.example", False),
        ("companion.example.com.evil.example", False),
        ("inner.example", False),
        ("", False),
    ],
)
def test_names_we_go_by(name: str, *, expected: bool) -> None:
    """Loopback's names, and those configured, in whatever case; no other."""
    patterns = ("Companion.example.com", "*.inner.example", "10.1.2.*", "[fd00::1]")
    assert expected == origin.is_served(name, patterns)


def test_every_name() -> None:
    """`*` is every name there is, but a request must have one."""
    assert origin.is_served("evil.example", ["*"])
    assert not origin.is_served("", ["*"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "same-origin"), ("origin", "null")], True),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "none")], False),
        ([("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8780")], False),
        ([("origin", "http://127.0.0.1:8780")], True),
        ([("origin", "http://127.0.0.1")], False),
        ([("origin", "http://localhost:8780")], False),
        ([("origin", "null")], False),
        ([("origin", "")], False),
        ([("origin", "file://")], False),
        ([("origin", "http://127.0.0.1:8780"), ("origin", "http://evil.example")], False),
        ([("host", "c.example"), ("origin", "https://c.example")], True),
        ([("host", "c.example"), ("origin", "https://C.example:443")], True),
        ([("host", "c.example:8443"), ("origin", "https://c.example:8443")], True),
        ([("host", "c.example:8443"), ("origin", "https://c.example")], False),
        ([("host", ""), ("origin", "null")], False),
        ([("host", ""), ("origin", "http://")], False),
    ],
)
def test_same_origin(headers: list[tuple[str, str]], *, expected: bool | None) -> None:
    """Only our own pages are of our origin; a proxy that ends TLS changes nothing; who is no browser says nothing."""
    assert expected is origin.is_same_origin(scope(*headers))


@given(
    st.lists(
        st.tuples(st.sampled_from(["host", "origin", "cookie"]), st.text(alphabet=st.characters(max_codepoint=255)))
    )
)
def test_any_headers(headers: list[tuple[str, str]]) -> None:
    """Any headers give an answer."""
    request_scope = scope(*headers)
    assert origin.is_local(request_scope) in (True, False)
    assert origin.is_same_origin(request_scope) in (True, False, None)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:DB8:0::1", 1), "2001:db8::1"),
        (("x" * 5000, 0), ""),
        (("", 0), ""),
        (None, ""),
    ],
)
def test_peer(client: tuple[str, int] | None, expected: str) -> None:
    """Who asks is an address or nothing: what a proxy says of its client may be any text."""
    assert expected == origin.peer(scope(client=client))
