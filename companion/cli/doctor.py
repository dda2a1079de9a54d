"""Check what keeps the companion from working, and say what to do: `companion doctor`."""

from collections import Counter
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from companion import config
from companion.cli.options import AsJson, ConfigFile, show
from companion.cli.screens.text import text
from companion.doctor.check import check
from companion.doctor.finding import Finding, Level, Section
from companion.doctor.gather import gather
from companion.errors import ConfigError, MiError
from companion.opensips.mi import open_mi
from companion.opensips.subscriptions import destinations, subscribe
from companion.services import event_loop
from companion.text import printable, times

DAY_SECONDS: Final = 86_400
MARKS: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "note": ("·", "cyan"),
    "warning": ("!", "yellow"),
    "failure": ("✗", "bold red"),
}
NAME_WIDTH: Final = 20
REMEDY: Final = "cyan"


def check_setup(
    config_file: ConfigFile = None,
    fix_subscriptions: Annotated[  # noqa: FBT002 - a flag is a keyword on a command line
        bool, typer.Option("--fix-subscriptions", help="First subscribe to missing events of OpenSIPS, for a day.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Check OpenSIPS, the bus and Redis, and name a remedy for each problem.

    ✓ means no problem, · a note, ! a warning. ✗ means that the companion cannot work, and the exit code is 1.

    Nothing is changed, unless you give --fix-subscriptions.

    Example: companion doctor -c config.toml
    """
    settings = config.load(config_file)
    sections = event_loop.run(_check(settings, fix=fix_subscriptions))
    show([_section_to_json(section) for section in sections], render_report(sections), as_json=as_json)
    if any(finding.level == "failure" for section in sections for finding in section.findings):
        raise typer.Exit(1)


async def _check(settings: config.Config, *, fix: bool) -> list[Section]:
    sections = []
    if fix:
        findings = [await _subscribe_missing(settings, table) for table in settings.opensips]
        sections.append(Section("Subscriptions made", findings))
    return [*sections, *check(await gather(settings))]


async def _subscribe_missing(settings: config.Config, table: config.OpensipsSection) -> Finding:
    """Subscribe where it is lacking. It lasts until OpenSIPS is restarted, a day at most."""
    try:
        async with open_mi(table) as mi:
            done = await subscribe(mi, destinations(table, settings.bridge), DAY_SECONDS)
    except (MiError, ConfigError) as error:
        return Finding("failure", table.node, str(error), "see below")
    if not done:
        return Finding("ok", table.node, "nothing had to be subscribed")
    events = ", ".join(one.event for one in done)
    lasting = "" if table.subscribe else "set subscribe = true in [[opensips]], or it ends in a day or at a restart"
    return Finding("note", table.node, f"{events} to {done[0].socket}", lasting)


def _section_to_json(section: Section) -> dict[str, Any]:
    return {"section": section.title, "findings": [_finding_to_json(finding) for finding in section.findings]}


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    level, name, text, remedy = finding
    return {"level": level, "name": name, "seen": text, "remedy": remedy}


def render_report(sections: list[Section]) -> Group:
    """Render the report: a line for each finding, its remedy below it, and a last line with the totals."""
    longest = max((len(finding.name) for section in sections for finding in section.findings), default=0)
    parts: list[RenderableType] = []
    for section in sections:
        parts += (text(section.title, "bold"), _render_findings(section.findings, min(longest, NAME_WIDTH)), "")
    return Group(*parts, _render_totals(sections))


def _render_findings(findings: list[Finding], name_width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=3, justify="right")
    table.add_column(width=name_width, overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.level]
        bright = "" if finding.level in ("ok", "note") else "bold"
        table.add_row(Text(mark, style=colour), _render_text(finding.name, bright), _render_text(finding.text, bright))
        if finding.remedy:
            table.add_row("", "", _render_remedy(finding.remedy))
    return table


def _render_remedy(remedy: str) -> Table:
    """Render a remedy behind one arrow: a sentence first, then lines to copy."""
    table = Table.grid(padding=(0, 1))
    for number, line in enumerate(remedy.splitlines()):
        table.add_row("" if number else Text("→", style=REMEDY), _render_text(line, REMEDY))
    return table


def _render_text(words: str, style: str = "") -> Text:
    """Render text that may be longer than a line, without control characters."""
    return Text(printable(words), style=style)


def _render_totals(sections: list[Section]) -> Text:
    levels = Counter(finding.level for section in sections for finding in section.findings)
    if levels["failure"]:
        return Text(f"{times(levels['failure'], 'failure')}, {times(levels['warning'], 'warning')}", style="bold red")
    if levels["warning"]:
        return Text(f"it works, with {times(levels['warning'], 'warning')}", style="yellow")
    return Text("all is well", style="green")
