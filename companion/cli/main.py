"""Define the command line: each command reads its options, calls one function, and shows its result."""

import asyncio
import signal
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from companion import __version__, config, log
from companion.bus.curve import make_pair
from companion.cli import calls, nodes, remediation, store, tokens, traces
from companion.cli.doctor import check_setup
from companion.cli.options import AsJson, AWindow, ConfigFile, Window, opened, show
from companion.cli.ping import ping_device
from companion.cli.screens.device import render_device_page
from companion.cli.screens.devices import DevicesTable
from companion.cli.screens.summary import render_summary
from companion.errors import UsageError
from companion.query.device_ids import find_device_id
from companion.query.devices import render_device
from companion.query.fleet import LiveFleet
from companion.query.now import load_view
from companion.query.row import render_row
from companion.query.summary import load_fleet
from companion.reconcile.job import compare_nodes
from companion.services import event_loop
from companion.simulator.replay import replay
from companion.store.connection import READER
from companion.store.devices import count_devices
from companion.store.store import Store


def format_examples(*lines: tuple[str, str]) -> str:
    r"""Write the examples at the end of a command's help: a purpose and what to type; "\b" keeps the lines apart."""
    width = max(len(wish) for wish, _ in lines) + 1
    return "\b\n" + "\n".join(f"{wish + ':':<{width}}  {command}" for wish, command in lines)


app = typer.Typer(
    name="companion",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="See how well OpenSIPS reaches your SIP and WebRTC devices. Each command explains itself with --help.",
    epilog=format_examples(
        ("Try it without an OpenSIPS", "companion demo"),
        ("Run it beside one", "companion run -c config.toml"),
        ("Look at the fleet", "companion summary"),
        ("Watch it", "companion top"),
        ("Find dead devices", "companion devices --status stale"),
        ("Look at one device", "companion device alice"),
        ("Look at its calls", "companion calls alice"),
    ),
)


def print_version(is_asked: bool) -> None:  # noqa: FBT001 - typer calls it
    """Print the version and end, if that was asked for."""
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def read_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None: ...


class Status(StrEnum):
    online = "online"
    losing = "losing"
    unknown = "unknown"
    stale = "stale"
    offline = "offline"


class ServiceName(StrEnum):
    bridge = "bridge"
    consumer = "consumer"
    scheduler = "scheduler"
    api = "api"


