"""What a User-Agent says of the platform, as far as it says anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.dashboard.user_agent import Platform, parse

IPHONE = "iPhone; CPU iPhone OS 17_2 like Mac OS X"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
USER_AGENTS = [
    ("", Platform()),
    (
        "LinphoneAndroid/5.2.5 (Pixel 8) LinphoneSDK/5.3.47",
        Platform("app", "Linphone 5.2.5", "", "Android", "Pixel 8", "LinphoneSDK 5.3.47"),
    ),
    (
        "LinphoneiOS/5.2.3 (iPhone 15) LinphoneSDK/5.3.47",
        Platform("app", "Linphone 5.2.3", "", "iOS", "iPhone 15", "LinphoneSDK 5.3.47"),
    ),
    (
        "Browser Phone 0.3.29 (SIPJS - 0.20.0) Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0",
        Platform("browser", "Browser Phone 0.3.29", "Firefox 133.0", "Linux", "", "SIP.js 0.20.0"),
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/131.0.2903.86",
        Platform("browser", "", "Edge 131.0.2903.86", "Windows 10 or later"),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36",
        Platform("browser", "", "Chrome 131.0.0.0", "Android 14"),
    ),
    (
        f"Mozilla/5.0 ({IPHONE}) AppleWebKit/605.1.15 Version/17.2 Mobile/15E148 Safari/604.1",
        Platform("browser", "", "Safari 17.2", "iOS 17.2"),
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.2 Safari/605.1.15",
        Platform("browser", "", "Safari 17.2", "macOS"),
    ),
    ("SIP.js/0.21.2", Platform("browser", library="SIP.js 0.21.2")),
    ("JsSIP 3.10.1", Platform("browser", library="JsSIP 3.10.1")),
    ("SIPERB 0.1 (Android)", Platform("app", "SIPERB 0.1", system="Android")),
    ("Zoiper rv2.10.20.5", Platform("app", "Zoiper 2.10.20.5")),
    ("Acrobits Groundwire/6.5", Platform("app", "Acrobits Groundwire 6.5")),
    ("3CXPhone 6.0.1", Platform("app", "3CXPhone 6.0.1")),
    ("baresip v1.1.0 (x86_64/linux)", Platform("app", "baresip 1.1.0", system="Linux")),
    ("Yealink SIP-T46S 66.86.0.15", Platform("desk phone", model="Yealink SIP-T46S 66.86.0.15")),
    ("PolycomVVX-VVX_411-UA/5.9.0.9373", Platform("desk phone", model="PolycomVVX-VVX_411-UA 5.9.0.9373")),
    ("AVM FRITZ!Box 7590 154.07.57 TAL", Platform("desk phone", model="AVM FRITZ!Box 7590 154.07.57")),
    ('Weird "UA" \\ é \t<b>x</b>', Platform("app", 'Weird "UA" \\ é')),
]


@pytest.mark.parametrize(("user_agent", "expected"), USER_AGENTS)
def test_known_user_agents(user_agent: str, expected: Platform) -> None:
    """A User-Agent is read as far as it goes: kind, app, browser, system, hardware, library."""
    assert expected == parse(user_agent)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (USER_AGENTS[1][0], "Pixel 8"),
        (USER_AGENTS[3][0], "Firefox 133.0"),
        ("SIP.js/0.21.2", "SIP.js 0.21.2"),
        ("", ""),
    ],
)
def test_name(user_agent: str, name: str) -> None:
    """A platform goes by what a person would call it: the browser, the hardware, the app."""
    assert name == parse(user_agent).name


@given(st.text(max_size=600))
def test_anything_is_read(user_agent: str) -> None:
    """Whatever a phone sends is read into texts that are no longer than it, but for the words we add."""
    for part in parse(user_agent):
        assert len(part) <= len(user_agent) + 20


@pytest.mark.parametrize("part", ["a ", "a/", "Mozilla/5.0 (", "1.", "iPad; ", "Version/1 ", "A1/", "-"])
def test_long_texts_take_no_time(part: str) -> None:
    """No User-Agent of the greatest length makes a pattern search for seconds (the test's own limit is its bound)."""
    for _ in range(20):
        parse(part * (512 // len(part)))
