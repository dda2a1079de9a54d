"""Ten thousand registrations of all kinds through a real OpenSIPS: each one that it takes is shown."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, given, settings

from companion.opensips.mi import Mi
from companion.opensips.mi_contact import MiContact
from companion.store.devices import load_device, load_ids_of
from companion.usrloc.contact import Contact
from tests.acceptance.conftest import Build
from tests.acceptance.edge import Companion, edge_with, settled, stop_pings
from tests.sip_phone.raw_phone import RawPhone
from tests.sip_phone.registrations import GeneratedRegister, registers

REGISTRATIONS: Final = int(os.environ.get("REGISTRATIONS", "10000"))
SEED: Final = int(os.environ.get("SEED", "20260101"))
BATCH: Final = 250
FAULTS: Final = 20
"""More faults than these are of the same few kinds: the test stops itself."""
BYTES: Final = 8192
"""Enough for one registration."""
PACKAGE_MB: Final = 256
"""ul_dump of so many contacts needs more than OpenSIPS has by default."""
TOLERANCE_MS: Final = 3_000
"""OpenSIPS' clock has whole seconds, and MI's answer comes a moment after the REGISTER's."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def generate(number: int) -> list[GeneratedRegister]:
    """Return registrations, each with an AOR of its own; the same ones for the same seed.

    Random bytes make them, since Hypothesis by itself varies few of them many times.
    """
    generated: list[GeneratedRegister] = []
    chance = Random(SEED)

    @settings(database=None, suppress_health_check=list(HealthCheck))
    @given(registers())
    def collect(register: GeneratedRegister) -> None:
        generated.append(register._replace(user=f"{len(generated)}-{register.user}"))

    fuzz = cast("Any", collect).hypothesis.fuzz_one_input
    while len(generated) < number:
        fuzz(chance.randbytes(BYTES))
    return generated


class Comparison:
    """Compare what OpenSIPS holds with what the companion shows; `faults` has a line for each difference."""

    def __init__(self, companion: Companion, mi: Mi) -> None:
        self.answers: Counter[int] = Counter()
        self.held: dict[str, set[str]] = {}
        self.faults: list[str] = []
        self._companion = companion
        self._mi = mi

    async def run(self, phone: RawPhone, batch: Sequence[GeneratedRegister]) -> None:
        """Send registrations, and compare those that OpenSIPS took."""
        registered = [register for register in batch if await self._send(phone, register)]
        held = [await self._mi.show_contact("location", register.aor) for register in registered]
        now = int(time.time() * 1000)
        with contextlib.suppress(TimeoutError):  # what is missing is a fault
            await settled(lambda: all(map(self._is_stored, registered, held)), seconds=10)
        for register, contacts in zip(registered, held, strict=True):
            self.held[register.aor] = {contact.uri for contact in contacts}
            self.faults += [f"{fault}: {register!r}" for fault in self._compare(register, contacts, now)]

    async def _send(self, phone: RawPhone, register: GeneratedRegister) -> bool:
        try:
            status = (await phone.ask(register.message(phone.address))).status
        except TimeoutError:
            pytest.fail(f"no answer to {register!r}")
        self.answers[status] += 1
        return status == 200

    def contacts(self, aor: str) -> dict[str, Contact]:
        """Return the contacts of an AOR that are shown as registered, by URI."""
        store = self._companion.store
        (ids,) = load_ids_of(store, instances=(), aors=(aor,))
        devices = [device for device in (load_device(store, device_id) for device_id in ids) if device]
        contacts = [contact for device in devices for contact in device.contacts if device.aor == aor]
        return {contact.binding.uri: contact for contact in contacts if not contact.ended_at}

    def leftovers(self) -> list[str]:
        """Return the contacts that are shown as registered and that OpenSIPS does not hold."""
        return [f"{uri} of {aor}" for aor, held in self.held.items() for uri in self.contacts(aor).keys() - held]

    def _is_stored(self, register: GeneratedRegister, held: Sequence[MiContact]) -> bool:
        return {contact.uri for contact in held} <= self.contacts(register.aor).keys()

    def _compare(self, register: GeneratedRegister, held: Sequence[MiContact], now: int) -> list[str]:
        stored = self.contacts(register.aor)
        push = {contact.uri: contact.push for contact in register.contacts}
        faults = [] if held else ["OpenSIPS holds nothing"]
        for contact in held:
            if contact.uri in stored:
                faults += differ(contact, stored[contact.uri], now)
                faults += [] if push[contact.uri] == bool(stored[contact.uri].push_provider) else ["push flag"]
            else:
                faults.append(f"missing {contact.uri}")
        return faults


def differ(held: MiContact, stored: Contact, now: int) -> list[str]:
    """Return what of a stored contact is not as OpenSIPS holds it."""
    registration, expires_at = stored.registration, now + 1000 * (held.seconds_left or 0)
    pairs = {
        "callid": (held.callid, registration.callid),
        "cseq": (held.cseq, registration.cseq),
        "user_agent": (held.user_agent, registration.user_agent),
        "received": (held.received, registration.received),
        "attr": (held.attr, registration.attr),
    }
    differences = [f"{name} {one!r} is {other!r}" for name, (one, other) in pairs.items() if one != other]
    if abs(registration.expires_at - expires_at) > TOLERANCE_MS:
        differences.append(f"expiry {expires_at} is {registration.expires_at}")
    return differences


async def test_generated_registrations(build: Build, tmp_path: Path) -> None:
    """Each registration that OpenSIPS takes is shown with its AOR, push flag, expiry and all else that it holds.

    Of several contacts in one REGISTER, OpenSIPS matches those behind one with push parameters by these alone: one that
    has none takes the place of another that has none, and no event tells whose. Reconciling ends what is left over.
    """
    generated = await asyncio.to_thread(generate, REGISTRATIONS)
    assert len(generated) == REGISTRATIONS
    with (
        edge_with(build._replace(package_mb=PACKAGE_MB), tmp_path) as edge,
        Companion(tmp_path, edge.datagram, edge.server.mi_url) as companion,
    ):
        await stop_pings(edge.server)
        async with Mi(edge.server.mi_url) as mi, RawPhone("udp", edge.server.udp_port, "all@127.0.0.1") as phone:
            comparison = Comparison(companion, mi)
            for first in range(0, REGISTRATIONS, BATCH):
                await comparison.run(phone, generated[first : first + BATCH])
                if len(comparison.faults) > FAULTS:
                    break
        leftovers = len(comparison.leftovers())
        counts = f"{len(comparison.held)} compared, {len(comparison.faults)} faults, {leftovers} contacts left over"
        print(f"seed {SEED}: {counts}; answers {dict(comparison.answers)}")
        assert comparison.faults == []
        async with asyncio.timeout(180):  # what changed within the last minute is left alone
            while comparison.leftovers():
                code, output = await companion.cli("reconcile")
                assert code == 0, output
    assert len(comparison.held) > REGISTRATIONS * 3 / 4
