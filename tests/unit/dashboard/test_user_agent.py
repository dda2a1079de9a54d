"""What a User-Agent says of the platform, as far as it says anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.dashboard.user_agent import Platform, parse

IPHONE = "iPhone; CPU iPhone OS 17_2 like Mac OS X"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
USER_AGENTS = [
    ("", Platform()),
    (
        "LinphoneAndroid/5.2.5 (Pixel 8) LinphoneSDK/5.3.47",
        Platform("app", "Linphone 5.2.5", "", "Android", "Pixel 8", "LinphoneSDK 5.3.47"),
    ),
    (
        "LinphoneiOS/5.2.3 (iPhone 15) LinphoneSDK/5.3.47",
        Platform("app", "Linphone 5.2.3", "", "iOS", "iPhone 15", "LinphoneSDK 5.3.47"),
    ),
    (
        "Browser Phone 0.3.29 (SIPJS - 0.20.0) Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0",
        Platform("browser", "Browser Phone 0.3.29", "Firefox 133.0", "Linux", "", "SIP.js 0.20.0"),
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/131.0.2903.86",
        Platform("browser", "", "Edge 131.0.2903.86", "Windows 10 or later"),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36",
        Platform("browser", "", "Chrome 131.0.0.0", "Android 14"),
    ),
    (
        f"Mozilla/5.0 ({IPHONE}) AppleWebKit/605.1.15 Version/17.2 Mobile/15E148 Safari/604.1",
        Platform("browser", "", "Safari 17.2", "iOS 17.2"),
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.2 Safari/605.1.15",
        Platform("browser", "", "Safari 17.2", "macOS"),
    ),
    ("SIP.js/0.21.2", Platform("browser", library="SIP.js 0.21.2")),
    ("JsSIP 3.10.1", Platform("browser", library="JsSIP 3.10.1")),
    ("SIPERB 0.1 (Android)", Platform("app", "SIPERB 0.1", system="Android")),
    ("Zoiper rv2.10.20.5", Platform("app", "Zoiper 2.10.20.5")),
    ("Acrobits Groundwire/6.5", Platform("app", "Acrobits Groundwire 6.5")),
    ("3CXPhone 6.0.1", Platform("app", "3CXPhone 6.0.1")),
    ("baresip v1.1.0 (x86_64/linux)", Platform("app", "baresip 1.1.0", system="Linux")),
    ("Yealink SIP-T46S 66.86.0.15", Platform("desk phone", model="Yealink SIP-T46S 66.86.0.15")),
    ("PolycomVVX-VVX_411-UA/5.9.0.9373", Platform("desk phone", model="PolycomVVX-VVX_411-UA 5.9.0.9373")),
    ("AVM FRITZ!Box 7590 154.07.57 TAL", Platform("desk phone", model="AVM FRITZ!Box 7590 154.07.57")),
    # of public captures, logs and documents
    ("n/a", Platform()),
    ("Yealink SIP-T46S 66.85.0.15", Platform("desk phone", model="Yealink SIP-T46S 66.85.0.15")),
    ("Yealink SIP-T28P 2.72.14.2 00:15:65:18:72:eb", Platform("desk phone", model="Yealink SIP-T28P 2.72.14.2")),
    ("Grandstream GXP2170 1.0.11.46", Platform("desk phone", model="Grandstream GXP2170 1.0.11.46")),
    ("Grandstream HT801 1.0.3.2", Platform("desk phone", model="Grandstream HT801 1.0.3.2")),
    (
        "Grandstream HT-503  V1.1B 1.0.10.9  chip V2.2",
        Platform("desk phone", model="Grandstream HT-503 V1.1B 1.0.10.9"),
    ),
    ("Grandstream Wave 1.2.14", Platform("app", app="Grandstream Wave 1.2.14")),
    ("Grandstream gsmeeting/webrtc_chrome 77.0.3829.0", Platform("app", app="Grandstream gsmeeting")),
    ("snomD785/10.1.84.12", Platform("desk phone", model="snomD785 10.1.84.12")),
    ("snom360/7.3.30", Platform("desk phone", model="snom360 7.3.30")),
    ("snom821/873_19_20130321", Platform("desk phone", model="snom821 873_19_20130321")),
    ("snom105-3.56p", Platform("desk phone", model="snom105 3.56p")),
    ("PolycomVVX-VVX_350-UA/5.9.5.0614", Platform("desk phone", model="PolycomVVX-VVX_350-UA 5.9.5.0614")),
    ("PolycomVVX-VVX_150-UA/6.4.1.2280_482567164887", Platform("desk phone", model="PolycomVVX-VVX_150-UA 6.4.1.2280")),
    (
        "PolycomSoundPointIP-SPIP_321-UA/4.0.15.1009",
        Platform("desk phone", model="PolycomSoundPointIP-SPIP_321-UA 4.0.15.1009"),
    ),
    ("Polycom HDX 8000 HD (Release - 2.5.0.8_ne-4035)", Platform("desk phone", model="Polycom HDX 8000")),
    ("Cisco/SPA504G-7.4.9c", Platform("desk phone", model="Cisco SPA504G 7.4.9c")),
    ("Cisco-CP-8865-3PCC/12.0.3_dcf719f39350_d4e6994b", Platform("desk phone", model="Cisco-CP-8865-3PCC 12.0.3")),
    ("Cisco-CP7960G/8.0", Platform("desk phone", model="Cisco-CP7960G 8.0")),
    ("Cisco ATA182 v.1.44", Platform("desk phone", model="Cisco ATA182 1.44")),
    ("Linksys/SPA942-6.1.5(a)", Platform("desk phone", model="Linksys SPA942 6.1.5")),
    ("Linksys/PAP2T-3.1.15(LS)", Platform("desk phone", model="Linksys PAP2T 3.1.15")),
    ("Linksys/RT31P2-2.0.10(LIc)", Platform("desk phone", model="Linksys RT31P2 2.0.10")),
    ("Obihai/OBi302-3.2.2.8680EX", Platform("desk phone", model="Obihai OBi302 3.2.2.8680EX")),
    ("Fanvil X303 2.12.18.9 0c383e63963b", Platform("desk phone", model="Fanvil X303 2.12.18.9")),
    ("Fanvil i16SV 2.4.0", Platform("desk phone", model="Fanvil i16SV 2.4.0")),
    ("Aastra 51i/2.5.1.41", Platform("desk phone", model="Aastra 51i 2.5.1.41")),
    ("Mitel-6920-SIP/6.4.0.140", Platform("desk phone", model="Mitel-6920-SIP 6.4.0.140")),
    ("Avaya one-X Deskphone 7.1.15.1.3 b4475ea2e9a0", Platform("desk phone", model="Avaya one-X Deskphone 7.1.15.1.3")),
    ("N510 IP PRO/42.258.00.000.000", Platform("desk phone", model="N510 IP PRO 42.258.00.000.000")),
    (
        "AVM FRITZ!Box Fon WLAN 7170 29.04.76 (Jul 13 2009)",
        Platform("desk phone", model="AVM FRITZ!Box Fon WLAN 7170 29.04.76"),
    ),
    ("Panasonic-KX-HDV130/02.000 (080023aabbcc)", Platform("desk phone", model="Panasonic-KX-HDV130 02.000")),
    ("Htek UC924 V2.0.4.4.43", Platform("desk phone", model="Htek UC924 2.0.4.4.43")),
    ("OpenStage_60_V3 R3.32.0", Platform("desk phone", model="OpenStage_60_V3 3.32.0")),
    ("Digium D40 1_4_0_0_57389", Platform("desk phone", model="Digium D40 1_4_0_0_57389")),
    ("Zoiper v2.10.19.5", Platform("app", app="Zoiper 2.10.19.5")),
    ("Zoiper rev.5415", Platform("app", app="Zoiper 5415")),
    ("Zoiper/5.5.10", Platform("app", app="Zoiper 5.5.10")),
    ("Zoiper for Windows 2.38 rev.16635", Platform("app", app="Zoiper for Windows 2.38", system="Windows")),
    ("MicroSIP/3.21.5", Platform("app", app="MicroSIP 3.21.5")),
    ("Bria iOS release 3.9.5 stamp 38501.38502", Platform("app", app="Bria iOS 3.9.5", system="iOS")),
    ("Bria 3 release 3.5.5 stamp 71243", Platform("app", app="Bria 3 3.5.5")),
    ("X-Lite release 4.9.8 stamp 84253", Platform("app", app="X-Lite 4.9.8")),
    ("X-Lite 4 release 4.0 stamp 58832", Platform("app", app="X-Lite 4 4.0")),
    ("X-Lite release 1006e stamp 34025", Platform("app", app="X-Lite 1006e")),
    ("eyeBeam release 1011d stamp 40820", Platform("app", app="eyeBeam 1011d")),
    ("Jitsi2.11.20200408Linux", Platform("app", app="Jitsi 2.11.20200408", system="Linux")),
    ("Jitsi2.10.5550Mac OS X", Platform("app", app="Jitsi 2.10.5550", system="macOS")),
    ("Telephone 1.6", Platform("app", app="Telephone 1.6")),
    ("Blink 0.2.5 (Windows)", Platform("app", app="Blink 0.2.5", system="Windows")),
    ("CSipSimple_greatlte-26/r2457", Platform("app", app="CSipSimple_greatlte-26 2457")),
    ("Linphone/3.6.1 (eXosip2/4.1.0)", Platform("app", app="Linphone 3.6.1")),
    (
        "PJSUA v2.10 Linux-5.4/x86_64/glibc-2.31",
        Platform("app", app="PJSUA 2.10", system="Linux", library="PJSIP 2.10"),
    ),
    ("IM-client/OMA1.0 sipML5-v1.2016.03.04", Platform("browser", library="sipML5 1.2016.03.04")),
    ("friendly-scanner", Platform("app", app="friendly-scanner")),
    ("Asterisk PBX 18.9.0", Platform("app", app="Asterisk PBX 18.9.0")),
    ("FPBX-16.0.40(18.9)", Platform("app", app="FPBX 16.0.40")),
    ("FreeSWITCH-mod_sofia/1.10.7-release~64bit", Platform("app", app="FreeSWITCH-mod_sofia 1.10.7")),
    ("Dart SIP Client v1.0.0", Platform("app", app="Dart SIP Client 1.0.0")),
    ("PhonerLite 2.94", Platform("app", app="PhonerLite 2.94")),
    ("Twinkle/1.10.2", Platform("app", app="Twinkle 1.10.2")),
    ("Ekiga/4.0.1", Platform("app", app="Ekiga 4.0.1")),
    (
        "AudioCodes-Sip-Gateway-MP-118 FXS_FXO/v.6.60A.302.003",
        Platform("desk phone", model="AudioCodes-Sip-Gateway-MP-118 FXS_FXO 6.60A.302.003"),
    ),
    ("UCCAPI/3.5.6889.0 OC/3.5.6889.0", Platform("app", app="UCCAPI 3.5.6889.0")),
    ("SIP.js/0.21.2 BB", Platform("browser", library="SIP.js 0.21.2")),
    ("TAU-2M.IP/1.14.1.527 SN/VI39047335 sofia-sip/1.12.10", Platform("desk phone", model="TAU-2M.IP 1.14.1.527")),
    ("Cisco/SPA122-1.3.5(004p_XU001)", Platform("desk phone", model="Cisco SPA122 1.3.5")),
    ("dble", Platform("app", app="dble")),
    (
        "Grandstream GXW-4008  V1.5A 1.0.16.2  chip V2.2",
        Platform("desk phone", model="Grandstream GXW-4008 V1.5A 1.0.16.2"),
    ),
    ("C530A IP/42.231.00.000.000", Platform("desk phone", model="C530A IP 42.231.00.000.000")),
    ("LinphoneIPhone/2.2.3 (belle-sip/1.3.3)", Platform("app", app="Linphone 2.2.3", system="iOS")),
    ("MP202 B 2FXS/3.0.0_build_13", Platform("desk phone", model="MP202 B 2FXS 3.0.0")),
    ("Yealink SIP-T46U", Platform("desk phone", model="Yealink SIP-T46U")),
    (
        "Linphone-Desktop/5.0.2 (mypc) macOS/13 Qt/5 LinphoneSDK/5.2.60",
        Platform("app", app="Linphone 5.0.2", system="macOS", library="LinphoneSDK 5.2.60"),
    ),
    ("Gigaset N510 IP PRO/42.258.00.000.000", Platform("desk phone", model="Gigaset N510 IP PRO 42.258.00.000.000")),
    ("Cisco IP Phone/ Rev. 1/ SIP enabled", Platform("desk phone", model="Cisco IP Phone")),
    ('Weird "UA" \\ é \t<b>x</b>', Platform("app", 'Weird "UA" \\ é')),
]


@pytest.mark.parametrize(("user_agent", "expected"), USER_AGENTS)
def test_known_user_agents(user_agent: str, expected: Platform) -> None:
    """A User-Agent is read as far as it goes: kind, app, browser, system, hardware, library."""
    assert expected == parse(user_agent)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (USER_AGENTS[1][0], "Pixel 8"),
        (USER_AGENTS[3][0], "Firefox 133.0"),
        ("SIP.js/0.21.2", "SIP.js 0.21.2"),
        ("", ""),
        ("n/a", ""),
        ("Cisco/SPA504G-7.4.9c", "Cisco SPA504G 7.4.9c"),
    ],
)
def test_name(user_agent: str, name: str) -> None:
    """A platform goes by what a person would call it: the browser, the hardware, the app."""
    assert name == parse(user_agent).name


@given(st.text(max_size=600))
def test_anything_is_read(user_agent: str) -> None:
    """Whatever a phone sends is read into texts that are no longer than it, but for the words we add."""
    for part in parse(user_agent):
        assert len(part) <= len(user_agent) + 20


@given(st.sampled_from([agent for agent, _ in USER_AGENTS]), st.text("0123456789./_-() vVrR<>", max_size=40))
def test_odd_versions_are_read(user_agent: str, tail: str) -> None:
    """A version that is none is no fault, and what is read is a part of the text or a name of ours."""
    for part in parse(user_agent + tail):
        assert len(part) <= len(user_agent + tail) + 20


@pytest.mark.parametrize(
    "part",
    [
        "1.1a",
        "1_1",
        " v1",
        "x-1",
        "a/b-",
        "  ",
        "1 1.1 ",
        "a ",
        "a/",
        "Mozilla/5.0 (",
        "1.",
        "iPad; ",
        "Version/1 ",
        "A1/",
        "-",
    ],
)
def test_long_texts_take_no_time(part: str) -> None:
    """No User-Agent of the greatest length makes a pattern search for seconds (the test's own limit is its bound)."""
    for _ in range(20):
        parse(part * (512 // len(part)))
