"""The format of the data in Redis: what the first release wrote is migrated, and what is not ours is refused.

`released_store` holds all keys that the first format had after a story of four phones, with either engine, and what
that version answered about them.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from companion.cli.main import app
from companion.consumer.recorder import Recorder
from companion.doctor import gather
from companion.doctor import redis as doctor
from companion.errors import StoreFormatError, UsageError
from companion.http.monitoring.watch import Watch
from companion.query.devices import iterate_devices, render_device
from companion.query.now import load_view
from companion.query.pings import read_buckets
from companion.store import maintenance
from companion.store.connection import Command
from companion.store.contacts import iterate_failing_contacts
from companion.store.format import FORMAT, load_format
from companion.store.leases import Leases
from companion.store.locks import acquire_lock
from companion.store.migration import Migrated, migrate
from companion.store.pushes import load_care
from companion.store.store import open_store
from companion.text import Json
from companion.times import now_ms
from tests.integration.conftest import Kind, MakeSetup, Setup, message, phone_event, record_batch, record_events

FOLDER = Path(__file__).parent / "released_store"
HOUR_MS = 3_600_000
CONVERTED = 15


def load_released(setup: Setup, engine: str) -> None:
    """Write the keys of the first format."""
    keys, call = setup.store.keys, setup.store.connection.call
    for line in (FOLDER / f"{engine}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = keys.prefix + row["key"].replace("companion:", keys.prefix)
        for command in commands_of(row["type"], key, row["content"]):
            call(*command)
        if row["expires"]:
            call("PEXPIRE", key, setup.store.ttl_ms // 2)


def commands_of(kind: str, key: str, content: Any) -> list[Command]:
    """Return the commands that write a value as the fixture has it."""
    match kind:
        case "hash":
            return [("HSET", key, *(part for pair in content.items() for part in pair))]
        case "set":
            return [("SADD", key, *content)]
        case "zset":
            return [("ZADD", key, score, member) for member, score in content]
        case "stream":
            return [("XADD", key, entry, *fields) for entry, fields in content]
        case "series":
            return [("TS.ADD", key, ts, value, "ON_DUPLICATE", "LAST") for ts, value in content]
    return [("SET", key, content)]


def released_answers(engine: str) -> Json:
    answers: Json = json.loads((FOLDER / f"{engine}.answers.json").read_text(encoding="utf-8"))
    return answers


def answers(setup: Setup, now: int, day: str) -> Json:
    """Return what the store says of all devices, as of a time."""
    store = setup.store
    present = load_view(setup.config, store)
    view = type(present)(present.clock._replace(now=now), present.feeds, present.bounds)
    devices = list(iterate_devices(store))
    contacts = [contact for device in devices for contact in device.contacts]
    document: Json = {
        "now": now,
        "day": day,
        "pages": {device.id: render_device(store, device.id, view, HOUR_MS) for device in devices},
        "buckets": {device.id: read_buckets(store, device, view, now - HOUR_MS, 60_000) for device in devices},
        "care": {contact: state._asdict() for contact, state in load_care(store, contacts, day).items()},
        "failing": sorted(contact.id for contact in iterate_failing_contacts(store)),
    }
    read_again: Json = json.loads(json.dumps(document))
    return read_again


class InterruptedMigrationError(Exception):
    pass


def interrupt(done: int, total: int) -> None:
    assert done <= total
    if done > CONVERTED // 2:
        raise InterruptedMigrationError


@pytest.mark.parametrize(("kind", "engine"), [("module", "timeseries"), ("plain", "streams")])
def test_migration(make_setup: MakeSetup, kind: Kind, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are the same after a migration, also after one that was interrupted; what expired still does."""
    monkeypatch.setattr(maintenance, "PAGE", 5)
    setup = make_setup(kind)
    load_released(setup, engine)
    expected = released_answers(engine)
    with pytest.raises(InterruptedMigrationError):
        migrate(setup.store, interrupt)
    with pytest.raises(StoreFormatError, match="format 1, and this version needs format 2: stop all companions"):
        open_store(setup.config.redis)
    result = migrate(setup.store, lambda *_: None)
    assert (result.stored, result.unreadable) == (1, 0)
    assert result.converted > 0
    open_store(setup.config.redis).close()
    assert answers(setup, expected["now"], expected["day"]) == expected
    assert migrate(setup.store, interrupt) == Migrated(FORMAT)
    call = setup.store.connection.call
    for key in call("KEYS", f"{setup.store.keys.prefix}{{0}}:*:*"):
        assert 0 < call("PTTL", key) <= setup.store.ttl_ms // 2, key


