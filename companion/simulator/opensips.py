"""Simulate an OpenSIPS: a fleet of phones, events on the real wire, MI on a real port."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from companion import log
from companion.errors import UnavailableError, UsageError
from companion.simulator.mi import MiCall, SimulatedMi
from companion.simulator.mi_datagram import MiDatagramServer, Send, SimulatedMiDatagram
from companion.simulator.mi_server import MiServer
from companion.simulator.node import Node, Pings, Settings
from companion.simulator.phone import SimulatedPhone
from companion.simulator.sink import Sink, is_event_socket, open_sink, parse_destination
from companion.simulator.subscriptions import RAISED_EVENTS, Subscriptions

Who = str | SimulatedPhone

LONGEST_NAP = 0.5


@dataclass(eq=False)
class SimulatedOpenSIPS:
    """Run one node. Seconds are simulated: with `speed` 10, ten of them pass in a real one.

    `events_to` is where startup_route subscribes ("" = nobody: leave it to MI's event_subscribe).
    `mi_login` "user:password" asks for Basic auth. `probe_listen` is the address of its mi_datagram. Phones register
    within `ramp` seconds of the start, unless they have a past.
    """

    node: str
    fleet: Sequence[SimulatedPhone]
    events_to: str = "udp:127.0.0.1:5066"
    mi_listen: str = "127.0.0.1:0"
    probe_listen: str = "127.0.0.1:0"
    mi_login: str = ""
    ping_interval: float = 30.0
    ping_threshold: float = 3.0
    ping_partitions: int = 1
    max_pings_lost: int = 3
    remove_on_timeout: bool = False
    timer_interval: float = 60.0
    speed: float = 1.0
    ramp: float = 0.0
    version: str = "3.6.8"
    past: Node | None = None
    """A node that has lived with these phones already: it goes on."""

    def __post_init__(self) -> None:
        self.events_raised: Counter[str] = Counter()
        self._sinks: dict[str, Sink] = {}
        self._paused = False
        if self.events_to:
            parse_destination(self.events_to)

    async def start(self) -> None:
        """Serve MI, switch the phones on and begin to live. UnavailableError when an address can not be had."""
        if self.events_to and not is_event_socket(self.events_to):
            raise UnavailableError(f"events can not be sent to {self.events_to}: its host has no address")
        self._started_at = time.monotonic()
        self._woken = asyncio.Event()
        self.core = self._make_node()
        self._born_at = self.core.agenda.now
        self.subscriptions = self._run_startup_route()
        self.mi = SimulatedMi(self.core, self.subscriptions, self._send)
        self.mi.version = self.version
        self.mi.use_domain = not self.version.startswith("3.")
        self.mi_server = MiServer(self._answer_mi, self.mi_listen, self.mi_login)
        await self.mi_server.start()
        self.mi_datagram = SimulatedMiDatagram(self.core, self.mi)
        self.mi_datagram_server = MiDatagramServer(self._answer_datagram)
        await self.mi_datagram_server.start(self.probe_listen)
        self._switch_phones_on()
        self._life = asyncio.create_task(self._live())
        self._life.add_done_callback(_log_failure)

    async def stop(self) -> None:
        """End without a word: no event tells that it happened."""
        self._life.cancel()
        await asyncio.wait({self._life})
        await self.mi_server.stop()
        await self.mi_datagram_server.stop()
        for sink in self._sinks.values():
            await sink.close()
        self._sinks.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def mi_url(self) -> str:
        return self.mi_server.url

    @property
    def mi_calls(self) -> list[MiCall]:
        return self.mi.calls

    @property
    def probe_url(self) -> str:
        """Return the address of its mi_datagram, as [[opensips]] probe_url."""
        return self.mi_datagram_server.url

    @property
    def questions(self) -> list[Mapping[str, Any]]:
        """Return the parameters of all `t_uac_dlg` so far."""
        return self.mi_datagram.questions

    @property
    def pings(self) -> dict[tuple[str, str], Pings]:
        """Return answered and lost pings, by (AOR, contact URI)."""
        return self.core.pings

    @property
    def contacts(self) -> list[tuple[str, str]]:
        """Return (AOR, contact URI) of every contact in usrloc."""
        return [binding.key for binding in self.core.usrloc]

    def find_phone(self, who: Who) -> SimulatedPhone:
        """Return a phone by its SIP instance, or the first one of an AOR."""
        if isinstance(who, SimulatedPhone):
            return who
        for phone in self.fleet:
            if who in {phone.instance, phone.aor}:
                return phone
        raise UsageError(f"no phone {who!r} in this fleet")

    def mute(self, who: Who) -> None:
        self._act(self.find_phone(who).mute)

    def unmute(self, who: Who) -> None:
        self._act(self.find_phone(who).unmute)

    def reload(self, who: Who) -> None:
        self._act(self.find_phone(who).reload)

    def roam(self, who: Who) -> None:
        self._act(self.find_phone(who).roam)

    def sleep(self, who: Who) -> None:
        self._act(self.find_phone(who).fall_asleep)

    def drop_connection(self, who: Who) -> None:
        self._act(self.find_phone(who).drop_connection)

    def die(self, who: Who) -> None:
        self._act(self.find_phone(who).die)

    def unregister(self, who: Who) -> None:
        self._act(self.find_phone(who).unregister)

    def reregister(self, who: Who) -> None:
        """Refresh the registration: E_UL_CONTACT_UPDATE (or _INSERT when OpenSIPS no longer has the contact)."""
        self._act(self.find_phone(who).reregister)

    def switch_on(self, who: Who) -> None:
        """Bring a phone back that left or died: a new start, a new contact for a browser."""
        self._act(self.find_phone(who).switch_on)

    def restart(self) -> None:
        """Restart with no contacts, up time 0 and no subscriptions of MI. Connected phones return within seconds."""
        self.subscriptions.clear()
        self._subscribe(self.subscriptions)
        self.mi.started_at = time.time()
        self._act(self.core.restart)

    def pause_events(self) -> None:
        """Drop every event from now on: the feed is dead, the phones are not."""
        self._paused = True

    def resume_events(self) -> None:
        self._paused = False

    async def flush(self) -> None:
        """Wait until all events raised so far are on the wire."""
        for sink in self._sinks.values():
            await sink.flush()

    def _make_node(self) -> Node:
        if not self.past:
            return Node(self._make_settings(), self._raise)
        self.past.go_on(self._make_settings(), self._raise, time.time())
        return self.past

    def _make_settings(self) -> Settings:
        return Settings(
            ping_interval=self.ping_interval,
            ping_threshold=self.ping_threshold,
            ping_partitions=self.ping_partitions,
            max_pings_lost=self.max_pings_lost,
            remove_on_timeout=self.remove_on_timeout,
            timer_interval=self.timer_interval,
            speed=self.speed,
        )

    def _run_startup_route(self) -> Subscriptions:
        subscriptions = Subscriptions()
        self._subscribe(subscriptions)
        return subscriptions

    def _subscribe(self, subscriptions: Subscriptions) -> None:
        subscriptions.add("E_COMPANION_PUSH", "route:E_COMPANION_PUSH")
        for event in RAISED_EVENTS if self.events_to else ():
            subscriptions.add(event, self.events_to)

    def _switch_phones_on(self) -> None:
        new = [phone for phone in self.fleet if phone not in self.core.phones]
        for number, phone in enumerate(new):
            self.core.agenda.call_later(self.ramp * number / len(new), partial(self._switch_on, phone))

    def _switch_on(self, phone: SimulatedPhone, _: float) -> None:
        self.core.add(phone)

    def _read_clock(self) -> float:
        return self._born_at + (time.monotonic() - self._started_at) * self.speed

    async def _live(self) -> None:
        while True:
            self._woken.clear()
            self.core.advance(self._read_clock())
            due = self.core.agenda.next_at
            nap = LONGEST_NAP if due is None else (due - self._read_clock()) / self.speed
            # not wait_for(): on Python 3.11 it can swallow the cancelling
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(nap, 0.001), LONGEST_NAP)):
                    await self._woken.wait()

    def _act(self, act: Callable[[], None]) -> None:
        self.core.advance(self._read_clock())
        act()
        self._woken.set()

    def _answer_mi(self, body: bytes) -> bytes | None:
        self.core.advance(self._read_clock())
        answer = self.mi.answer(body)
        self._woken.set()
        return answer

    def _answer_datagram(self, datagram: bytes, send: Send) -> None:
        self.core.advance(self._read_clock())
        self.mi_datagram.answer(datagram, send)
        self._woken.set()

    def _raise(self, event: str, text: bytes) -> None:
        self.events_raised[event] += 1
        self._send(event, text)

    def _send(self, event: str, text: bytes) -> None:
        if self._paused:
            return
        for where in self.subscriptions.list_sockets(event):
            if not where.startswith("route:"):
                self._open_sink(where).send(text)

    def _open_sink(self, where: str) -> Sink:
        if where not in self._sinks:
            self._sinks[where] = open_sink(where)
        return self._sinks[where]


def _log_failure(life: "asyncio.Task[None]") -> None:
    if not life.cancelled() and (error := life.exception()):
        log.get(__name__).error("the simulation failed", exc_info=error)
