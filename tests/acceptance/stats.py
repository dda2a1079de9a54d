"""What getStats says in different browsers, a moment ago and now, and what a sample makes of it."""

from typing import Any, Final, NamedTuple

Stat = dict[str, Any]


class Case(NamedTuple):
    name: str
    before: list[Stat]
    after: list[Stat]
    expected: Stat


def chromium(at: int, **changes: Stat) -> list[Stat]:
    """Of Chromium 156, `at` seconds into a call; `changes` by id, None for a report that is not there."""
    packets = 50 * at
    stats: dict[str, Stat] = {
        "T01": {"type": "transport", "selectedCandidatePairId": "CP1"},
        "CP1": {
            "type": "candidate-pair",
            "state": "succeeded",
            "nominated": True,
            "currentRoundTripTime": 0.042,
            "lastPacketReceivedTimestamp": 1000 * at - 20,
        },
        "IT01A1": {
            "type": "inbound-rtp",
            "kind": "audio",
            "ssrc": 1,
            "packetsReceived": packets,
            "bytesReceived": 65 * packets,
            "packetsLost": at,
            "jitter": 0.004,
            "jitterBufferDelay": 2880 * at,
            "jitterBufferEmittedCount": 48_000 * at,
            "totalSamplesReceived": 48_000 * at,
            "concealedSamples": 960 * at,
            "silentConcealedSamples": 480 * at,
            "totalAudioEnergy": 0.04 * at,
            "totalSamplesDuration": at,
        },
        "OT01A2": {
            "type": "outbound-rtp",
            "kind": "audio",
            "ssrc": 2,
            "packetsSent": packets,
            "bytesSent": 60 * packets,
            "targetBitrate": 32_000,
        },
        "RIA2": {
            "type": "remote-inbound-rtp",
            "kind": "audio",
            "ssrc": 2,
            "fractionLost": 0.0117,
            "roundTripTime": 0.0531,
            "jitter": 0.0021,
        },
        "SA1": {"type": "media-source", "kind": "audio", "totalAudioEnergy": 0.09 * at, "totalSamplesDuration": at},
    }
    made = [{"id": name, "timestamp": 1000 * at, **stat} for name, stat in stats.items()]
    return merged(made, changes)


def firefox(at: int, **changes: Stat) -> list[Stat]:
    """Of a Firefox before 153: no transport, the pair is `selected`, some counters are missing."""
    packets = 50 * at
    stats: dict[str, Stat] = {
        "cp1": {"type": "candidate-pair", "state": "succeeded", "nominated": True, "selected": True},
        "cp0": {"type": "candidate-pair", "state": "failed", "nominated": True, "selected": False},
        "in1": {
            "type": "inbound-rtp",
            "kind": "audio",
            "ssrc": 7,
            "packetsReceived": packets,
            "bytesReceived": 100 * packets,
            "packetsLost": 0,
            "jitter": 0.001,
        },
        "out1": {"type": "outbound-rtp", "kind": "audio", "ssrc": 8, "packetsSent": packets, "bytesSent": 90 * packets},
        "rin1": {"type": "remote-inbound-rtp", "kind": "audio", "ssrc": 8, "fractionLost": 0, "roundTripTime": 0},
    }
    return merged([{"id": name, "timestamp": 1000 * at, **stat} for name, stat in stats.items()], changes)


def merged(stats: list[Stat], changes: dict[str, Stat]) -> list[Stat]:
    return [{**stat, **changes.pop(stat["id"], {})} for stat in stats] + [
        {"id": name, **changes[name]} for name in changes
    ]


IN: Final = {
    "packets": 50,
    "bytes": 3250,
    "lost": 1,
    "jitter_ms": 4,
    "buffer_ms": 60,
    "concealed": 0.01,
    "level": 0.2,
}
OUT: Final = {
    "packets": 50,
    "bytes": 3000,
    "target_bps": 32_000,
    "lost": 0.0117,
    "rtt_ms": 53.1,
    "jitter_ms": 2.1,
    "level": 0.3,
}
ALL: Final = {"rtt_ms": 42, "in": IN, "out": OUT}
QUIET: Final = {"packets": 0, "bytes": 0, "lost": 0}
AUDIO: Final = {"type": "inbound-rtp", "kind": "audio"}
VIDEO_IN: Final = {"type": "inbound-rtp", "kind": "video", "ssrc": 3}
VIDEO_OUT: Final = {"type": "outbound-rtp", "kind": "video"}
PAIR: Final = {"type": "candidate-pair", "state": "succeeded", "nominated": True}
FIREFOX: Final = {
    "in": {"packets": 50, "bytes": 5000, "lost": 0, "jitter_ms": 1},
    "out": {"packets": 50, "bytes": 4500, "lost": 0},
}


def without(figures: Stat, *names: str) -> Stat:
    return {name: value for name, value in figures.items() if name not in names}


