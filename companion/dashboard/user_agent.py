"""Read the platform from a User-Agent: app, browser, system, hardware. A phone may claim anything.

No I/O. The text comes from the network and may be anything: each pattern is linear in its length.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from companion.opensips.events import NO_USER_AGENT

Kind = Literal["browser", "app", "desk phone", ""]


class Platform(NamedTuple):
    """Hold what a User-Agent claims; "" for what it does not mention. Names carry versions: `Firefox 133.0`."""

    kind: Kind = ""
    app: str = ""
    browser: str = ""
    system: str = ""
    model: str = ""
    library: str = ""

    @property
    def name(self) -> str:
        """Return the name that people would use."""
        return self.browser or self.model or self.app or self.library


Pattern = tuple[re.Pattern[str], str]
"""What to look for, and what to call it; `{0}` is what the pattern's group found."""


def _patterns(*rows: tuple[str, str]) -> tuple[Pattern, ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), name) for pattern, name in rows)


_VERSION: Final = r"([0-9]+(?:\.[0-9]+)*)"

_BROWSERS: Final = _patterns(
    # those that also claim to be another come first
    (rf"\bEdg(?:A|iOS)?/{_VERSION}", "Edge {0}"),
    (rf"\bOPR/{_VERSION}", "Opera {0}"),
    (rf"\bSamsungBrowser/{_VERSION}", "Samsung Internet {0}"),
    (rf"\bElectron/{_VERSION}", "Electron {0}"),
    (rf"\b(?:Firefox|FxiOS)/{_VERSION}", "Firefox {0}"),
    (rf"\b(?:Headless)?(?:Chrome|CriOS)/{_VERSION}", "Chrome {0}"),
    (rf"\bVersion/{_VERSION} (?:Mobile/\w+ )?Safari/", "Safari {0}"),
    (r"\b(Firefox|Chrome|Safari|Edge|Opera)\b", "{0}"),
)
_SYSTEMS: Final = _patterns(
    (r"\biPad;.{0,40}? OS ([0-9_]+)", "iPadOS {0}"),
    (r"\biPhone OS ([0-9_]+)", "iOS {0}"),
    (rf"\biP(?:hone|ad)?OS[ /]{_VERSION}", "iOS {0}"),
    (rf"\bAndroid[ /]{_VERSION}", "Android {0}"),
    (r"iOS\b|iPhone\b", "iOS"),
    (r"\biPad", "iPadOS"),
    (r"Android", "Android"),
    (r"\bCrOS\b", "ChromeOS"),
    (r"\bWindows NT 10\b|\bWindows NT 1[01]\.", "Windows 10 or later"),
    (r"\bWin(?:dows|32|64)\b", "Windows"),
    # browsers have said 10_15_7 ever since, whatever the version
    (r"\bmac ?OS\b|\bMacintosh\b|\bDarwin\b", "macOS"),
    (r"\bLinux\b|\bUbuntu\b|\bX11\b", "Linux"),
)
_LIBRARIES: Final = _patterns(
    (rf"\bSIP\.?JS(?:/| - ){_VERSION}", "SIP.js {0}"),
    (rf"\bJsSIP[ /]{_VERSION}", "JsSIP {0}"),
    (rf"\bLinphoneSDK/{_VERSION}", "LinphoneSDK {0}"),
    (rf"\bLinphoneCore/{_VERSION}", "LinphoneCore {0}"),
    (rf"\bPJSUA2?\b(?: v{_VERSION})?", "PJSIP {0}"),
    (rf"\bsipML5\b(?:-v{_VERSION})?", "sipML5 {0}"),
)
_IN_BROWSERS: Final = ("SIP.js", "JsSIP", "sipML5")
_DESK_PHONES: Final = re.compile(
    r"(?:Yealink|Grandstream|snom|Poly|Cisco|Fanvil|Gigaset|Aastra|Mitel|Panasonic|Htek|Avaya|Alcatel|OpenScape|Unify|"
    r"Spectralink|Sangoma|AudioCodes|Patton|Akuvox|Algo|2N|OBIHAI|FRITZ!|AVM|Linksys|Tiptel|Escene|Flyingvoice|Vtech|"
    r"Digium|OpenStage|TAU-|MP-?[0-9]{3}\b|[ACNS][0-9]{3}A? ?IP\b)",  # DECT bases of Gigaset
    re.IGNORECASE,
)
_SOFTPHONES: Final = re.compile(
    r"\w+ (?:Wave|gsmeeting|Jabber|FRITZ!App|(?:[\w-]+ )?(?:Softphone|Communicator|Workplace))\b", re.IGNORECASE
)
"""Apps of those who make desk phones."""
_NAMES_WITH_VERSION: Final = [
    re.compile(
        r"([^\W_][^()\[\]/;<>\"]{0,60}?)"
        r"[/_ -]+(?:(?:release|build|version) |rev\.? ?|rv?\.?|v\.?)?"
        # a number that another one follows is that of the hardware
        rf"{version}(?=$|[\s;,()_+~-]|\.[a-z])(?!\s+[0-9]+\.[0-9])",
        re.IGNORECASE,
    )
    # a number with a dot is a version; one without may be a model's
    for version in (r"([0-9]+(?:\.[0-9]+[a-z]{0,3})+)", r"([0-9]+(?:_[0-9]+){2,})", r"([0-9]+[a-z]?)")
]
_SPACES: Final = (
    (re.compile(r"^(\w+)/(?=[a-z]\w*-[0-9])", re.IGNORECASE), r"\1 "),  # Cisco/SPA504G-7.4.9c
    (re.compile(r"^([a-z]{3,30})(?=[0-9]+\.[0-9]+\.[0-9])", re.IGNORECASE), r"\1 "),  # Jitsi2.11.20200408Linux
    (re.compile(r"([0-9])(?=Linux|Windows|Mac OS)"), r"\1 "),
    (re.compile(r" {2,}"), " "),
)
"""Where a space belongs: behind the vendor of a model, and around a version in the middle of a word."""
_MODEL: Final = re.compile(r"\(([^();/]{2,40})\) LinphoneSDK/")
_STANDARDS: Final = re.compile(r"\bMozilla/5\.0\b.*|^IM-client/OMA[0-9.]+ ?", re.DOTALL)
"""Names of a standard, not of an app."""


