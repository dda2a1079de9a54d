"""Pack items for Redis: JSON, deflated with a dictionary of their names and common values. No I/O.

A report of five samples takes about 230 bytes, half as much as in a format that repeats the names.
"""

import zlib
from typing import Final

import msgspec

from companion.media.report import Happening, MediaSample


class Items(msgspec.Struct, omit_defaults=True, frozen=True):
    """Hold the media samples (`s`) and happenings (`h`) of one report."""

    s: tuple[MediaSample, ...] = ()
    h: tuple[Happening, ...] = ()


_HAPPENINGS: Final = (
    '"what":"switch-over","fields":{"reason":"offline","reason":"stalled","noticed_ms":250,"socket_ms":350,'
    '"registered_ms":450,"reinvite_ms":700,"media_ms":900,"result":"resumed"}},{"n":1,"at":17954,"what":"limited",'
    '"fields":{"max_bps":16000,"before_bps":32000,"after_bps":16000,"before_loss":0.05,"after_loss":0.01}},'
    '"what":"limit","fields":{"max_bps":16000,"by":"advice"}},"what":"hidden","fields":{}},"what":"visible",'
    '"fields":{}},"what":"muted","fields":{}},"what":"unmuted","fields":{}},"what":"held","fields":{}},'
    '"what":"resumed","fields":{}},"what":"offline","fields":{}},"what":"online","fields":{}},"what":"restart",'
    '"fields":{}},"what":"network","fields":{"type":"wifi","effective":"4g","rtt_ms":50}},"what":"connection",'
    '"fields":{"state":"connected"}},"what":"ice","fields":{"state":"checking"}},"what":"codec","fields":{'
    '"in":"opus/48000/2","out":"opus/48000/2"}},"what":"path","fields":{"local":"srflx","remote":"relay",'
    '"protocol":"udp","relay":"udp","network":"cellular","network":"wifi","local":"host","remote":"host",'
    '"local_address":"192.168.0.0/24","remote_address":"192.0.2.0/24"}}]}'
)
_SAMPLES: Final = (
    '"video":{"in_bytes":100000,"out_bytes":100000,"in_fps":30.0,"out_fps":30.0,"in_height":720,"out_height":720},'
    '"flags":["muted","held","hidden","gap","restart","offline"]},{"s":[{"n":10,"at":1795460000000,"ms":1000,'
    '"rtt_ms":20.0,"in":{"packets":50,"bytes":8000,"lost":0,"jitter_ms":1.0,"buffer_ms":20.0,"concealed":0.0,'
    '"level":0.0},"out":{"packets":50,"bytes":8000,"target_bps":64000.0,"lost":0.0,"rtt_ms":20.0,"jitter_ms":1.0,'
    '"level":0.0}},{"n":11,"at":1795461001000,"ms":1001,"rtt_ms":40.1,"in":{"packets":51,"bytes":4000,"lost":0,'
    '"jitter_ms":2.0,"buffer_ms":40.0,"concealed":0.0,"level":0.1},"out":{"packets":50,"bytes":4000,'
    '"target_bps":32000.0,"lost":0.0,"rtt_ms":40.0,"jitter_ms":2.0,"level":0.1}},{"n":12,"at":1795462002000,"ms":999,'
    '"rtt_ms":30.2,"in":{"packets":49,"bytes":3500,"lost":1,"jitter_ms":3.0,"buffer_ms":60.0,"concealed":0.01,'
    '"level":0.02},"out":{"packets":50,"bytes":3500,"target_bps":32000.0,"lost":0.0,"rtt_ms":30.0,"jitter_ms":3.0,'
    '"level":0.02}}]}'
)
_DICTIONARY: Final = (_HAPPENINGS + _SAMPLES).encode()
"""Never change it: what was packed with it can only be unpacked with it."""
_decoder: Final = msgspec.json.Decoder(Items)


def pack(items: Items) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=_DICTIONARY)
    return deflate.compress(msgspec.json.encode(items)) + deflate.flush()


def unpack(packed: bytes) -> Items:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY)
    return _decoder.decode(inflate.decompress(packed) + inflate.flush())