@app.command(
    "run",
    epilog=format_examples(
        ("All of it, on one machine", "companion run -c config.toml"),
        ("Only the bridge beside OpenSIPS", "companion run bridge -c config.toml"),
        ("All the rest elsewhere", "companion run consumer scheduler api -c config.toml"),
    ),
)
def run_services(
    services: Annotated[
        list[ServiceName] | None,
        typer.Argument(
            metavar="SERVICE",
            help=f"One or more of: {', '.join(ServiceName)}. Default: all; no bridge if it has no input.",
        ),
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run the companion, or some of its services.

    Ctrl-C or SIGTERM stops it cleanly: all events that it received are stored.
    """
    settings = config.load(config_file)
    log.configure(settings.log.format, settings.log.level)
    event_loop.run(_run_until_signal(settings, services or ()))


async def _run_until_signal(settings: config.Config, services: Sequence[ServiceName]) -> None:
    from companion.services.app import App, choose_services  # noqa: PLC0415 - half of the start of a command that only shows something

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await App(settings, choose_services(settings, services)).run(stopped)


@app.command(
    "devices",
    epilog=format_examples(
        ("Devices that do not answer", "companion devices --status stale"),
        ("Phones of one make", "companion devices | grep Yealink"),
        ("For machines", "companion devices --json"),
    ),
)
def list_devices(
    config_file: ConfigFile = None,
    status: Annotated[
        Status | None, typer.Option(metavar="STATUS", help=f"Only devices with this status: {', '.join(Status)}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List devices, one line each.

    A line shows the status, the last latency and its quality, lost pings, the last REGISTER, push, node and user agent.

    A narrow terminal shortens long ids and shows fewer columns. A pipe gets all columns.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        fleet = _load_fleet(settings, store)
    rows = [render_row(glance) for glance in fleet.glances(fleet.entries()) if status in (None, glance.status)]
    show(rows, DevicesTable(rows), as_json=as_json)


def _load_fleet(settings: config.Config, store: Store) -> LiveFleet:
    """Read all devices, and show how far that has come: a million take half a minute."""
    console, view = Console(stderr=True), load_view(settings, store)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading the fleet", total=count_devices(store))
        return load_fleet(store, view, lambda devices: progress.update(task, completed=devices))


@app.command(
    "top",
    epilog=format_examples(
        ("Watch the fleet", "companion top"),
        ("Watch what does not answer", "companion top --status stale"),
        ("On another machine", "ssh -t HOST companion top -c /etc/opensips-companion/config.toml"),
    ),
)
def watch_fleet(
    config_file: ConfigFile = None,
    status: Annotated[
        Status | None, typer.Option(metavar="STATUS", help=f"Begin with this status: {', '.join(Status)}.")
    ] = None,
) -> None:
    """Watch the fleet in a live table, the worst devices first.

    The table is read again every second. s sorts by another column, r reverses the order. f shows one status alone, and
    / searches in device ids and user agents. Enter opens the selected device, Esc goes back. h lists all keys, and q
    leaves.

    A large fleet is read once at the start, at about 30,000 devices a second and 1 kB of memory each. The table shows
    what is read so far. After that only changes are read.
    """
    from companion.cli.top import run_top  # noqa: PLC0415 - as in `run`

    settings = config.load(config_file)
    log.configure(level="error")  # a line of the log would tear the screen
    with opened(settings, READER) as store:
        event_loop.run(run_top(settings, store, status or ""))


@app.command(
    "device",
    epilog=format_examples(
        ("By its AOR", "companion device alice"),
        ("A week of one of several", "companion device alice/urn:uuid:c386bbc4-… --window 7d"),
    ),
)
def show_device(
    name: Annotated[str, typer.Argument(metavar="ID", help="A device id, or a SIP instance or AOR if it is unique.")],
    config_file: ConfigFile = None,
    window: AWindow = Window.h24,
    as_json: AsJson = False,
) -> None:
    """Show one device: registration, latency, contacts, timeline.

    Latency and losses are those of the window. The timeline has events of the device and actions of the companion.

    ID is an id of `companion devices`. The SIP instance or the AOR works too if it is unique.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        device_id = find_device_id(store, name)
        page = render_device(store, device_id, load_view(settings, store), window.ms)
    show(page, render_device_page(page), as_json=as_json)


@app.command("summary", epilog=format_examples(("For machines", "companion summary --json")))
def show_summary(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the counts of the whole fleet.

    Shows devices and contacts by status, latency percentiles, loss, and the health of each node's feed.

    Percentiles are over the last answered ping of each contact. Loss is the share of contacts that lost their last
    ping.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        counts = _load_fleet(settings, store).summarise()
    show(counts, render_summary(counts), as_json=as_json)


@app.command(
    "replay",
    epilog=format_examples(
        ("Ten times as fast", "companion replay event_datagram.jsonl --to udp:127.0.0.1:5066 --speed 10")
    ),
)
def replay_capture(
    capture: Annotated[Path, typer.Argument(metavar="FILE", help="event_datagram.jsonl, or event_stream.bin.")],
    to: Annotated[str, typer.Option(help="The bridge: udp:HOST:PORT or tcp:HOST:PORT.")],
    config_file: ConfigFile = None,
    speed: Annotated[float, typer.Option(help="Speed factor; 0: as fast as possible.", min=0)] = 1.0,
) -> None:
    """Send captured events to a bridge.

    Keeps the original timing, unless you give --speed.
    """
    config.load(config_file)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("replaying", total=None)
        result = event_loop.run(
            replay(capture, to, speed, progress=lambda done, total: progress.update(task, completed=done, total=total))
        )
    typer.echo(f"{result.objects} events, {result.bytes} bytes in {result.seconds:.1f} s")


@app.command(
    "check-config",
    epilog=format_examples(
        ("Before a restart", "companion check-config -c config.toml && systemctl restart companion")
    ),
)
def check_config(config_file: ConfigFile = None) -> None:
    """Check the configuration.

    Checks the file and the environment without starting anything, and asks no server: `companion doctor` does that.
    Prints one line for each problem. The exit code is then 2.
    """
    config.load(config_file)
    typer.echo("the configuration is valid")


@app.command(
    "reconcile",
    epilog=format_examples(
        ("See what is wrong, change nothing", "companion reconcile --dry-run"),
        ("One OpenSIPS of several", "companion reconcile edge-1"),
    ),
)
def reconcile_nodes(
    node: Annotated[str, typer.Argument(metavar="[NODE]", help="A node of [[opensips]]. Default: all.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be corrected.")] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare the contacts of OpenSIPS (MI ul_dump) with the store, and correct the store.

    Contacts that OpenSIPS no longer has become offline. Missing contacts and SIP instances are added.

    A running companion does this by itself. The exit code is 1 if a dump was rejected.
    """
    settings = config.load(config_file)
    log.configure(settings.log.format, settings.log.level)
    with opened(settings) as store:
        reports = event_loop.run(compare_nodes([node] if node else [], store, settings, dry_run=dry_run))
    show([report.to_json() for report in reports], Text("\n".join(map(str, reports))), as_json=as_json)
    if not all(report.is_complete for report in reports):
        raise typer.Exit(1)


@app.command("curve-keys", epilog=format_examples(("Once, then copy the files", "companion curve-keys keys/")))
def make_curve_keys(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder for NAME.secret and NAME.public.")],
) -> None:
    """Make keys for a bus between machines.

    Writes a CURVE key pair for a bridge and one for a consumer.
    """
    for name in ("bridge", "consumer"):
        try:
            public = make_pair(folder, name)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}") from None
        typer.echo(f"{name}: {folder / name}.secret (mode 600), public key {public}")


@app.command("demo", epilog=format_examples(("With a larger fleet", "companion demo --phones 500")))
def demonstrate(
    phones: Annotated[int, typer.Option(help="How many phones to simulate.", min=1, max=5000)] = 24,
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the embedded Redis keeps its data.")] = Path(
        "demo-data"
    ),
    days: Annotated[int, typer.Option(help="How many days of history a new demo begins with.", min=0, max=7)] = 7,
    seconds: Annotated[float, typer.Option(help="Stop after this time; 0: stop on Ctrl-C.", min=0)] = 0,
) -> None:
    """Run the companion with simulated phones, without an OpenSIPS.

    Starts an embedded Redis, every service, and a simulated OpenSIPS with phones, and shows a live table of them.
    """
    from companion.cli.demo import run_demo  # noqa: PLC0415 - as in `run`

    event_loop.run(run_demo(phones, days, folder, seconds))


app.command(
    "calls",
    epilog=format_examples(
        ("All calls of today", "companion calls"),
        ("One device's, of a week", "companion calls alice --window 7d"),
        ("For machines", "companion calls --json"),
    ),
)(calls.list_calls)
app.command(
    "call",
    epilog=format_examples(
        ("By its Call-ID, or how that begins", "companion call 5f2c1b0e"),
        ("As one of two devices saw it", "companion call 5f2c1b0e --device alice"),
    ),
)(calls.show_call)
app.command(
    "ping",
    epilog=format_examples(
        ("Thirty pings, a second apart", "companion ping alice"),
        ("Until Ctrl-C, for an hour at most", "companion ping alice --count 3600"),
        ("For machines", "companion ping alice --count 5 --json"),
    ),
)(ping_device)
app.command("doctor", epilog=format_examples(("If no devices appear", "companion doctor")))(check_setup)
app.add_typer(remediation.app, name="remediation")
app.add_typer(tokens.app, name="token")
app.add_typer(traces.app, name="trace")
app.add_typer(nodes.app, name="node")
app.add_typer(store.app, name="store")
app.command("nodes")(nodes.list_nodes)
app.command("remediations")(remediation.list_remediations)


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(__version__)
