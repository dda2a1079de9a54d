"""Define the values that answers of the API are made of."""

from typing import Annotated

from pydantic import Field

from companion.media import e_model

Time = Annotated[str, Field(description="ISO 8601, UTC, to the millisecond.", examples=["2026-11-24T09:30:00.125Z"])]
Milliseconds = Annotated[int, Field(ge=0, description="Milliseconds.", examples=[48])]
DeviceId = Annotated[
    str, Field(description="`aor/instance`, else `aor/uri-user`.", examples=["alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a"])
]
NodeName = Annotated[str, Field(description="One OpenSIPS.", examples=["edge-1"])]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float | None, Field(ge=0, le=1, description="0 to 1; null of nothing.", examples=[0.0125])]
Cursor = Annotated[str | None, Field(description="Ask again with `cursor` set to it; null: there are no more.")]
# not tuples: `prefixItems` is what programs that read OpenAPI documents understand least
Sample = Annotated[
    list[int | None],
    Field(
        min_length=2,
        max_length=2,
        description="Epoch ms of a ping, and its latency in ms or null when it was lost.",
        examples=[[1795512600123, 48]],
    ),
]
Bucket = Annotated[
    list[int | float | None],
    Field(
        min_length=6,
        max_length=6,
        description="Its start (epoch ms); minimum, average and maximum in ms, null when none was answered; how many "
        "pings were answered and lost.",
        examples=[[1795512600000, 41, 48.5, 61, 12, 0]],
    ),
]
Band = Annotated[
    e_model.Band | None, Field(description="Category of ITU-T G.109: of R from 90, 80, 70, 60, 50 on, else `bad`.")
]
Mos = Annotated[float | None, Field(ge=1, le=4.5, description="1 to 4.5; null: too little is known.", examples=[4.37])]
Measured = Annotated[float | None, Field(ge=0, description="Null: not known.")]
Seconds = Annotated[float, Field(ge=0)]
MediaSample = Annotated[
    list[int | float | list[str] | None],
    Field(
        min_length=10,
        max_length=10,
        description="Its end (epoch ms); how many ms it is of; round trip and jitter in ms; loss in percent; bits a "
        "second in and out; MOS; which share of what was played was made up (0 to 1); flags: `muted`, `held`, `hidden` "
        "(the page was in the background), `gap` (its timers did not run), `restart` (ICE was restarted), `offline`. "
        "Null: not known.",
        examples=[[1795512600123, 1000, 42.5, 4.1, 0.0, 24100, 24300, 4.37, 0.0012, ["hidden"]]],
    ),
]
