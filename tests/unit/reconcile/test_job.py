"""When a comparison is due, and how OpenSIPS is reached for it."""

from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from companion.config import load
from companion.opensips.mi import open_mi
from companion.reconcile.job import LastReconciliation, explain_due
from companion.store.nodes import Feed

NOW = 1_795_452_109_605
HOUR = 3_600_000
EVERY = 6 * HOUR
FEED = Feed("n", run=7, steady_since=5)
LAST = LastReconciliation(at=NOW - HOUR, run=7, steady_since=5, up_since=NOW - 24 * HOUR, seconds=0.5, result="done")


@pytest.mark.parametrize(
    ("last", "feed", "up_since", "reason"),
    [
        (LAST, FEED, LAST.up_since, ""),
        (LAST, FEED, LAST.up_since + 2000, ""),
        (LastReconciliation(), FEED, LAST.up_since, "it was never compared"),
        (LAST, replace(FEED, run=8), LAST.up_since, "the bridge was started"),
        (LAST, replace(FEED, steady_since=9), LAST.up_since, "events may be missing"),
        (LAST, FEED, NOW - HOUR // 2, "OpenSIPS was started"),
        (replace(LAST, at=NOW - EVERY), FEED, LAST.up_since, "the last time was long ago"),
        (replace(LAST, failures=3), FEED, LAST.up_since, "the last time failed"),
        (replace(LAST, failures=6), FEED, LAST.up_since, ""),
        (replace(LAST, at=NOW - 59_000), replace(FEED, run=8), LAST.up_since, ""),
        (replace(LAST, seconds=400), replace(FEED, run=8), LAST.up_since, ""),
        (replace(LAST, at=NOW + HOUR), FEED, LAST.up_since, "the clock was set back"),
        (replace(LAST, at=NOW + 5_000), FEED, LAST.up_since, ""),
    ],
)
def test_due(last: LastReconciliation, feed: Feed, up_since: int, reason: str) -> None:
    """Each reason is named; none counts just after the last comparison, a long one or one that keeps failing."""
    assert explain_due(last, feed, up_since, EVERY, NOW) == reason


async def test_reaching_mi(tmp_path: Path) -> None:
    """A table's user, password file and time limit are what MI is asked with, and the password is in no text."""
    (tmp_path / "secret").write_text("wonder\n")
    file = tmp_path / "config.toml"
    file.write_text(
        f'[[opensips]]\nmi_url = "http://h/mi"\nmi_user = "u"\nmi_password_file = "{tmp_path}/secret"\nmi_timeout = 2\n'
    )
    (table,) = load(file, {}).opensips
    assert "wonder" not in repr(table)
    async with open_mi(table) as mi:
        assert mi._timeout == 2
        assert isinstance(mi._http._client.auth, httpx2.BasicAuth)
        request = next(mi._http._client.auth.auth_flow(httpx2.Request("POST", mi.url)))
        assert request.headers["authorization"] == "Basic dTp3b25kZXI="
