"""Run the whole companion on one machine, with an embedded Redis and a simulated OpenSIPS with phones."""

import asyncio
import fcntl
import secrets
import shlex
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from companion import config, log
from companion.bridge.bridge import Bridge
from companion.cli.screens.fleet import render_fleet
from companion.cli.terminal import STOP_SIGNALS, is_usable
from companion.cli.top import Top
from companion.cli.top_state import TopState
from companion.demo.offices import BRANCH, NODE, Fleets, build_fleets
from companion.demo.past import Past, Week
from companion.errors import UsageError
from companion.query.listing import MAX_LIMIT, Query
from companion.query.reader import Reader
from companion.services.app import App
from companion.simulator.calls import SimulatedCalls
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.devices import count_devices
from companion.store.nodes import load_feed
from companion.store.store import Store, open_store
from companion.times import now_ms
from companion.tokens import access
from companion.tokens.access import Token

PAST_PHONES: Final = 24
"""So many have a past; in a larger demo the others are new."""
SPEED: Final = 10.0
"""The phones live so much faster than real ones, so that there is something to see."""
PACE: Final = 2.0
"""The phones sleep, reload and roam so much more often than simulated phones usually do."""
PING_SECONDS: Final = 30.0
RAMP_SECONDS: Final = 30.0
FIRST_SEED: Final = "first"
API_PORT: Final = 8780
PUSH_PER_DAY: Final = 100_000
"""More than a phone can need: one that is not woken in time loses its registration and never returns."""
RELOADING_PHONE: Final = 3
"""Its page reloads all the time: it has switch-overs and ghosts to show."""

_CONFIG = """# Written by `companion demo`: use it with -c while the demo runs.
[redis]
url = "{redis}"
[bridge]
node = "demo"
datagram = "udp:127.0.0.1:{demo.datagram}"
publish = "tcp://127.0.0.1:{demo.bus}"
[consumer]
subscribe = ["tcp://127.0.0.1:{demo.bus}", "tcp://127.0.0.1:{branch.bus}"]
[pings]
interval = {interval}
[[opensips]]
node = "demo"
mi_url = "http://127.0.0.1:{demo.mi}/mi"
probe_url = "udp:127.0.0.1:{demo.probe}"
[[opensips]]
node = "branch"
mi_url = "http://127.0.0.1:{branch.mi}/mi"
[remediation]
mode = "enforce"
push_per_day = {push_per_day}
[api]
listen = "127.0.0.1:{api}"
notice = "Simulated phones"
tokens = ["{token}"]
[media]
secret = "{secret}"
"""


class _Ports(NamedTuple):
    """Hold where a simulated OpenSIPS listens and what it sends to, and where its bridge publishes."""

    datagram: int
    mi: int
    probe: int
    bus: int


class _Console(Console):
    """Print to the terminal, and raise BrokenPipeError when nobody reads any more.

    rich would exit then, whatever else still runs.
    """

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles one


async def run_demo(phones: int, days: int, folder: Path, seconds: float) -> None:
    """Run until q, Ctrl-C, SIGTERM, or for `seconds` when that is not 0; then end all that was started.

    An empty `folder` begins with so many days of history.

    Raises UsageError when `folder` can not be had: it can not be written, or another demo runs in it.
    """
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if seconds:
        asyncio.get_running_loop().call_later(seconds, stopped.set)
    with ExitStack() as stack:
        stack.enter_context(_locked(folder))
        log.configure(stream=stack.enter_context((folder / "companion.log").open("a")))
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        ports = {node: _choose_ports() for node in (NODE, BRANCH)}
        secret, token = access.make("demo", "operate")
        file = _write_config(folder, redis.url, ports, token)
        settings = config.load(file, {})
        nodes = await asyncio.to_thread(_simulate_nodes, settings, ports, phones, days)
        await _run_everything(settings, _render_hints(settings, file, nodes[NODE], secret), nodes, ports, stopped)
    _Console().print(f"The demo has ended. Its data stays in {folder}/ for the next one.", soft_wrap=True)


def _choose_ports() -> _Ports:
    return _Ports(*(find_free_port() for _ in _Ports._fields))


def _simulate_nodes(
    settings: config.Config, ports: Mapping[str, _Ports], phones: int, days: int
) -> dict[str, SimulatedOpenSIPS]:
    """Make the nodes with their phones, which have a past if the store is empty: that takes seconds."""
    with closing(open_store(settings.redis)) as store:
        is_new = not count_devices(store)
        # later, phones are the same devices with new contacts: a browser never gets a contact of an earlier demo
        fleets = build_fleets(phones, FIRST_SEED if is_new else f"{time.time_ns()}")
        past = _make_past(settings, store, fleets, days) if is_new and days else None
    for phone in chain.from_iterable(fleets.values()):
        phone.pace = PACE
    return {
        node: SimulatedOpenSIPS(
            node,
            fleet,
            events_to=f"udp:127.0.0.1:{ports[node].datagram}",
            mi_listen=f"127.0.0.1:{ports[node].mi}",
            probe_listen=f"127.0.0.1:{ports[node].probe}",
            ping_interval=PING_SECONDS,
            speed=SPEED,
            ramp=RAMP_SECONDS,
            past=past.nodes[node] if past else None,
        )
        for node, fleet in fleets.items()
    }


