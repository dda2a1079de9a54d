"""Plant secrets wherever a registration can carry one, in all the spellings that a phone or an attacker may use."""

from typing import Any, Final
from urllib.parse import unquote

from hypothesis import strategies as st

SECRET: Final = "s3cr3tt0ken"
NAMES: Final = (
    *("pn-prid", "pn-param", "pn-tok", "pn-voip-tok", "pn-im-tok", "pn-msg-str", "pn-call-str", "pn-purr", "pn-type"),
    *("pn-anything", "app-id", "unique-device-token-id"),
)
VALUES: Final = (
    SECRET,
    f"{SECRET}:remote&{SECRET}2:voip",
    f"TEAM.org.example&{SECRET}",
    f'"{SECRET}"',
    f'"a;{SECRET}"',
    f'"a\\";{SECRET}"',
    f"%22a;{SECRET}%22",
    f"a%3B{SECRET}",
    f"a%26b%3D{SECRET}",
    f"a?b={SECRET}",
    f"a@{SECRET}",
    f'"a@b;{SECRET}"',
    f"pn-provider={SECRET}",
)
EQUALS: Final = ("=", " = ", "%3D", "%3d", '"=', "%253D")
ODD_PLACES: Final = st.sampled_from(["user", "password", "headers"])


@st.composite
def spellings(draw: st.DrawFn, name: str) -> str:
    """Draw a name in any letter case, some of its characters percent-encoded."""
    return "".join(
        draw(st.sampled_from([c, c, c.upper(), f"%{ord(c):02x}", f"%{ord(c):02X}", f"%25{ord(c):02x}"])) for c in name
    )


@st.composite
def parameters(draw: st.DrawFn) -> str:
    """Draw one parameter with a secret, without its `;`."""
    name = draw(spellings(draw(st.sampled_from(NAMES))))
    return f"{name}{draw(st.sampled_from(EQUALS))}{draw(st.sampled_from(VALUES))}"


@st.composite
def contact_uris(draw: st.DrawFn, user: str = "alice") -> str:
    """Draw a contact URI with secrets among harmless parameters, in any order, some of them twice."""
    harmless = st.sampled_from(["transport=tcp", "ob", "pn-provider=apns", "PN-SILENT=1", "pn-timeout=0", "lr"])
    params = draw(st.permutations([*draw(st.lists(parameters(), max_size=3)), *draw(st.lists(harmless, max_size=3))]))
    places = draw(st.sets(ODD_PLACES))
    planted = f";{draw(parameters())}" if "user" in places else ""
    password = f":{SECRET}" if "password" in places else ""
    headers = f"?Contact=%3Csip%3Ax%3B{draw(parameters())}%3E&X-A={SECRET}" if "headers" in places else ""
    userinfo = draw(st.sampled_from(["", f"{user}{planted}{password}@"]))
    tail = "".join(f";{param}" for param in params)
    return f"{draw(st.sampled_from(['sip:', 'SIPS:']))}{userinfo}192.0.2.1:5060{tail}{headers}"


@st.composite
def registrations(draw: st.DrawFn, user: str = "alice") -> dict[str, Any]:
    """Draw the fields of a registration, each of which may hold a secret."""
    planted = draw(parameters())
    return {
        "uri": draw(contact_uris(user)),
        "received": draw(st.sampled_from(["", "sip:192.0.2.9:5060", f"sip:192.0.2.9:5060;transport=tcp;{planted}"])),
        "path": draw(st.sampled_from(["", f"<sip:p:{SECRET}@192.0.2.8:5060;lr;{planted}>,<sip:192.0.2.7;lr>"])),
        "attr": draw(st.sampled_from(["", planted, f"<urn:uuid:1;pn-prid={SECRET}>", '"<urn:uuid:2>"'])),
        "user_agent": draw(st.sampled_from(["Phone 1.0", f"Phone 1.0 ({planted})"])),
    }


def is_leaked(text: str) -> bool:
    """Return whether a text tells a secret, plainly or percent-encoded."""
    return SECRET in text.lower() or SECRET in unquote(unquote(text)).lower()
