"""Each node of a device's cluster gets its traces, and only what is surely ours is stopped."""

from companion.config import Config
from companion.recording.plan import MAX_TRACES, RecordedDevice, choose_nodes, find_ended, plan_traces
from companion.store.recordings import Recording
from companion.trace.filters import make_id
from tests.unit.trace.phones import phone

CONFIG = Config.model_validate(
    {"opensips": [{"node": "edge", "cluster": "edge"}, {"node": "edge-2", "cluster": "edge"}, {"node": "far"}]}
)
DAVE = phone("dave", "1", "sip:k3@x.invalid", "192.0.2.7:1")
ENDS_AT = 1_800_000_000_000
PLAN = {make_id(ENDS_AT, DAVE.id, "caller=dave"): "caller=dave"}


def test_nodes() -> None:
    """The nodes of the clusters where it is registered, or was last; all where nothing is stored."""
    ended = phone("dave", "1", "sip:k3@x.invalid", "192.0.2.7:1", ended_at=5)
    assert [table.node for table in choose_nodes(DAVE, CONFIG)] == ["edge", "edge-2"]
    assert [table.node for table in choose_nodes(ended, CONFIG)] == ["edge", "edge-2"]
    ended.contacts.clear()
    assert [table.node for table in choose_nodes(ended, CONFIG)] == ["edge", "edge-2", "far"]


def test_plan() -> None:
    """Each filter of a device has a trace on each of its nodes, also the spelling that its messages use."""
    plan = plan_traces([RecordedDevice(Recording(DAVE.id, "x", 0, ENDS_AT), DAVE, "Dave")], CONFIG)
    assert sorted(plan["edge"].values()) == ["callee=Dave", "callee=dave", "callee=k3", "caller=Dave", "caller=dave"]
    assert plan["edge"] == plan["edge-2"]
    assert plan["far"] == {}


def test_what_ends() -> None:
    """Overdue traces end whoever began them; of our devices also what was stopped or has another end now."""
    overdue, stopped = make_id(1000, "eve/1", "caller=eve"), make_id(ENDS_AT, "bob/1", "caller=bob")
    other, earlier = make_id(ENDS_AT, "eve/1", "caller=eve"), make_id(ENDS_AT - 60_000, DAVE.id, "caller=dave")
    active = [*PLAN, overdue, stopped, other, earlier]
    assert find_ended(PLAN, active, [DAVE.id, "bob/1"], 2_000_000) == {overdue, stopped, earlier}


def test_old_contacts() -> None:
    """The trace of an old contact stays while its device is recorded, unless there are very many."""
    old = make_id(ENDS_AT, DAVE.id, "callee=old")
    assert find_ended(PLAN, [*PLAN, old], [DAVE.id], 0) == set()
    many = [make_id(ENDS_AT, DAVE.id, f"callee={n}") for n in range(MAX_TRACES)]
    assert find_ended(PLAN, [*PLAN, *many], [DAVE.id], 0) == set(many)
