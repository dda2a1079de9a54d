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

    It opens with a mass event and closes when `breaker_calm` passed without another one: a failure now and then is the
    ordinary life of a large fleet. Then the questions to the phones decide about those that failed so far. Where phones
    can not be asked, it stays open as long as the mass event lasts.
    """
    passed = state.passed if state.passed <= now else 0
    newest = max(group.failures, default=0)
    is_mass = _is_mass_since(passed, group, settings)
    if not state.opened_at:
        return BreakerState(now, newest, now, passed) if is_mass else BreakerState(passed=passed)
    goes_on = is_mass and not group.can_ask
    is_set_back = state.changed_at > now  # the clock: the calm begins now, and not in an hour
    counted = state.newest if state.newest <= now else 0
    if goes_on or is_set_back or _is_mass_since(counted, group, settings):
        return BreakerState(state.opened_at, max(newest, counted), now, passed)
    if now - state.changed_at < settings.breaker_calm * 1000:
        return state._replace(passed=passed)
    return BreakerState(passed=min(max(newest, counted), now) if group.can_ask else passed)


def _is_mass_since(since: int, group: Group, settings: RemediationSection) -> bool:
    """Return whether the failures after a time (epoch ms) are a mass event by themselves."""
    failing = sum(failed_at > since for failed_at in group.failures)
    return group.contacts is not None and is_mass_event(failing, group.contacts, settings)