def parse(user_agent: str) -> Platform:
    """Read a User-Agent, of a browser or of SIP.

    >>> phone = parse("LinphoneAndroid/5.2.5 (Pixel 8) LinphoneSDK/5.3.47")
    >>> phone.kind, phone.app, phone.system, phone.model
    ('app', 'Linphone 5.2.5', 'Android', 'Pixel 8')
    """
    if user_agent == NO_USER_AGENT:
        return Platform()
    for pattern, spaced in _SPACES:
        user_agent = pattern.sub(spaced, user_agent)
    library = _first(_LIBRARIES, user_agent)
    own = _STANDARDS.sub("", user_agent).strip()
    if _DESK_PHONES.match(own) and not _SOFTPHONES.match(own):
        return Platform("desk phone", model=_app(own))
    browser = _first(_BROWSERS, user_agent)
    model = _MODEL.search(user_agent)
    app = _app(own)
    return Platform(
        _kind(browser, library, app),
        "" if app == library else app,
        browser,
        _first(_SYSTEMS, user_agent),
        model[1].strip() if model else "",
        library,
    )


def _kind(browser: str, library: str, app: str) -> Kind:
    if browser or library.startswith(_IN_BROWSERS):
        return "browser"
    return "app" if app else ""


def _first(patterns: Sequence[Pattern], text: str) -> str:
    """Return the name of the first pattern that matches, with its version."""
    for pattern, name in patterns:
        match = pattern.search(text)
        if match:
            version = next((group for group in match.groups() if group), "")
            return name.format(version.replace("_", ".")).strip()
    return ""


def _app(text: str) -> str:
    """Return the name and version at the start of a User-Agent, else its first words.

    The forms are `Name/1.2`, `Name 1.2`, `Name rv1.2`, `Name release 1.2`, and `1_2_3` or `1.2c` for a version.
    """
    match = next(filter(None, (pattern.match(text) for pattern in _NAMES_WITH_VERSION)), None)
    if match is None:
        return re.split(r"[(/;\t]", text, maxsplit=1)[0].strip()[:60]
    name = re.sub(r"^(Linphone)(?:Android|iOS|iPhone|iPad|[ -]?Desktop)$", r"\1", match[1].strip(), flags=re.IGNORECASE)
    return f"{name} {match[2]}"
