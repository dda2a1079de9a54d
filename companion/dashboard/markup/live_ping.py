"""Show pings on request: the button, and what came of them."""

from companion.dashboard.markup import Markup, network_text, note, tag
from companion.dashboard.markup.badges import ms, needs_operate, share, tally
from companion.dashboard.markup.icons import icon
from companion.pinging.run import PingRun


def head(*, is_running: bool, may_operate: bool) -> Markup:
    """Show the title, and the button for viewers who may operate."""
    title = tag("h2", "Ping now", id="ping-now-title")
    if not may_operate:
        hint = tag("span", needs_operate("ping the device"), cls="hint")
        return tag("header", title, hint)
    if is_running:
        button = tag("button", icon("pause"), "Stop", type="button", act="stop", cls="button")
    else:
        button = tag("button", icon("resume"), "Ping for a minute", type="button", act="ping", cls="button")
    return tag("header", title, button)


def figures(run: PingRun, latest: str, node: str) -> tuple[Markup, Markup]:
    """Show the figures of a run; `latest` is what the phone or OpenSIPS said last."""
    low, average, high = run.round_trip_ms or (None, None, None)
    lost: list[Markup] = [str(run.lost), tag("small", f" {share(run.loss_ratio)}")]
    numbers = tag(
        "dl",
        tally("Average", ms(average)),
        tally("Maximum", ms(high)),
        tally("Minimum", ms(low)),
        tally("Pings", run.sent),
        tally("Lost", tag("span", *lost), "alarm" if run.lost else ""),
        cls="tallies",
    )
    words = tag("p", "Last reply: ", network_text(latest), " through ", network_text(node), cls="muted")
    failed = tag("p", f"{run.failed} could not be asked, which proves nothing of the device", cls="muted")
    return numbers, tag("div", words, failed if run.failed else None)


def intro() -> Markup:
    return tag("p", "OpenSIPS sends it an OPTIONS each second. It does not change the latency above.", cls="muted")


def refusal(reason: str, remedy: str) -> Markup:
    """Show why the device can not be pinged."""
    return note("It can not be pinged", tag("p", network_text(reason)), tag("p", network_text(remedy)))


def describe_graph(run: PingRun) -> str:
    """Describe the graph in words for screen readers."""
    return f"Pings on request: {run.sent} sent, {run.answered} answered, {run.lost} lost."
