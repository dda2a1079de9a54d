"""`companion calls` and `companion call ID`: how calls sounded, and whose fault it was when one sounded bad."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from companion import config
from companion.cli.options import AsJson, AWindow, ConfigFile, Window, opened, show
from companion.cli.screens.call import call_page
from companion.cli.screens.calls import CallsTable
from companion.query.reader import MAX_CALLS, Reader


def calls(
    device: Annotated[
        str, typer.Argument(metavar="DEVICE", help="Only its calls: a device id, a SIP instance or an AOR.")
    ] = "",
    config_file: ConfigFile = None,
    window: AWindow = Window.h24,
    as_json: AsJson = False,
) -> None:
    """List calls, the newest first, a line each.

    With whom, how long, how it ended, and how it sounded: MOS from 1 (bad) to 4.5 (best), packets lost, round trip,
    and whether it went through a relay. "–" is what nobody told. A call is "gone" when its page went without a word.

    Only calls whose page uses the browser collector are there. A wide terminal shows more, a pipe all of a line.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        reader = Reader(settings, store)
        told = reader.calls(device, window.ms) if device else reader.fleet_calls(window.ms, limit=MAX_CALLS)
    rows, cut = told["calls"], told.get("cut") or told.get("next")
    rows.sort(key=lambda row: str(row["started_at"]), reverse=True)
    table = CallsTable(rows, of_many=not device)
    show(rows, _or_nothing(Group(table, *([_cut()] if cut else [])) if rows else None), as_json=as_json)


def _cut() -> Text:
    return Text(f"these are the newest {MAX_CALLS}: a shorter --window, or a DEVICE, leaves fewer", style="yellow")


def _or_nothing(table: RenderableType | None) -> RenderableType:
    return table or Text("nobody told of a call in this window: do the pages use the collector, see docs/media.md?")


def call(
    call_id: Annotated[
        str, typer.Argument(metavar="ID", help="A Call-ID, or how it begins when that is enough to tell it.")
    ],
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Whose side of it, where both told: a device id, instance or AOR.")
    ] = "",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one call in full: how it sounded, and whose fault it was when it sounded bad.

    The verdict with its evidence, what delay, loss and codec cost of R (the E-model's scale, 93 is best), graphs of
    MOS, round trip, loss and the device's OPTIONS latency on one clock, bad minutes, and what happened in it.

    ID is what `companion calls` lists; docs/media.md tells how verdicts come about.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        reader = Reader(settings, store)
        page = reader.call(reader.call_id(call_id), device)
    show(page, call_page(page), as_json=as_json)
