"""Read the bus beside the consumers: what each publisher published, by its own sequence numbers."""

from collections import Counter, defaultdict
from typing import Final

import msgspec

from companion.bus.curve import Curve
from companion.bus.envelope import HEARTBEAT, Message, decode, decode_heartbeat
from companion.bus.subscriber import Subscriber
from companion.errors import InvalidEnvelopeError
from companion.opensips.events import DELETE

WAIT_SECONDS: Final = 1.0


class _Contact(msgspec.Struct):
    uri: str


_decode_contact = msgspec.msgpack.Decoder(_Contact).decode


class Tap:
    """Keep the last seq of each event of each run. Nothing it misses is lost: the next seq tells of it."""

    def __init__(self, endpoints: tuple[str, ...], curve: Curve) -> None:
        self.runs: defaultdict[str, dict[int, dict[str, int]]] = defaultdict(dict)
        """By node and run: the last seq of each event."""
        self.deleted: set[str] = set()
        """The URIs of E_UL_CONTACT_DELETE."""
        self._subscriber = Subscriber(endpoints, high_water_mark=0, curve=curve)

    async def run(self) -> None:
        try:
            while True:
                for topic, body in await self._subscriber.receive(WAIT_SECONDS):
                    self._take(topic, body)
        finally:
            self._subscriber.close()

    def count_published(self, node: str) -> Counter[str]:
        """Return how many of each event a node published in all its runs."""
        published: Counter[str] = Counter()
        for seqs in self.runs[node].values():
            published.update({event: seq + 1 for event, seq in seqs.items()})
        return published

    def last_run(self, node: str) -> tuple[int, dict[str, int]]:
        """Return the latest run of a node and its last seqs."""
        return max(self.runs[node].items(), default=(0, {}))

    def _take(self, topic: bytes, body: bytes | memoryview) -> None:
        try:
            message = decode(topic, body)
            seqs = self.runs[message.node].setdefault(message.run, {})
            if message.name == HEARTBEAT:
                for event, seq in decode_heartbeat(message.events[0][1]).seqs.items():
                    seqs[event] = max(seq, seqs.get(event, -1))
            else:
                seqs[message.name] = max(_last_seq(message), seqs.get(message.name, -1))
            if message.name == DELETE:
                self.deleted.update(_decode_contact(params).uri for _, params in message.events)
        except InvalidEnvelopeError:
            return  # a stranger's


def _last_seq(message: Message) -> int:
    return message.seq + len(message.events) - 1
