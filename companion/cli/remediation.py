"""Pause and resume remediation, and show what it decided: `companion remediation` and `companion remediations`."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened, show
from companion.cli.screens.text import ago, text
from companion.remediation import audit
from companion.remediation.status import remediation_status
from companion.store import sweeps
from companion.store.store import Store
from companion.times import format_seconds, iso, parse_duration

POLL_SECONDS = 1.0

app = typer.Typer(help="Pause remediation, resume it, and show its state.", no_args_is_help=True)


@app.command()
def pause(
    duration: Annotated[str, typer.Argument(help="How long, such as 90s, 30m, 2h or 1d.")],
    config_file: ConfigFile = None,
) -> None:
    """Pause remediation on all companions of this Redis, for example during maintenance.

    No contact is woken or removed until the time is over. Remediation then continues by itself.

    Example: companion remediation pause 30m
    """
    seconds = parse_duration(duration)
    with opened(config.load(config_file)) as store:
        sweeps.pause(store, seconds)
    typer.echo(f"remediation is paused for {duration}; `companion remediation resume` ends the pause")


@app.command()
def resume(config_file: ConfigFile = None) -> None:
    """End a pause.

    Example: companion remediation resume
    """
    with opened(config.load(config_file)) as store:
        sweeps.resume(store)
    typer.echo("remediation is running again")


@app.command()
def off(config_file: ConfigFile = None) -> None:
    """Switch to observing, on all companions of this Redis and without a restart.

    Example: companion remediation off
    """
    with opened(config.load(config_file)) as store:
        sweeps.switch_off(store)
    typer.echo("remediation only observes; `companion remediation on` lets the configured mode hold again")


@app.command()
def on(config_file: ConfigFile = None) -> None:
    """Return to the configured mode after `companion remediation off`."""
    settings = config.load(config_file)
    with opened(settings) as store:
        sweeps.switch_on(store)
    typer.echo(f"the configured mode holds again: {settings.remediation.mode}")


@app.command()
def status(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the mode, the last sweep, the reasons why nothing is done, open breakers, and removals by OpenSIPS itself.

    Example: companion remediation status
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        state = remediation_status(settings, store)
    show(state, _render_state(state), as_json=as_json)


def _render_state(state: dict[str, Any]) -> Group:
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("mode", state["mode"]),
        ("paused", f"for {format_seconds(state['paused_seconds'])} more" if state["paused_seconds"] else "no"),
        ("last sweep", ago(state["last_sweep_at"], datetime.now(UTC)) or "none yet: is `companion run scheduler` up?"),
        ("candidates", f"{state['candidates']}, of which {state['acted']} were decided on"),
        ("waiting", state["waiting"]),
        ("held back by", state["troubles"]),
        ("switched off", f"since {state['off_since']}" if state["off_since"] else "no"),
        ("suspect removals", f"{state['suspects']} in the last hour"),
        ("open breakers", ", ".join(f"{node} since {since}" for node, since in state["open_breakers"].items())),
    ):
        table.add_row(Text(name, style="bright_black"), text(value))
    notes = [
        Text(
            f"OpenSIPS itself removed {count} contacts of {node} after lost pings: both do the same work",
            "yellow",
        )
        for node, count in state["removed_by_opensips"].items()
    ]
    return Group(table, *notes)


def list_remediations(
    config_file: ConfigFile = None,
    count: Annotated[int, typer.Option(help="Number of decisions, the newest first.", min=1, max=100_000)] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new decisions as they come, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what remediation decided, the reason, and the outcome; and who recorded a device.

    With both --json and --follow, each line is a JSON object.

    Example: companion remediations --follow
    """
    with opened(config.load(config_file)) as store:
        entries = audit.read(store, count=count)
        if not follow:
            show(
                [audit.render(entry) for _, entry in entries],
                _render_decisions([entry for _, entry in entries]),
                as_json=as_json,
            )
            return
        while True:
            for _, entry in entries:
                _print_decision(entry, as_json=as_json)
            last = entries[-1][0] if entries else _load_newest_id(store)
            time.sleep(POLL_SECONDS)
            entries = audit.read(store, last)


def _load_newest_id(store: Store) -> str:
    newest = audit.read(store, count=1)
    return newest[-1][0] if newest else "-"


def _print_decision(entry: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(audit.render(entry)))
    else:
        Console().print(_render_decision(entry), soft_wrap=True)


def _render_decision(entry: dict[str, Any]) -> Text:
    line = Text(f"{iso(entry['at'])}  ", style="bright_black")
    line.append_text(text(f"{entry['action']} {entry['result']}", "bold"))
    line.append_text(text(f"  {entry['device']}  {entry['reason']}: {entry['why']}"))
    return line.append_text(text(f"  ({entry['mode']})")) if entry["mode"] else line


def _render_decisions(entries: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WHEN", "DEVICE", "REASON", "LOST", "ACTION", "RESULT", "WHY", "MODE"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=48)
    for entry in entries:
        names = ("device", "reason", "lost", "action", "result", "why", "mode")
        table.add_row(text(ago(iso(entry["at"]), datetime.now(UTC))), *(text(entry[name]) for name in names))
    return table
