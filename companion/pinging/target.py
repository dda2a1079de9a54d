"""Choose the contact of a device that can be pinged now, and the nodes that can reach it. No I/O."""

from typing import Final, NamedTuple

from companion.config import Config, OpensipsSection
from companion.errors import CanNotPingError
from companion.opensips.probe import Question
from companion.usrloc.contact import Contact, Device

ADD_PROBE_URL: Final = (
    'load mi_datagram in OpenSIPS and set probe_url = "udp:127.0.0.1:8889" in its [[opensips]] table; '
    "`companion doctor` prints all lines"
)


class PingTarget(NamedTuple):
    """Hold whom to ping: a contact, and the nodes to ask, which all have a `probe_url`."""

    device: str
    contact: Contact
    tables: tuple[OpensipsSection, ...]

    @property
    def question(self) -> Question:
        return make_question(self.contact)


def make_question(contact: Contact) -> Question:
    """Return what it takes to ask a contact: over the listening socket that events name."""
    registration = contact.registration
    return Question(contact.binding.uri, registration.received, registration.socket)


def choose_target(device: Device, config: Config, now: int) -> PingTarget:
    """Return the live contact of a device and the nodes to ask; `now` is epoch ms.

    Raises CanNotPingError.
    """
    contact = _choose_contact(device, now)
    if contact.registration.path:
        reason = f"{device.id} is behind a proxy (Path): the proxy might answer for it"
        raise CanNotPingError(reason, "look at its latency, which nathelper measures through the proxy")
    if not contact.registration.socket:
        reason = f"no event has named the listening socket of OpenSIPS that {device.id} is connected to"
        raise CanNotPingError(reason, "try again after its next ping or REGISTER")
    return PingTarget(device.id, contact, choose_tables(contact, config))


def choose_tables(contact: Contact, config: Config) -> tuple[OpensipsSection, ...]:
    """Return the nodes through which to ask a contact.

    It is the node that holds it, else the one of its last answer, else each node of its cluster.

    Raises CanNotPingError where none of them has a `probe_url`.
    """
    cluster = [table for table in config.opensips if config.cluster(table.node) == contact.binding.cluster]
    node = contact.holder or _last_answering_node(contact)
    tables = [table for table in cluster if table.node == node] if node else cluster
    askable = tuple(table for table in tables if table.probe_url)
    if not askable:
        raise CanNotPingError(f"phones can not be asked through {node or contact.binding.cluster}", ADD_PROBE_URL)
    return askable


def is_live(contact: Contact, now: int) -> bool:
    """Return whether it is registered."""
    return not contact.ended_at and not 0 < contact.expires_at <= now


def can_be_asked(contact: Contact) -> bool:
    """Return whether an answer would be the phone's own, and OpenSIPS' listening socket for it is known."""
    return bool(contact.registration.socket) and not contact.registration.path


def _choose_contact(device: Device, now: int) -> Contact:
    live = [contact for contact in device.contacts if is_live(contact, now)]
    if not live:
        raise CanNotPingError(f"{device.id} is not registered", "try again when it has registered")
    return max(live, key=lambda contact: (can_be_asked(contact), not contact.failing, contact.alive_at))


def _last_answering_node(contact: Contact) -> str:
    answers = {node: evidence.answered_at for node, evidence in contact.evidence.items() if evidence.answered_at}
    return max(answers, key=answers.__getitem__, default="")