def _make_past(settings: config.Config, store: Store, fleets: Fleets, days: int) -> Past:
    _Console().print("Making the history of the days before …")
    old = {node: fleet[:PAST_PHONES] for node, fleet in fleets.items()}
    past = Past(settings, store, old, Week(time.time(), days), PACE)
    past.live()
    return past


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder: two Redis servers in it would corrupt each other's data."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; name another with --folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"a demo is running in {folder}/: end it, or name another with --folder") from None
        yield


def _write_config(folder: Path, redis_url: str, ports: Mapping[str, _Ports], token: Token) -> Path:
    file = folder / "config.toml"
    file.write_text(
        _CONFIG.format(
            redis=redis_url,
            demo=ports[NODE],
            branch=ports[BRANCH],
            interval=PING_SECONDS / SPEED,
            api=_choose_api_port(),
            push_per_day=PUSH_PER_DAY,
            token=token.line,
            secret=secrets.token_hex(32),
        )
    )
    return file


def _choose_api_port() -> int:
    """Return the usual port if it is free, else any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", API_PORT))
        except OSError:
            return find_free_port()
    return API_PORT


async def _run_everything(
    settings: config.Config,
    hints: RenderableType,
    nodes: Mapping[str, SimulatedOpenSIPS],
    ports: Mapping[str, _Ports],
    stopped: asyncio.Event,
) -> None:
    ending = asyncio.Event()
    app = asyncio.create_task(App(settings).run(ending))
    store = await asyncio.to_thread(open_store, settings.redis)
    try:
        async with AsyncExitStack() as stack:
            if BRANCH in nodes:
                await stack.enter_async_context(_run_bridge(BRANCH, ports[BRANCH]))
            for node, opensips in nodes.items():
                await _wait_for_bridge(store, node, app)
                await stack.enter_async_context(opensips)
            await stack.enter_async_context(_run_calls(settings, nodes[NODE]))
            show = asyncio.create_task(_show(settings, hints, store, stopped))
            await asyncio.wait([show, app], return_when=asyncio.FIRST_COMPLETED)
            stopped.set()
            await show
    finally:
        store.close()
        ending.set()
        await app


@asynccontextmanager
async def _run_bridge(node: str, ports: _Ports) -> AsyncIterator[None]:
    """Run the bridge of a further node."""
    datagram, publish = f"udp:127.0.0.1:{ports.datagram}", f"tcp://127.0.0.1:{ports.bus}"
    bridge = Bridge(config.BridgeSection(node=node, datagram=datagram, publish=publish), wait_for_subscriber=True)
    bridging = asyncio.create_task(bridge.run())
    try:
        yield
    finally:
        bridge.stop()
        await bridging


@asynccontextmanager
async def _run_calls(settings: config.Config, opensips: SimulatedOpenSIPS) -> AsyncIterator[None]:
    """Let the simulated browsers call each other."""
    calls = SimulatedCalls(opensips.fleet, f"http://{settings.api.listen}", settings.media.secret)
    calling = asyncio.create_task(calls.run())
    try:
        yield
    finally:
        calls.stop()
        await calling


async def _wait_for_bridge(store: Store, node: str, app: asyncio.Task[None]) -> None:
    """Wait until a bridge hears what the phones do first; the app's own end ends it, too."""
    started_at = now_ms()
    while not app.done() and (await asyncio.to_thread(load_feed, store, node))[0].heartbeat_at < started_at:  # noqa: ASYNC110 - Redis does not call back
        await asyncio.sleep(0.05)


async def _show(settings: config.Config, hints: RenderableType, store: Store, stopped: asyncio.Event) -> None:
    console, reader = _Console(), Reader(settings, store)
    console.print(hints, soft_wrap=True)
    if is_usable(console):
        await Top(reader, console, TopState(), hints).run(stopped)
        return
    await stopped.wait()
    console.print(render_fleet(await asyncio.to_thread(reader.devices_so_far, Query(limit=MAX_LIMIT))))


def _render_hints(settings: config.Config, file: Path, opensips: SimulatedOpenSIPS, secret: str) -> RenderableType:
    phone = opensips.fleet[min(RELOADING_PHONE, len(opensips.fleet) - 1)]
    program, config_option = find_program(), f"-c {shlex.quote(str(file))}"
    lines = (
        ("in a browser", f"http://{settings.api.listen}/"),
        ("log in with", secret),
        ("a device", f"{program} device {shlex.quote(phone.aor)} {config_option}"),
        ("the fleet", f"{program} summary {config_option}"),
        ("calls", f"{program} calls {config_option}"),
        ("a check", f"{program} doctor {config_option}"),
        ("metrics", f"http://{settings.api.listen}/metrics"),
        ("plain Redis", settings.redis.url),
        ("the log", f"{file.parent}/companion.log"),
    )
    rows = [Text.assemble((f"  {name:<13}", "bright_black"), where) for name, where in lines]
    title = f"Simulated phones, {SPEED:.0f} times as fast as real ones. q or Ctrl-C ends it."
    return Group(Text(title, style="bold"), "Look around, here or from another terminal in this folder:", *rows, "")


def find_program() -> str:
    """Return the command line that calls the companion again as it was called now, from the same folder."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m companion"
    absolute, here = program.absolute(), Path.cwd()
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))
