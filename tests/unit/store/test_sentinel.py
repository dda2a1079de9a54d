"""Test the URLs of Sentinels."""

import pytest

from companion.store.sentinel import is_sentinel_url, parse_sentinel_url


def test_all_parts() -> None:
    """A URL has all that the Sentinels and the Redis need."""
    at = parse_sentinel_url(
        "redis+sentinel://ann:s%40cret@a.invalid,[2001:db8::1]:26380/main/3?sentinel_password=x&health_check_interval=9"
    )
    assert at.sentinels == [("a.invalid", 26379), ("2001:db8::1", 26380)]
    assert (at.name, at.login) == ("main", {"password": "x"})
    assert at.options == {"username": "ann", "password": "s@cret", "db": 3, "health_check_interval": 9}


def test_tls() -> None:
    """TLS holds for the Redis, with the options of a plain URL."""
    at = parse_sentinel_url("rediss+sentinel://a:1/main?ssl_ca_certs=/ca.pem")
    assert at.options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize("url", ["redis+sentinel://a:1", "redis+sentinel://a:1/", "redis+sentinel:///main"])
def test_what_is_missing(url: str) -> None:
    """A URL without Sentinels or without the name of the master says what is missing."""
    assert is_sentinel_url(url)
    with pytest.raises(ValueError, match="Sentinel"):
        parse_sentinel_url(url)


def test_other_urls() -> None:
    """A plain URL names no Sentinels."""
    assert not is_sentinel_url("redis://127.0.0.1:6379/0")
