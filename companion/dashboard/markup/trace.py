"""Show a trace as a ladder, and the controls of its recording."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import urlencode

from companion.dashboard.filters.devices import quoted
from companion.dashboard.markup import Markup, card, network_text, note, tag
from companion.dashboard.markup.badges import needs_operate, plural
from companion.dashboard.markup.devices import device_address
from companion.dashboard.markup.fields import select
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.times import time
from companion.recording.recordings import DEFAULT_MINUTES
from companion.text import Json

MINUTES: Final = (5, DEFAULT_MINUTES, 30, 60, 120)
MISSING: Final = (
    "Of calls that reach the device under a number or another address, the INVITE and its replies are missing, unless "
    "the script of OpenSIPS has the line in docs/trace.md."
)


def trace_address(device: str, call_id: str = "") -> str:
    """Return the address of the trace of a device, or of one call in it."""
    query = f"?{urlencode({'call': call_id})}" if call_id else ""
    return f"/traces/{quoted(device)}{query}"


def title(device: str, *, is_recording: bool) -> Markup:
    aor, _, instance = device.rpartition("/")
    path = tag(
        "nav",
        tag("a", "Devices", href="/devices"),
        " › ",
        tag("a", network_text(aor), href=device_address(device)),
        " › SIP trace",
        cls="crumbs",
        aria_label="You are here",
    )
    live = tag("span", icon("feed"), "recording", cls="live", title="New messages appear by themselves")
    words = tag("span", "SIP trace of ", network_text(aor))
    name = tag("h1", words, live if is_recording else None)
    return tag("div", path, name, network_text(instance, "mono"), cls="device-title")


def recording(trace: Json, minutes: int, *, may_operate: bool, refusal: tuple[str, str] | None = None) -> Markup:
    """Show whether the device is recorded, and the buttons for viewers who may operate."""
    current = trace["recording"]
    if current:
        words = tag(
            "p", "Recording ends ", time(current["ends_at"], "moment"), ", asked for by ", network_text(current["by"])
        )
    else:
        words = tag("p", "Not recorded now. Only the messages of this device are mirrored while a recording goes on.")
    refused = note("It can not be recorded", *(tag("p", network_text(line)) for line in refusal)) if refusal else None
    hint = tag("p", MISSING, cls="muted")
    return card("Recording", words, refused, hint, aside=_buttons(bool(current), minutes, may_operate=may_operate))


def _buttons(is_recording: bool, minutes: int, *, may_operate: bool) -> Markup:  # noqa: FBT001 - a value
    if not may_operate:
        return tag("span", needs_operate("record the device"), cls="hint")
    if is_recording:
        return tag("button", icon("pause"), "Stop recording", type="button", act="stop", cls="button")
    options = [(str(one), f"{one} minutes") for one in MINUTES]
    start = tag("button", icon("resume"), "Record", type="button", act="record", cls="button main")
    return tag("div", select("minutes", str(minutes), options, "How long to record"), start, cls="line")


def choices(trace: Json, method: str, call_id: str) -> Markup:
    """Show the filters by method and call, and the exports."""
    methods = [("", "All methods"), *((one, one) for one in trace["methods"])]
    calls = [("", "All calls"), *((one, f"{n}. {one[:24]}") for n, one in enumerate(trace["call_ids"], 1))]
    fields = (select("method", method, methods, "Method"), select("call", call_id, calls, "Call-ID"))
    return tag("div", *fields, *_exports(trace["device"], call_id), cls="line")


def _exports(device: str, call_id: str) -> Sequence[Markup]:
    query = f"?{urlencode({'call_id': call_id})}" if call_id else ""
    address = f"/api/v1/devices/{quoted(device)}/trace"
    return [
        tag("a", icon("download"), name, href=f"{address}.{end}{query}", download=True, cls="button")
        for name, end in (("Text", "txt"), ("pcap", "pcap"))
    ]


def explanation(trace: Json) -> Markup:
    """Show in one line what failed."""
    if not trace["explanation"]:
        return None
    return tag(
        "p", icon("losing"), tag("span", network_text(trace["explanation"]["text"])), cls="banner", role="status"
    )


def ladder(trace: Json, opened: AbstractSet[int], *, hidden: int = 0, name: str = "Messages") -> Markup:
    """Show who took part, and each message as an arrow; a click on it shows its text."""
    steps = trace["steps"]
    if not steps:
        text = "Messages appear here as soon as the device sends or gets one." if trace.get("recording") else ""
        return card(name, note("No messages", tag("p", text)), name="ladder")
    shared = tag("p", "? may be a message of another device of the same AOR", cls="muted") if trace["shared"] else None
    older = tag("p", "Older messages are left out: the trace is too large.", cls="muted") if trace["cut"] else None
    more = None
    if hidden:
        words = f"Show {plural(hidden, 'earlier message')}"
        more = tag("button", words, type="button", act="everything", cls="button more")
    columns = len(trace["participants"])
    rows = (_step(step, trace["participants"], step["number"] in opened) for step in steps)
    body = tag("ol", _head(trace["participants"]), *rows, cls=f"ladder columns-{columns}")
    aside = tag("span", plural(trace["total"], "message"), cls="hint")
    return card(name, shared, older, more, body, aside=aside, name="ladder")


def _breakable(address: str) -> Iterator[Markup]:
    """Let a narrow column break an address before its port only."""
    host, colon, port = address.rpartition(":")
    yield tag("span", network_text(host), tag("wbr"), f"{colon}{port} ")


def _head(participants: Sequence[Json]) -> Markup:
    cells = (
        tag(
            "span",
            tag("strong", network_text(one["name"])),
            tag("small", *(part for address in one["addresses"][:2] for part in _breakable(address))),
            cls="participant",
        )
        for one in participants
    )
    return tag("li", tag("span", cls="clock"), tag("span", *cells, cls="way"), cls="participants")


def _step(step: Json, participants: Sequence[Json], is_open: bool) -> Markup:  # noqa: FBT001 - a value
    signs = [name for name in ("failed", "repeat", "shared") if step[name]]
    button = tag(
        "button",
        tag("span", time(step["at"], "exact"), cls="clock"),
        _way(step, len(participants)),
        type="button",
        act="step",
        value=step["number"],
        aria_expanded="true" if is_open else "false",
        aria_label=_describe(step, participants),
        cls=" ".join(["step", *signs]),
    )
    return tag("li", button, _message(step) if is_open else None, key=step["number"])


def _describe(step: Json, participants: Sequence[Json]) -> str:
    """Describe a step in words for screen readers."""
    start, end = participants[step["from"]], participants[step["to"]]
    signs = {"failed": "failed", "repeat": "repeated", "shared": "perhaps of another device"}
    words = [words for name, words in signs.items() if step[name]]
    of_method = "" if step["label"] == step["method"] else f" to {step['method']}"
    return ", ".join(
        (f"{step['at'][11:23]} UTC, {step['label']}{of_method} from {start['name']} to {end['name']}", *words)
    )


def _way(step: Json, columns: int) -> Markup:
    """Draw the lines of all participants, and the arrow between two of them."""
    first, last = sorted((step["from"], step["to"]))
    direction = "onward" if step["to"] > step["from"] else "back" if step["to"] < step["from"] else "own"
    of_method = None if step["label"] == step["method"] else tag("small", f" {step['method']}")
    signs = [tag("small", words) for name, words in (("repeat", " repeated"), ("shared", " ?")) if step[name]]
    label = tag("span", network_text(step["label"]), of_method, *signs, cls="label")
    lines = (tag("i", cls=f"lifeline at-{n + 1}") for n in range(columns))
    arrow = tag("span", label, cls=f"arrow {direction} at-{first + 1} over-{last - first + 1}")
    return tag("span", *lines, arrow, cls="way", aria_hidden="true")


def _message(step: Json) -> Markup:
    way = f"{step['protocol']} {step['source']} → {step['target']} at {step['node']}"
    homer = None
    if step["homer_url"]:
        address = f"/api/v1/calls/{quoted(step['call_id'])}/homer"
        homer = tag("a", "All of this call in Homer", href=address, cls="button")
    lines = [piece for line in step["text"].split("\n") for piece in (line, "\n")]
    text = tag("code", *lines, cls="sip-text", tabindex="0")
    return tag("div", tag("p", network_text(way), homer, cls="muted line"), text, cls="sip")


def call_trace(trace: Json, device: str, call_id: str) -> Markup:
    """Show the messages of a call on its page; nothing where none were recorded."""
    if not trace["steps"]:
        return None
    link = tag("a", "Filters, texts and exports", href=trace_address(device, call_id))
    return tag("div", explanation(trace), ladder(trace, frozenset(), name="SIP trace"), tag("p", link), cls="stack")
