"""Ping a device now and print each round trip: `companion ping`."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Annotated

import typer

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened
from companion.credentials import mask
from companion.errors import CanNotPingError, NoSuchDeviceError
from companion.pinging.pinger import Pinger, PingReply, load_target
from companion.pinging.run import PingRun
from companion.pinging.target import PingTarget
from companion.query.device_ids import find_device_id
from companion.services import event_loop
from companion.store.store import Store
from companion.store.timeline import append_ping_run
from companion.text import Json, printable
from companion.times import parse_duration

Print = Callable[[str], None]


def ping_device(
    name: Annotated[str, typer.Argument(metavar="ID", help="A device id, or a SIP instance or AOR if it is unique.")],
    config_file: ConfigFile = None,
    count: Annotated[int, typer.Option(help="How many pings.", min=1, max=3600)] = 30,
    interval: Annotated[str, typer.Option(help="The time between two pings, such as 1s or 2m.")] = "1s",
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Ping one device now, and print each round trip.

    OpenSIPS sends an OPTIONS over the connection of the device. The node that can reach the device needs probe_url in
    [[opensips]].

    The run becomes one entry of the device's timeline. It does not change the latency and losses of the device.

    Ctrl-C prints the summary and stops. The exit code is 1 if no ping was answered.
    """
    settings, seconds = config.load(config_file), parse_duration(interval)
    with opened(settings) as store:
        device = find_device_id(store, name)
        session = PingSession(settings, store, device, print_line=_ignore if as_json else typer.echo)
        event_loop.run(session.run(count, seconds))
    if as_json:
        typer.echo(json.dumps(session.to_json(), indent=2))
    if not session.summary.answered:
        raise typer.Exit(1)


class PingSession:
    """Ping one device, print each reply, and store the run as one entry of its timeline."""

    def __init__(self, settings: config.Config, store: Store, device: str, print_line: Print) -> None:
        self.summary = PingRun()
        self._settings = settings
        self._store = store
        self._device = device
        self._print = print_line
        self._pings: list[Json] = []
        self._node = ""

    async def run(self, count: int, seconds: float) -> None:
        """Ping so often, so many seconds apart, until Ctrl-C or SIGTERM; then print the summary.

        Raises CanNotPingError where not even the first ping is possible.
        """
        target = await self._load_target()
        self._print(f"{printable(self._device)}: {printable(mask(target.contact.binding.uri))}")
        pings = asyncio.ensure_future(self._ping(count, seconds))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, pings.cancel)
        await asyncio.wait({pings})
        if not pings.cancelled():
            pings.result()
        if self.summary.sent:
            await asyncio.to_thread(append_ping_run, self._store, self._device, self.summary.to_entry(self._node))
        self._print(f"\n{describe_run(self.summary)}")

    def to_json(self) -> Json:
        return {"device": self._device, **self.summary.to_json(), "pings": self._pings}

    async def _ping(self, count: int, seconds: float) -> None:
        """Ping, and print each reply. A ping under way when the run is stopped does not count."""
        async with Pinger() as pinger:
            started = float("-inf")
            for _ in range(count):
                await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
                started = time.monotonic()
                self._note(*await self._ping_once(pinger))

    async def _ping_once(self, pinger: Pinger) -> tuple[str, PingReply]:
        """Ping the contact that the device has now: it may have registered again meanwhile."""
        try:
            target = await self._load_target()
        except (CanNotPingError, NoSuchDeviceError) as error:
            return "", PingReply("failed", error.detail, 0.0, "")
        return target.contact.binding.uri, await pinger.ping(target)

    async def _load_target(self) -> PingTarget:
        return await asyncio.to_thread(load_target, self._store, self._device, self._settings)

    def _note(self, uri: str, reply: PingReply) -> None:
        self.summary.add(reply.result, reply.duration_ms)
        self._node = reply.node or self._node
        number = self.summary.sent
        self._print(describe_reply(number, mask(uri), reply))
        fields = reply._asdict() | {"duration_ms": round(reply.duration_ms, 1)}
        self._pings.append({"seq": number, "contact": mask(uri), **fields})


def describe_reply(number: int, uri: str, reply: PingReply) -> str:
    """Write the line of one ping, as ping(8) does."""
    detail = printable(reply.detail)
    if reply.result == "answered":
        took = f"{reply.duration_ms:.1f}" if reply.duration_ms < 10 else f"{reply.duration_ms:.0f}"
        return f"answer from {printable(uri)} via {reply.node}: seq={number} time={took} ms ({detail})"
    if reply.result == "unanswered":
        return f"no answer via {reply.node}: seq={number} ({detail} after {reply.duration_ms / 1000:.1f} s)"
    return f"failed{f' via {reply.node}' if reply.node else ''}: seq={number} ({detail})"


def describe_run(summary: PingRun) -> str:
    """Write the last line: counts, loss and round trips."""
    failed = f", {summary.failed} failed" if summary.failed else ""
    loss = "" if summary.loss_ratio is None else f" ({100 * summary.loss_ratio:.3g} % loss)"
    words = f"{summary.sent} sent, {summary.answered} answered, {summary.lost} lost{loss}{failed}"
    if summary.round_trip_ms is None:
        return words
    low, average, high = (f"{value:.1f}" for value in summary.round_trip_ms)
    return f"{words}\nround trip min/avg/max = {low}/{average}/{high} ms"


def _ignore(_: str) -> None:
    """Print nothing: JSON comes at the end."""
