"""Let the phones of the demo live through a week in seconds, and store it as if it had been recorded.

The simulated nodes raise the events that they always raise, at their own past times. The same code reads, applies and
stores them as in a consumer; only the bus between them is left out. So all that is shown follows from events.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from companion.bridge.stamps import Stamps
from companion.config import Config
from companion.demo.calls import PastCall, plan_calls, store_call
from companion.demo.offices import BRANCH, NODE, Fleets
from companion.demo.recording import begin_recording, end_recording, make_recording, store_messages
from companion.demo.remediation import PastRemediation
from companion.opensips import events
from companion.query.fleet import LiveFleet
from companion.query.history import record_summary
from companion.query.now import View
from companion.simulator.calls import select_callers
from companion.simulator.conditions import DAY, Conditions, Trouble
from companion.simulator.node import Node, Settings, make_clock
from companion.simulator.phone import PhoneState, SimulatedPhone
from companion.store.batch import Batch
from companion.store.nodes import Feed, prepare_feed
from companion.store.store import Store
from companion.usrloc.brief import abridge
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Clock
from companion.usrloc.picture import Usrloc

DAYS: Final = 7
SPEED: Final = 0.125
"""Simulated seconds in one of the past: a ping every four minutes."""
PACE: Final = 0.06
"""So much less often than usual the phones sleep, reload and roam: a few times a day."""
TURN_SECONDS: Final = 30.0
"""Simulated seconds between two looks of remediation: a ping interval."""
INTERVAL: Final = TURN_SECONDS / SPEED
"""The same in seconds of the past."""
SPARED_TURNS: Final = 2
"""So much less than the days, so that the oldest of them is not forgotten at once."""
SPARSE_TURNS: Final = 4
LAST_DAY_TURNS: Final = round(DAY * SPEED / TURN_SECONDS)
"""The fleet is counted in each turn of the last day, before that in every fourth: graphs of a week show no more."""
WRITE_TURNS: Final = 300
NIGHT_SECONDS: Final = 2_500.0
"""Simulated seconds after which a dead phone is switched on again: half a night."""
FIRMWARE: Final = ("Yealink SIP-T46S 66.86.0.15", "Yealink SIP-T46S 66.86.0.90")
"""The first version, and the one after it that loses pings."""
FIRMWARE_LOSS: Final = 0.14
OUTAGE_BEFORE: Final = 1200
OUTAGE_AFTER: Final = 900
"""Seconds before and after the start of the demo in which the branch office is cut off."""


class Week(NamedTuple):
    """Hold when things happen in the past of a demo that starts at `now`; all are epoch seconds."""

    now: float
    days: int = DAYS

    @property
    def turns(self) -> int:
        """Return how many ping intervals the past has."""
        return round(self.days * DAY / INTERVAL) - SPARED_TURNS

    @property
    def start(self) -> float:
        return self.now - self.turns * INTERVAL

    @property
    def bad_evening(self) -> tuple[float, float]:
        """Return from when to when one network is overloaded: an evening between one and three days ago."""
        midnight = self.now - self.now % DAY - 2 * DAY
        return midnight + 18 * 3600, midnight + 22.5 * 3600

    @property
    def firmware_at(self) -> float:
        """Return when phones got a firmware that loses pings: a night three days ago, or soon after a later start."""
        return max(self.now - self.now % DAY - 3 * DAY + 2 * 3600, self.start + 3600)

    @property
    def outage(self) -> tuple[float, float]:
        """Return from when to when the branch office is cut off: while the demo starts."""
        return self.now - OUTAGE_BEFORE, self.now + OUTAGE_AFTER


class Past:
    """Hold the nodes with their phones, and what a consumer would have in memory of them."""

    def __init__(self, config: Config, store: Store, fleets: Fleets, week: Week, pace: float = 1.0) -> None:
        """Prepare a week, or fewer days. `pace` is how busy the phones are after it."""
        self.week = week
        self._fleets = fleets
        self._pace = pace
        self._bad_network = _choose_network(fleets[NODE])
        self._config = config
        self._store = store
        self._batch = Batch(store)
        self._usrloc = Usrloc(config.pings.lost_after, config.pings.interval_ms)
        self._run = round(self.week.start * 1_000_000)
        self._stamps = {node: Stamps(partial(self._read_clock, node)) for node in fleets}
        self.nodes = {node: self._make_node(node) for node in fleets}
        self._remediation = PastRemediation(config, store, self._usrloc, self.nodes)

    def live(self) -> None:
        """Simulate the week and store it, which takes seconds."""
        evening = Trouble(*self.week.bad_evening, self._bad_network)
        calls = plan_calls(self._fleets[NODE], self.week.start, self.week.now, evening)
        self._plan(calls)
        turns = self.week.turns
        for turn in range(1, turns + 1):
            self._take_turn(turn * TURN_SECONDS)
            if turn % SPARSE_TURNS == 0 or turn > turns - LAST_DAY_TURNS:
                self._summarise(self._read_clock(NODE))
            if turn % WRITE_TURNS == 0:
                self._write()
        for fleet in self._fleets.values():
            for phone in fleet:
                phone.hurry(self._pace)
        self._write()
        self._store_feeds()
        self._remediation.report(self._read_clock(NODE))
        for call in calls:
            store_call(self._store, call)

    def _make_node(self, name: str) -> Node:
        troubles = {
            NODE: Trouble(*self.week.bad_evening, self._bad_network, slowdown=4.0, loss=0.15),
            BRANCH: Trouble(*self.week.outage, loss=1.0),
        }
        conditions = Conditions([troubles[name]], seed=name)
        clock = make_clock(self.week.start, SPEED)
        return Node(Settings(speed=SPEED), partial(self._receive, name), clock, conditions)

    def _plan(self, calls: Sequence[PastCall]) -> None:
        for name, fleet in self._fleets.items():
            for number, phone in enumerate(fleet):
                phone.pace = PACE
                self._at(self.week.start + number, partial(self.nodes[name].add, phone))
        for phone in self._fleets[NODE]:
            if phone.user_agent == FIRMWARE[0]:
                self._at(self.week.firmware_at, partial(phone.update, FIRMWARE[1], FIRMWARE_LOSS))
        for call in calls:
            for at in call.moves:
                self._at(at, call.phone.roam)
        if calls:
            self._plan_recording(calls[-1])

    def _plan_recording(self, call: PastCall) -> None:
        recording = make_recording(call)
        self._at(recording.started_at / 1000, partial(begin_recording, self._store, recording))
        self._at(call.media.started_at / 1000, partial(self._store_messages, call))
        self._at(recording.ends_at / 1000, partial(end_recording, self._store, recording))

    def _store_messages(self, call: PastCall) -> None:
        store_messages(self._config, self._store, self._usrloc.devices.by_id[call.media.device], call)

    def _at(self, at: float, step: Callable[[], None]) -> None:
        """Run a step at a time (epoch seconds)."""
        self.nodes[NODE].agenda.call_at((at - self.week.start) * SPEED, lambda _: step())

    def _take_turn(self, now: float) -> None:
        for name, node in self.nodes.items():
            node.advance(now)
            for phone in self._fleets[name]:
                if phone.state is PhoneState.DEAD:
                    node.agenda.call_later(NIGHT_SECONDS, partial(_revive, phone))
        self._remediation.sweep(self._read_clock(NODE))

    def _store_feeds(self) -> None:
        """Store the nodes as of a bridge that has just stopped: a newer one goes on."""
        for node in self.nodes:
            now = self._read_clock(node)
            feed = Feed(node, self._config.cluster(node), self._run, heartbeat_at=now, said_at=now, last_event_at=now)
            feed.known_since, feed.ended_run = round(self.week.start * 1000), self._run
            self._store.connection.pipeline(prepare_feed(self._store.keys, feed, {}))

    def _summarise(self, at: int) -> None:
        """Record the summary of the fleet, which is made once a minute otherwise."""
        clock = Clock(at, round(INTERVAL * 1000), self._config.pings.lost_after)
        feeds = {node: Feed(node, heartbeat_at=at) for node in self.nodes}
        fleet = LiveFleet(View(clock, feeds, self._config.quality.bounds))
        for device in self._usrloc.devices.by_id.values():
            fleet.put(abridge(device))
        record_summary(self._store, fleet.summarise(), at)

    def _read_clock(self, node: str) -> int:
        return round(self.nodes[node].epoch_now * 1000)

    def _receive(self, node: str, event: str, text: bytes) -> None:
        params = msgspec.json.decode(text)["params"]
        ts = self._stamps[node].next(params.get("aor"))
        self._usrloc.apply(events.parse(event, params), Stamp(node, self._config.cluster(node), ts, self._run))

    def _write(self) -> None:
        self._batch.write(self._batch.prepare(self._usrloc.changes.take()))
        self._usrloc.changes.settle()


def _choose_network(fleet: Sequence[SimulatedPhone]) -> str:
    """Return the network that has a bad evening, as addresses begin: that of the first phone with calls."""
    host, _ = (select_callers(fleet) or fleet)[0].address
    return host.rpartition(".")[0] + "."


def _revive(phone: SimulatedPhone, _: float) -> None:
    if phone.state is PhoneState.DEAD:
        phone.switch_on()
