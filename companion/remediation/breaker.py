"""Tell a mass event from dead phones, by node, cluster and network. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from companion import sip
from companion.config import RemediationSection
from companion.remediation.policy import failing_since, reaching_node
from companion.store.breakers import BreakerState
from companion.usrloc.contact import Contact

SMALL_MASS: Final = 5
HALF: Final = 0.5
"""From five candidates on, more than half of a group is a mass event."""
NETWORK: Final = "network:"
CLUSTER: Final = "cluster:"


class GroupTotals(NamedTuple):
    """Hold how many contacts are registered: by node, and by network where that is known."""

    nodes: Mapping[str, int]
    networks: Mapping[str, int]


def groups_of(contact: Contact) -> list[str]:
    """Return the groups that a contact fails in: its node, its cluster, its network (/24 or /48)."""
    groups = [reaching_node(contact) or contact.node, CLUSTER + contact.binding.cluster]
    network = sip.network_prefix(contact.address.rpartition(":")[0])
    return [*groups, NETWORK + network] if network else groups


def collect_failures(contacts: Iterable[Contact]) -> dict[str, list[int]]:
    """Return since when (epoch ms) the contacts of each group fail."""
    failures: defaultdict[str, list[int]] = defaultdict(list)
    for contact in contacts:
        for group in groups_of(contact):
            failures[group].append(failing_since(contact))
    return dict(failures)


def count_group(group: str, totals: GroupTotals, clusters: Mapping[str, str]) -> int | None:
    """Return how many contacts a group has, None when nobody counted. `clusters` names the cluster of each node."""
    if group.startswith(NETWORK):
        return totals.networks.get(group.removeprefix(NETWORK))
    if group.startswith(CLUSTER):
        members = Counter({node: count for node, count in totals.nodes.items() if CLUSTER + clusters[node] == group})
        return members.total()
    return totals.nodes.get(group, 0)


def is_mass_event(failing: int, contacts: int, settings: RemediationSection) -> bool:
    """Return whether so many fail at once that it is a dead network or a stopped timer, not dead phones."""
    if failing >= SMALL_MASS and failing > max(HALF, settings.breaker_share) * contacts:
        return True
    return failing > settings.breaker_candidates and failing > settings.breaker_share * contacts


class Group(NamedTuple):
    """Hold since when (epoch ms) contacts of a group fail, how many it has, and whether its phones can be asked."""

    failures: Sequence[int]
    contacts: int | None
    can_ask: bool


def update_breaker(state: BreakerState, group: Group, settings: RemediationSection, now: int) -> BreakerState:
    """Return the state of a group's breaker after a look at its failures.

    It opens with a mass event and closes when no new failure came for `breaker_calm`. Then the questions to the phones
    decide about those that failed so far. Where phones can not be asked, it stays open as long as the mass event lasts.
    """
    passed = state.passed if state.passed <= now else 0
    fresh = [since for since in group.failures if since > passed]
    newest = max(fresh, default=0)
    is_mass = group.contacts is not None and is_mass_event(len(fresh), group.contacts, settings)
    if not state.opened_at:
        return BreakerState(now, newest, now, passed) if is_mass else BreakerState(passed=passed)
    goes_on = is_mass and not group.can_ask
    is_set_back = state.changed_at > now  # the clock: the calm begins now, and not in an hour
    changed_at = now if newest > state.newest or goes_on or is_set_back else state.changed_at
    newest = max(newest, state.newest)
    if now - changed_at < settings.breaker_calm * 1000:
        return BreakerState(state.opened_at, newest, changed_at, passed)
    return BreakerState(passed=newest if group.can_ask else passed)
