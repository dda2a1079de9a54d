"""Sessions: a cookie is worth what was signed, for as long as it was signed for, while its token is there."""

from hypothesis import given
from hypothesis import strategies as st

from companion.http.access.sessions import MAX_ENDED, SECONDS, Sessions
from companion.tokens import access
from companion.tokens.access import Token

KEY = "k" * 32
ANN = access.make("ann", "operate")[1]
BOB = access.make("bob", "read")[1]


class Clock:
    """Epoch seconds that stand still unless they are moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session() -> None:
    """A cookie says who logged in, for twelve hours."""
    clock = Clock()
    sessions = Sessions([ANN, BOB], KEY, clock)
    cookie = sessions.start(BOB)
    session = sessions.read(cookie)
    assert session
    assert (session.token, session.until) == (BOB, clock.now + SECONDS)
    clock.now += SECONDS - 1
    assert sessions.read(cookie)
    clock.now += 1
    assert sessions.read(cookie) is None


def test_sessions_outlive_a_restart_with_the_same_key() -> None:
    """With a configured key a restart ends no session; with a random one it ends all."""
    cookie = Sessions([ANN], KEY).start(ANN)
    assert Sessions([ANN], KEY).read(cookie)
    assert Sessions([ANN], "").read(cookie) is None
    assert Sessions([ANN], "").read(Sessions([ANN], "").start(ANN)) is None


def test_a_session_dies_with_its_token() -> None:
    """A token that is taken away, replaced, or given another scope ends its sessions."""
    cookie = Sessions([ANN], KEY).start(ANN)
    replaced = [access.make("ann", "operate")[1]]
    demoted = [Token(ANN.name, "read", ANN.digest)]
    assert [Sessions(tokens, KEY).read(cookie) for tokens in ([BOB], replaced, demoted)] == [None] * 3


def test_a_cookie_can_not_be_changed() -> None:
    """Whoever changes a character of a cookie, or signs it with another key, has none."""
    sessions = Sessions([ANN, BOB], KEY)
    cookie = sessions.start(BOB)
    changed = [cookie[:at] + chr(ord(letter) ^ 1) + cookie[at + 1 :] for at, letter in enumerate(cookie)]
    assert [session for session in map(sessions.read, changed) if session] == []
    assert sessions.read(cookie.replace("bob", "ann")) is None
    assert sessions.read(Sessions([ANN, BOB], "x" * 32).start(BOB)) is None


def test_logging_out() -> None:
    """Who logs out ends that session, whoever has a copy of the cookie, and no other."""
    sessions = Sessions([ANN], KEY)
    mine, other = sessions.start(ANN), sessions.start(ANN)
    sessions.end(mine)
    sessions.end(mine)
    sessions.end("nonsense")
    assert sessions.read(mine) is None
    assert sessions.read(other)


def test_what_is_kept_of_ended_sessions_is_bounded() -> None:
    """Of ended sessions only so many are remembered, the last ones; those that are over anyway go first."""
    clock = Clock()
    sessions = Sessions([ANN], KEY, clock)
    cookies = [sessions.start(ANN) for _ in range(MAX_ENDED + 1)]
    for cookie in cookies:
        sessions.end(cookie)
    assert len(sessions._ended) == MAX_ENDED
    assert sessions.read(cookies[-1]) is None
    clock.now += SECONDS
    sessions.end(sessions.start(ANN))
    assert len(sessions._ended) == 1


@given(st.text(max_size=300))
def test_any_cookie(cookie: str) -> None:
    """Any text is read as no session."""
    assert Sessions([ANN], KEY).read(cookie) is None