CASES: Final = (
    Case("Chromium says all of it", chromium(9), chromium(10), ALL),
    Case(
        "two seconds are two seconds' worth",
        chromium(8),
        chromium(10),
        ALL
        | {
            "in": IN | {"packets": 100, "bytes": 6500, "lost": 2},
            "out": OUT | {"packets": 100, "bytes": 6000},
        },
    ),
    Case("Firefox says less, and what it does not say is left out", firefox(9), firefox(10), FIREFOX),
    Case("nothing is known", [], [], {"in": {}, "out": {}}),
    Case(
        "a first look has nothing to compare with",
        [],
        chromium(10),
        {
            "rtt_ms": 42,
            "in": {},
            "out": without(OUT, "packets", "bytes", "level"),
        },
    ),
    Case(
        "a round trip of 0 is none",
        chromium(9),
        chromium(10, CP1={"currentRoundTripTime": 0}, RIA2={"roundTripTime": 0}),
        {
            "in": IN,
            "out": without(OUT, "rtt_ms"),
        },
    ),
    Case(
        "what is not a number is none",
        chromium(9),
        chromium(10, IT01A1={"jitter": "none"}),
        {
            "rtt_ms": 42,
            "in": without(IN, "jitter_ms"),
            "out": OUT,
        },
    ),
    Case(
        "a pair that hears nothing any more knows no round trip",
        chromium(9),
        chromium(
            20,
            CP1={
                "lastPacketReceivedTimestamp": 9_900,
            },
            IT01A1=chromium(9)[2] | {"timestamp": 20_000},
            OT01A2=chromium(19)[3],
        ),
        {
            "in": QUIET,
            "out": {
                "packets": 500,
                "bytes": 30_000,
                "target_bps": 32_000,
                "lost": 0.0117,
                "rtt_ms": 53.1,
                "jitter_ms": 2.1,
                "level": 0.3,
            },
        },
    ),
    Case(
        "what the far end told long ago is not told again",
        chromium(19),
        chromium(20, RIA2={"timestamp": 9_000}),
        {
            "rtt_ms": 42,
            "in": IN,
            "out": without(OUT, "lost", "rtt_ms", "jitter_ms"),
        },
    ),
    Case(
        "packets that came late make a loss negative",
        chromium(9),
        chromium(10, IT01A1={"packetsLost": 7}),
        ALL
        | {
            "in": IN | {"lost": -2},
        },
    ),
    Case(
        "counters that begin anew tell nothing",
        chromium(9),
        chromium(10, IT01A1=chromium(1)[2] | {"timestamp": 10_000}),
        ALL
        | {
            "in": {},
        },
    ),
    Case(
        "another source under the same id tells nothing",
        chromium(9),
        chromium(10, OT01A2={"ssrc": 22}),
        ALL
        | {
            "out": without(OUT, "packets", "bytes"),
        },
    ),
    Case(
        "one counter that went back is left out",
        chromium(9),
        chromium(10, IT01A1={"bytesReceived": 5}),
        ALL
        | {
            "in": without(IN, "bytes"),
        },
    ),
    Case(
        "streams of one kind are one",
        chromium(
            9, IT01A9=AUDIO | {"ssrc": 9, "packetsReceived": 10, "bytesReceived": 100, "packetsLost": 0, "jitter": 0.01}
        ),
        chromium(
            10,
            IT01A9=AUDIO | {"ssrc": 9, "packetsReceived": 20, "bytesReceived": 300, "packetsLost": 4, "jitter": 0.02},
        ),
        ALL
        | {
            "in": IN | {"packets": 60, "bytes": 3450, "lost": 5, "jitter_ms": 20},
        },
    ),
    Case(
        "a stream that is new counts from the next time on",
        chromium(9),
        chromium(
            10,
            IT01A9=AUDIO
            | {
                "ssrc": 9,
                "packetsReceived": 7,
                "bytesReceived": 90,
                "packetsLost": 0,
                "jitter": 0.001,
            },
        ),
        ALL,
    ),
    Case(
        "after a restart the new pair counts, though the old one stays nominated",
        chromium(9),
        chromium(
            10,
            T01={
                "selectedCandidatePairId": "CP2",
            },
            CP2=PAIR | {"currentRoundTripTime": 0.007},
        ),
        ALL | {"rtt_ms": 7},
    ),
    Case(
        "without a transport it is the pair that heard last",
        firefox(9),
        firefox(
            10,
            cp1={
                "selected": None,
                "currentRoundTripTime": 0.05,
                "lastPacketReceivedTimestamp": 4,
            },
            cp2=PAIR | {"currentRoundTripTime": 0.009, "lastPacketReceivedTimestamp": 5},
        ),
        FIREFOX | {"rtt_ms": 9},
    ),
    Case(
        "who hears nothing has no jitter",
        chromium(9),
        chromium(10, IT01A1=chromium(9)[2] | {"timestamp": 10_000}),
        ALL
        | {
            "in": QUIET,
        },
    ),
    Case(
        "video",
        chromium(
            9,
            IT01V3=VIDEO_IN | {"packetsReceived": 1, "bytesReceived": 1000},
            OT01V4=VIDEO_OUT | {"ssrc": 4, "bytesSent": 500},
            OT01V5=VIDEO_OUT | {"ssrc": 5, "bytesSent": 0},
        ),
        chromium(
            10,
            IT01V3=VIDEO_IN
            | {"packetsReceived": 9, "bytesReceived": 9000, "framesPerSecond": 24.4, "frameHeight": 480},
            OT01V4=VIDEO_OUT | {"ssrc": 4, "bytesSent": 900, "framesPerSecond": 30, "frameHeight": 360},
            OT01V5=VIDEO_OUT | {"ssrc": 5, "bytesSent": 200, "framesPerSecond": 15, "frameHeight": 180},
        ),
        ALL
        | {
            "video": {
                "in_bytes": 8000,
                "out_bytes": 600,
                "in_fps": 24.4,
                "out_fps": 30,
                "in_height": 480,
                "out_height": 360,
            },
        },
    ),
)

ADDRESSES: Final = {
    "192.0.2.77": "192.0.2.0",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1::",
    "2001:db8::1": "2001:db8::",
    "FE80::1": "FE80::",
    "::1": "::",
    "::ffff:192.0.2.77": "::",
    "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9.local": "",
    "": "",
}
