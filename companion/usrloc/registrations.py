"""Compare registrations of a contact: which REGISTER is the same, which is older. No I/O."""

from companion.opensips.events import Registration


def is_same_register(one: Registration, other: Registration) -> bool:
    """Return whether two nodes tell of the same REGISTER."""
    return (one.callid, one.cseq, one.expires_at) == (other.callid, other.cseq, other.expires_at)


def is_same_registration(one: Registration, other: Registration) -> bool:
    """Return whether both are of one REGISTER, by what events and MI both tell exactly."""
    return (one.callid, one.cseq, one.received, one.path) == (other.callid, other.cseq, other.received, other.path)
