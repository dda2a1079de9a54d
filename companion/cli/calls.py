"""Show calls: `companion calls` lists them, `companion call ID` shows one."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from companion import config
from companion.cli.options import AsJson, AWindow, ConfigFile, Window, opened, show
from companion.cli.screens.call import render_call_page
from companion.cli.screens.calls import CallsTable, render_refused_reports
from companion.query.reader import MAX_CALLS, Reader


def list_calls(
    device: Annotated[
        str, typer.Argument(metavar="DEVICE", help="Only calls of this device: its id, SIP instance or AOR.")
    ] = "",
    config_file: ConfigFile = None,
    window: AWindow = Window.h24,
    as_json: AsJson = False,
) -> None:
    """List calls, the newest first, one line each.

    A line shows the other end, the length, the end of the call, and its quality: MOS from 1 (bad) to 4.5 (best), lost
    packets, round trip, and whether media used a relay. "–" means unknown. "gone" means that the page stopped reporting
    before the call ended.

    Only pages with the browser collector report calls. A wide terminal shows more columns. A pipe gets all columns.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        reader = Reader(settings, store)
        answer = reader.calls(device, window.ms) if device else reader.fleet_calls(window.ms, limit=MAX_CALLS)
    rows, cut = answer["calls"], answer.get("cut") or answer.get("next")
    rows.sort(key=lambda row: str(row["started_at"]), reverse=True)
    table = CallsTable(rows, of_many=not device)
    notes = [*([_render_cut()] if cut else []), *render_refused_reports(answer)]
    show(rows, _or_hint(Group(table, *notes) if rows else Group(*notes) if notes else None), as_json=as_json)


def _render_cut() -> Text:
    return Text(f"only the newest {MAX_CALLS} calls are listed: choose a shorter --window, or a DEVICE", style="yellow")


def _or_hint(table: RenderableType | None) -> RenderableType:
    return table or Text("no call was reported in this window: do the pages load the collector? see docs/media.md")


def show_call(
    call_id: Annotated[str, typer.Argument(metavar="ID", help="A Call-ID, or its beginning if it is unique.")],
    device: Annotated[
        str,
        typer.Option(metavar="DEVICE", help="The device, if several reported the call: its id, SIP instance or AOR."),
    ] = "",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one call: its quality, and the cause of bad quality.

    Shows the verdict with its evidence, graphs of MOS, round trip, loss and OPTIONS latency on one time axis, bad
    minutes, and happenings. Points of R (the scale of the E-model, 93 is best) show the cost of delay, loss and codec.

    `companion calls` lists the IDs. docs/media.md explains the verdicts.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        reader = Reader(settings, store)
        page = reader.call(reader.call_id(call_id), device)
    show(page, render_call_page(page), as_json=as_json)