def test_a_consumer_goes_on(make_setup: MakeSetup) -> None:
    """After a migration a consumer goes on with the contacts and timelines that are there."""
    setup = make_setup()
    load_released(setup, "timeseries")
    migrate(setup.store, lambda *_: None)
    before = {entry["event"] for entry in setup.page("web")["timeline"]}
    record_events(setup, [message("E_UL_CONTACT_INSERT", phone_event("new"), now_ms(), 5)])
    assert "new/new" in setup.pages()
    assert {entry["event"] for entry in setup.page("web")["timeline"]} >= before


def test_what_can_not_be_read(make_setup: MakeSetup) -> None:
    """A broken value is left alone and counted, and hides nothing else."""
    setup = make_setup()
    load_released(setup, "timeseries")
    setup.store.connection.call("HSET", setup.store.keys.contact("web", "0123456789abcdef"), "id", "x")
    assert migrate(setup.store, lambda *_: None).unreadable == 1
    assert len(setup.pages()) == len(released_answers("timeseries")["pages"])


def test_not_while_a_companion_runs(make_setup: MakeSetup) -> None:
    """While a consumer holds the lease of a node nothing is migrated, and while a migration runs no consumer writes."""
    setup = make_setup()
    load_released(setup, "timeseries")
    setup.store.connection.call("SET", setup.store.keys.lease("opensips"), "a consumer of the first release")
    with pytest.raises(UsageError, match=r"a companion runs on this Redis and holds .*lease:opensips"):
        migrate(setup.store, lambda *_: None)
    setup.store.connection.call("DEL", setup.store.keys.lease("opensips"))

    def try_to_write(*_: int) -> None:
        assert acquire_lock(setup.store, setup.store.keys.lease("opensips"), 1.0) is None

    assert migrate(setup.store, try_to_write).stored == 1


def test_a_redis_that_lost_its_data(make_setup: MakeSetup) -> None:
    """Data of this format whose number was lost is not taken for older data, and the next write notes it again."""
    setup = make_setup()
    recorder = Recorder(setup.config, setup.store)
    asyncio.run(record_batch(recorder, [message("E_UL_CONTACT_INSERT", phone_event("ann"), now_ms(), 0)]))
    setup.store.connection.call("DEL", setup.store.keys.format())
    open_store(setup.config.redis).close()
    asyncio.run(record_batch(recorder, [message("E_UL_CONTACT_INSERT", phone_event("bob"), now_ms(), 1)]))
    assert load_format(setup.store.connection, setup.store.keys) == FORMAT


def test_formats(make_setup: MakeSetup) -> None:
    """An empty store gets the format of this version with its first event, and another one is refused by all."""
    setup = make_setup()
    store, keys = setup.store, setup.store.keys
    assert load_format(store.connection, keys) is None
    record_events(setup, [message("E_UL_CONTACT_INSERT", phone_event("ann"), now_ms(), 0)])
    assert load_format(store.connection, keys) == FORMAT
    for text in ("3", "hostile"):
        store.connection.call("SET", keys.format(), text)
        line = f"the data in Redis has format {text}, and this version needs format {FORMAT}: use the version"
        with pytest.raises(StoreFormatError, match=line):
            open_store(setup.config.redis)
        with pytest.raises(StoreFormatError, match=line):
            migrate(store, lambda *_: None)
        with pytest.raises(StoreFormatError, match=line):
            Leases(store).hold("another")
        (reason, *_) = Watch(setup.config, store)._judge().reasons
        assert (reason.name, reason.text.startswith(line)) == ("store-format", True)


def test_commands(make_setup: MakeSetup) -> None:
    """The companion tells to migrate, with exit code 2; the doctor names it, and `companion store migrate` does it."""
    setup = make_setup()
    load_released(setup, "timeseries")
    run = setup.cli("run")
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
    assert "run `companion store migrate`" in run.stderr
    (finding,) = doctor.check(gather._stored(setup.config)).findings
    assert (finding.level, finding.remedy) == ("failure", "stop all companions, then run `companion store migrate`")
    command = ["store", "migrate", "-c", str(setup.file())]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.stdout) == (0, f"migrated from format 1 to 2: {CONVERTED} keys converted\n")
    assert CliRunner().invoke(app, command).stdout == "nothing to do: the data has format 2\n"
