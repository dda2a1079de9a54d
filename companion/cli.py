"""The command line. Each command reads its options, calls one thing, and shows what comes back."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress

from companion import __version__, config, log, terminal
from companion.app import SERVICES, App
from companion.errors import UnavailableError
from companion.keys import make_pair
from companion.simulator.demo import run_demo
from companion.simulator.replay import replay as play
from companion.store import devices as store_devices
from companion.store import summary as store_summary
from companion.store.connection import ResponseError, Unreachable
from companion.store.store import Store, open_store
from companion.view import view

HOUR_MS = 3_600_000
WINDOWS = {"3h": 3 * HOUR_MS, "6h": 6 * HOUR_MS, "12h": 12 * HOUR_MS, "24h": 24 * HOUR_MS, "7d": 168 * HOUR_MS}
PIPE_WIDTH = 200
"""Columns where no terminal says how many there are: a line for each device, for grep."""

app = typer.Typer(
    name="companion",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Last-mile visibility and care for the SIP and WebRTC devices behind OpenSIPS.

    Try it without an OpenSIPS: companion demo
    Run it beside one:          companion run
    Look:                       companion summary, companion devices, companion device ID""",
)


class Status(StrEnum):
    online = "online"
    losing = "losing"
    unknown = "unknown"
    stale = "stale"
    offline = "offline"


class Window(StrEnum):
    h3 = "3h"
    h6 = "6h"
    h12 = "12h"
    h24 = "24h"
    d7 = "7d"


class Service(StrEnum):
    bridge = "bridge"
    consumer = "consumer"
    scheduler = "scheduler"
    api = "api"


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c", "--config", help="The configuration. Without it ./config.toml, if there is one.", dir_okay=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def run(
    services: Annotated[
        list[Service] | None, typer.Argument(help=f"Which of: {', '.join(SERVICES)}. All of them when none is named.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run the companion: all of it, or only some services (a bridge on each OpenSIPS, say). Ctrl-C stops it cleanly."""
    settings = config.load(config_file)
    log.configure(settings.log.format, settings.log.level)
    names = [name for name in SERVICES if not services or name in services]
    asyncio.run(_until_signal(App(settings, names)))


async def _until_signal(service: App) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await service.run(stopped)


@app.command("devices")
def list_devices(
    config_file: ConfigFile = None,
    status: Annotated[Status | None, typer.Option(help="Only devices of this status.")] = None,
    as_json: AsJson = False,
) -> None:
    """List devices: status, last latency and its quality, lost pings, registration, push, user agent."""
    settings = config.load(config_file)
    with _store(settings) as store:
        seen = view(settings, store)
        rows = [store_devices.row(device, seen) for device in store_devices.walk(store)]
    rows = sorted((row for row in rows if status in (None, row["status"])), key=lambda row: str(row["device"]))
    _show(rows, terminal.devices_table(rows), as_json=as_json)


@app.command()
def device(
    name: Annotated[str, typer.Argument(metavar="ID", help="A device id, a SIP instance or an AOR, when unique.")],
    config_file: ConfigFile = None,
    window: Annotated[Window, typer.Option(help="How far to look back.")] = Window.h24,
    as_json: AsJson = False,
) -> None:
    """Show one device: registration, latency over a window, contacts, timeline.

    ID is what `companion devices` lists, or just the SIP instance or the AOR where that is enough.
    """
    settings = config.load(config_file)
    with _store(settings) as store:
        found = store_devices.find(store, name)
        page = store_devices.page(store, found, view(settings, store), WINDOWS[window])
    _show(page, terminal.device_page(page), as_json=as_json)


@app.command()
def summary(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the fleet: devices and contacts by status, latency percentiles, loss, the health of each node's feed.

    Percentiles are over the last answered ping of each contact; loss is the share of contacts whose last ping was lost.
    """
    settings = config.load(config_file)
    with _store(settings) as store:
        seen = store_summary.compute(store, view(settings, store))
    _show(seen, terminal.summary_page(seen), as_json=as_json)


@app.command()
def replay(
    capture: Annotated[Path, typer.Argument(metavar="FILE", help="event_datagram.jsonl, or event_stream.bin.")],
    to: Annotated[str, typer.Option(help="Where to: udp:HOST:PORT or tcp:HOST:PORT, as OpenSIPS would.")],
    config_file: ConfigFile = None,
    speed: Annotated[float, typer.Option(help="How many times as fast; 0 = as fast as it goes.", min=0)] = 1.0,
) -> None:
    """Play a capture of OpenSIPS events to a bridge, with its own timing."""
    config.load(config_file)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=None)
        result = asyncio.run(
            play(capture, to, speed, progress=lambda done, total: progress.update(task, completed=done, total=total))
        )
    typer.echo(f"{result.objects} events, {result.bytes} bytes in {result.seconds:.1f} s")


@app.command("check-config")
def check_config(config_file: ConfigFile = None) -> None:
    """Check the configuration, file and environment, without starting anything. Exit code 2 when it is wrong."""
    config.load(config_file)
    typer.echo("the configuration is fine")


@app.command("curve-keys")
def curve_keys(folder: Annotated[Path, typer.Argument(help="Where to put NAME.secret and NAME.public.")]) -> None:
    """Make a CURVE key pair for a bridge and one for a consumer, for a bus that leaves the machine."""
    for name in ("bridge", "consumer"):
        public = make_pair(folder, name)
        typer.echo(f"{name}: {folder / name}.secret (mode 600), public key {public}")


@app.command()
def demo(
    phones: Annotated[int, typer.Option(help="How many phones to simulate.", min=1, max=5000)] = 24,
    folder: Annotated[Path, typer.Option(help="Where the embedded Redis keeps its data.")] = Path("demo-data"),
    seconds: Annotated[float, typer.Option(help="End by itself after so long; 0 = on Ctrl-C.", min=0)] = 0,
) -> None:
    """Show it all without an OpenSIPS: embedded Redis, every service, simulated OpenSIPS and phones, a live table."""
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(run_demo(phones, folder, seconds))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@contextmanager
def _store(settings: config.Config) -> Iterator[Store]:
    """The store for one command; what goes wrong at Redis ends the command with one line."""
    store = open_store(settings.redis)
    try:
        yield store
    except (*Unreachable, ResponseError) as error:
        raise UnavailableError(f"Redis: {error}") from None
    finally:
        store.close()


def _show(data: Any, page: RenderableType, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(page)
