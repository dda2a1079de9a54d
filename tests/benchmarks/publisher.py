"""Publish a fleet's registrations and then its pings as fast as possible, as a bridge does; a process of its own."""

import sys
import time
from typing import Final

from companion.bus.publisher import Publisher

NODE: Final = "bench"
HIGH_WATER_MARK: Final = 1_000_000


def device_name(number: int) -> str:
    """Return the id of the device of phone `number`."""
    return f"user{number}/urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}"


def ping_params(number: int, latency_us: int, expires: int) -> dict[str, object]:
    """Return the parameters of an event of phone `number`, all that OpenSIPS sends."""
    return {
        "domain": "location",
        "aor": f"user{number}",
        "uri": f"sip:user{number}@95e693bd04cf.invalid;transport=ws",
        "received": f"sip:10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:38566;transport=ws",
        "path": None,
        "qval": -1,
        "user_agent": "Browser Phone 0.3.29 (SIPJS - 0.20.0)",
        "socket": "ws:127.0.0.1:20101",
        "bflags": 14,
        "expires": expires,
        "callid": f"3898d190f9ebdacc0cb1e29c658cda{number:06x}",
        "cseq": 1,
        "attr": f"<urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}>",
        "latency": latency_us,
        "shtag": "",
    }


def main() -> None:
    """Wait for a subscriber, then publish; argv: endpoint, phones, events, first ts (epoch ms)."""
    endpoint, phones, events, ts = sys.argv[1], *map(int, sys.argv[2:5])
    publisher = Publisher(endpoint, NODE, high_water_mark=HIGH_WATER_MARK)
    publisher._socket.poll(60_000)
    expires = int(time.time()) + 3600
    fleet = [ping_params(number, 0, expires) for number in range(phones)]
    for params in fleet:
        publisher.gather("E_UL_CONTACT_INSERT", params, ts)
    publisher.heartbeat(ts)
    print("registered", flush=True)
    sys.stdin.readline()
    for number in range(events):
        params = fleet[number % phones]
        params["latency"] = 40_000 + number * 7919 % 60_000
        publisher.gather("E_UL_LATENCY_UPDATE", params, ts + 1 + number // phones)
    publisher.heartbeat(ts)
    print("published", flush=True)
    sys.stdin.readline()
    publisher.close()


if __name__ == "__main__":
    main()
