"""The whole companion on one machine with nothing around it: an embedded Redis and a simulated OpenSIPS with phones."""

import asyncio
import signal
import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from companion import config, log, terminal
from companion.app import App
from companion.contact import STATUSES
from companion.simulator.fleet import build_fleet
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.redis import EmbeddedRedis, free_port
from companion.store import devices, summary
from companion.store.store import Store, open_store
from companion.view import view

SPEED: Final = 10.0
"""The phones live so much faster than real ones, so that there is something to see."""
PING_SECONDS: Final = 30.0
RAMP_SECONDS: Final = 30.0
API_PORT: Final = 8780
REFRESH_SECONDS: Final = 1.0

_CONFIG = """# Written by `companion demo`: use it with -c while the demo runs.
[redis]
url = "{redis}"
[bridge]
node = "demo"
datagram = "udp:127.0.0.1:{datagram}"
publish = "tcp://127.0.0.1:{bus}"
[consumer]
subscribe = ["tcp://127.0.0.1:{bus}"]
[pings]
interval = {interval}
[[opensips]]
node = "demo"
mi_url = "{mi}"
[api]
listen = "127.0.0.1:{api}"
"""


async def run_demo(phones: int, folder: Path, seconds: float) -> None:
    """Run until Ctrl-C, SIGTERM, or for `seconds` when that is not 0; then end all that was started.

    `folder` must be there.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if seconds:
        asyncio.get_running_loop().call_later(seconds, stopped.set)
    with ExitStack() as stack:
        log.configure(stream=stack.enter_context((folder / "companion.log").open("a")))
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        datagram, mi = free_port(), free_port()
        file = _write_config(folder, redis.url, datagram, mi)
        settings = config.load(file, {})
        opensips = SimulatedOpenSIPS(
            "demo",
            build_fleet(phones, pace=2.0),
            events_to=settings.bridge.datagram,
            mi_listen=f"127.0.0.1:{mi}",
            ping_interval=PING_SECONDS,
            speed=SPEED,
            ramp=RAMP_SECONDS,
        )
        await _live(settings, file, opensips, stopped)
    Console().print(f"The demo has ended. Its data stays in {folder}/ and is there again at the next start.")


def _write_config(folder: Path, redis_url: str, datagram: int, mi: int) -> Path:
    file = folder / "config.toml"
    file.write_text(
        _CONFIG.format(
            redis=redis_url,
            datagram=datagram,
            bus=free_port(),
            mi=f"http://127.0.0.1:{mi}/mi",
            interval=PING_SECONDS / SPEED,
            api=_api_port(),
        )
    )
    return file


def _api_port() -> int:
    """The usual one where it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", API_PORT))
        except OSError:
            return free_port()
    return API_PORT


async def _live(settings: config.Config, file: Path, opensips: SimulatedOpenSIPS, stopped: asyncio.Event) -> None:
    ending = asyncio.Event()
    app = asyncio.create_task(App(settings).run(ending))
    store = await asyncio.to_thread(open_store, settings.redis)
    try:
        async with opensips:
            show = asyncio.create_task(_show(settings, file, store, stopped))
            await asyncio.wait([show, app], return_when=asyncio.FIRST_COMPLETED)
            stopped.set()
            await show
    finally:
        store.close()
        ending.set()
        await app


async def _show(settings: config.Config, file: Path, store: Store, stopped: asyncio.Event) -> None:
    console = Console()
    console.print(_where_to_look(settings, file))
    if not console.is_terminal:
        await stopped.wait()
        console.print(await asyncio.to_thread(_table, settings, store, 1000))
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not stopped.is_set():
            room = console.size.height - 8
            live.update(await asyncio.to_thread(_table, settings, store, room), refresh=True)
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stopped.wait()
            except TimeoutError:
                continue


def _where_to_look(settings: config.Config, file: Path) -> RenderableType:
    companion = f"companion {{}} -c {file}"
    lines = (
        ("a device", companion.format("device dave")),
        ("the fleet", companion.format("summary")),
        ("metrics", f"http://{settings.api.listen}/metrics"),
        ("plain Redis", f"redis-cli -u {settings.redis.url} --scan --pattern '{settings.redis.prefix}*'"),
        ("the log", f"{file.parent}/companion.log"),
    )
    rows = [Text.assemble((f"  {name:<12}", "bright_black"), told) for name, told in lines]
    title = Text(f"OpenSIPS Companion with simulated phones, {SPEED:.0f} times as fast as real ones", style="bold")
    return Group(title, *rows, Text("  Ctrl-C ends it\n", style="bright_black"))


def _table(settings: config.Config, store: Store, room: int) -> RenderableType:
    """The fleet's counts, and as many devices as there is room for, those with trouble first."""
    seen = view(settings, store)
    fleet = summary.compute(store, seen)["devices"]
    rows = [devices.row(device, seen) for device in devices.walk(store)]
    order = ("losing", "stale", "online", "unknown", "offline")
    rows.sort(key=lambda row: (order.index(row["status"]), row["device"]))
    shown = rows[: max(1, room)]
    counts = Text("   ".join(f"{fleet[status]} {status}" for status in STATUSES), style="bold")
    more = Text(f"and {len(rows) - len(shown)} more" if len(rows) > len(shown) else "", style="bright_black")
    return Group(counts, terminal.devices_table(shown, datetime.now(UTC)), more)
