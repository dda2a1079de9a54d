"""Check that config.toml and the environment are read, and that errors are explained with their place."""

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import config
from companion.config import Config
from companion.errors import ConfigError
from companion.http.reports.intake import advice_policy
from companion.media.advice import Policy

KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
BRACKET_KEY = "[" + KEY[1:]
TOKEN = "ann:operate:" + "0f" * 32
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Read a file of this text, with this environment."""

    def load(text: str = "", **environment: str) -> Config:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return config.load(file, environment)

    return load


def refusal(load: Load, text: str = "", **environment: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(text, **environment)
    return str(refused.value)


def test_defaults(load: Load) -> None:
    """Everything has a default, and those do no harm: loopback only, observe only."""
    read = load()
    assert read == Config()
    assert (read.bridge.datagram, read.bridge.publish) == ("udp:127.0.0.1:5066", "tcp://127.0.0.1:5555")
    assert (read.remediation.mode, read.redis.retention_days, read.api.host) == ("observe", 7, "127.0.0.1")


def test_file(load: Load) -> None:
    """What the file says, is so."""
    read = load('[pings]\ninterval = 5\nlost_after = 4\n[[opensips]]\nnode = "a"\ncluster = "c"\n')
    assert (read.pings.interval_ms, read.pings.lost_after, read.cluster("a")) == (5000, 4, "c")


def test_cluster_of_a_node(load: Load) -> None:
    """A node that is in no cluster is its own."""
    read = load('[[opensips]]\nnode = "a"\n')
    assert [read.cluster("a"), read.cluster("b")] == ["a", "b"]


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a config.toml the defaults hold; a file that was asked for must be there."""
    monkeypatch.chdir(tmp_path)
    assert Config() == config.load(None, {})
    with pytest.raises(ConfigError, match=r"elsewhere\.toml: No such file"):
        config.load(tmp_path / "elsewhere.toml", {})


def test_environment_goes_before_the_file(load: Load) -> None:
    """COMPANION_SECTION__KEY wins; what is not of the companion is not looked at."""
    read = load("[pings]\ninterval = 5\nlost_after = 4\n", COMPANION_PINGS__INTERVAL="7.5", PINGS__LOST_AFTER="9")
    assert (read.pings.interval_ms, read.pings.lost_after) == (7500, 4)


@pytest.mark.parametrize(
    ("name", "text", "key", "expected"),
    [
        ("COMPANION_REDIS__URL", "redis://r:6379/1", "redis.url", "redis://r:6379/1"),
        ("COMPANION_REDIS__SHARDS", "16", "redis.shards", 16),
        ("COMPANION_BRIDGE__ALLOW_PLAINTEXT", "true", "bridge.allow_plaintext", True),
        ("COMPANION_BRIDGE__CURVE_CLIENTS", "a, b", "bridge.curve_clients", ("a", "b")),
        ("COMPANION_BRIDGE__CURVE_CLIENTS", '["a", "b"]', "bridge.curve_clients", ("a", "b")),
        ("COMPANION_BRIDGE__CURVE_CLIENTS", f"{BRACKET_KEY}, {KEY}", "bridge.curve_clients", (BRACKET_KEY, KEY)),
        ("COMPANION_BRIDGE__CURVE_CLIENTS", "", "bridge.curve_clients", ()),
        ("COMPANION_BRIDGE__STREAM", "", "bridge.stream", ""),
        ("COMPANION_API__LISTEN", "[::1]:8780", "api.listen", "[::1]:8780"),
        ("COMPANION_PINGS", '{"interval": 9}', "pings.interval", 9),
        ("companion_pings", '{"interval": 9}', "pings.interval", 120),
    ],
)
def test_environment_values(load: Load, name: str, text: str, key: str, expected: Any) -> None:
    """Texts are taken as they are, lists as `a, b` or JSON, sections as JSON; a bracket alone is no JSON."""
    assert expected == attrgetter(key)(load(**{name: text}))


def test_keys_that_begin_with_a_bracket(load: Load) -> None:
    """One CURVE key in eighty-five begins with a bracket."""
    read = load(COMPANION_CONSUMER__CURVE_SERVER_KEY=BRACKET_KEY, COMPANION_CONSUMER__CURVE_SECRET_KEY=BRACKET_KEY)
    assert (read.consumer.curve_server_key, read.consumer.curve_secret_key) == (BRACKET_KEY, BRACKET_KEY)


def test_rabbitmq(load: Load, tmp_path: Path) -> None:
    """URLs of RabbitMQ are read from files, and shown nowhere."""
    file = tmp_path / "urls"
    file.write_text("amqps://u:secret@rabbit/voip\ntcp://127.0.0.1:5555\n")
    read = load(f'[consumer]\nsubscribe_file = "{file}"\n[bridge]\npublish = "amqp://u:secret@127.0.0.1"\n')
    assert read.consumer.subscribe == ("amqps://u:secret@rabbit/voip", "tcp://127.0.0.1:5555")
    assert "secret" not in repr(read)


def test_nodes_from_the_environment(load: Load) -> None:
    """Several OpenSIPS are named in the environment as JSON."""
    nodes = [{"node": "a", "cluster": "c"}, {"node": "b", "cluster": "c"}]
    read = load('[[opensips]]\nnode = "x"\n', COMPANION_OPENSIPS=json.dumps(nodes))
    assert [table.node for table in read.opensips] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("[pings]\nintervall = 5\n", "[pings] intervall: unknown key"),
        ("[ping]\ninterval = 5\n", "[ping]: unknown section"),
        ("[pings]\ninterval = 0\n", "[pings] interval: "),
        ("[pings]\ninterval = nan\n", "[pings] interval: "),
        ('[redis]\nseries = "sql"\n', "[redis] series: "),
        ('[bridge]\nnode = "a b"\n', "[bridge] node: "),
        (
            '[bridge]\ndatagram = ""\n[[opensips]]\nnode = "a"\nmi_url = "http://a/mi"\nsubscribe = true\n',
            "there is no address for its events: set events_to",
        ),
        ('[bridge]\ndatagram = ""\nhep = "udp:127.0.0.1:9060"\n', "hep needs a bridge"),
        ('[bridge]\nhep = "127.0.0.1:9060"\n', "hep: not an address"),
        ('[bridge]\nhep = "tls:0.0.0.0:9060"\n', "hep: not an address"),
        ('[bridge]\nhep = "udp:0.0.0.0:9060"\n', "is not on loopback, and anybody who reaches it may forge messages"),
        ('[bridge]\nhep = "tcp:[::]:9060"\n', "is not on loopback, and anybody who reaches it may forge messages"),
        ('[bridge]\npublish = "127.0.0.1:5555"\n', "is not an endpoint of ZeroMQ"),
        (
            '[bridge]\npublish = "amqp://u:p@rabbit/voip"\n',
            "'amqp://u:***@rabbit/voip' leaves this machine in clear text",
        ),
        ('[bridge]\npublish = "amqp:///voip"\n', "names no host"),
        ('[consumer]\nsubscribe = ["http://u:p@rabbit"]\n', "nor of RabbitMQ"),
        ('[consumer]\nsubscribe = ["amqp://u:p@rabbit"]\n', "read in clear text: use amqps://"),
        ('[bridge]\npublish = "tcp://*:5555"\n', "leaves this machine in clear text"),
        ('[bridge]\npublish = "tcp://0.0.0.0:5555"\n', "leaves this machine in clear text"),
        ('[bridge]\npublish = "tcp://eth0:5555"\n', "leaves this machine in clear text"),
        ('[bridge]\npublish = "tcp://[::]:5555"\n', "leaves this machine in clear text"),
        ('[bridge]\npublish = "tcp://[::1:5555"\n', "[bridge]: "),
        ('[bridge]\ncurve_secret_key = "x"\n', "needs curve_clients"),
        ('[consumer]\nsubscribe = ["tcp://10.0.0.1:5555"]\n', "read in clear text"),
        ('[consumer]\ncurve_server_key = "x"\n', "need each other"),
        ('[[opensips]]\nmi_url = "ftp://h"\n', "not an http:// or https:// URL"),
        ('[[opensips]]\nnode = "a"\n[[opensips]]\nnode = "a"\n', "node 'a' is there twice"),
        ("[quality]\nexcellent = 150\n", "the bounds must rise"),
        ('[api]\nlisten = "8780"\n', "is not HOST:PORT"),
        ('[api]\nlisten = "127.0.0.1:65536"\n', "is not HOST:PORT"),
        ('[api]\nlisten = "127.0.0.1:x"\n', "is not HOST:PORT"),
        ('[api]\nlisten = "0.0.0.0:8780"\n', "is not on loopback, and there are no tokens"),
        ('[api]\nlisten = "companion.example.com:8780"\n', "is not on loopback, and there are no tokens"),
        ('[api]\ntokens = ["hush"]\n', "[api] tokens: number 1 is not NAME:SCOPE:SHA256HEX"),
        (f'[api]\ntokens = ["{TOKEN}", "{TOKEN}"]\n', "[api] tokens: ann is there twice"),
        ('[api]\nproxies = ["proxy"]\n', "[api] proxies: 'proxy' does not appear to be an IPv4 or IPv6 network"),
        ('[media]\nsecret = "short"\n', "[media] secret: is shorter than 32 characters"),
        ('[media]\norigins = ["*"]\n', "is not an origin as browsers write it"),
        ('[media]\norigins = ["phone.example.com"]\n', "is not an origin as browsers write it"),
        ('[media]\norigins = ["https://phone.example.com/"]\n', "is not an origin as browsers write it"),
        ('[media]\norigins = ["https://Phone.example.com"]\n', "is not an origin as browsers write it"),
        ('[media]\norigins = ["https://phone.example.com:443"]\n', "is not an origin as browsers write it"),
        ("[media]\ntoken_minutes = 1441\n", "[media] token_minutes: "),
        ("[media]\nadvice_min_bps = 64001\n", "advice_min_bps is more than advice_max_bps"),
        ('[api]\nsession_key = "short"\n', "[api] session_key: is shorter than 32 characters"),
        ('[api]\nsecure_cookie = "perhaps"\n', "[api] secure_cookie: "),
        ('[metrics]\nlisten = "8781"\n', "[metrics]: listen = '8781' is not HOST:PORT"),
        ('[metrics]\nlisten = "0.0.0.0:8781"\n', "[metrics]: listen = '0.0.0.0:8781' is not on loopback"),
        ('[metrics]\nlisten = "sip1:8781"\n', "or set allow_anybody = true"),
        ("redis = 5\n", "[redis]: "),
        ("[pings\n", "config.toml: "),
    ],
)
def test_wrong(load: Load, text: str, fragment: str) -> None:
    """What can not be meant ends the start, and the line says where it is."""
    message = refusal(load, text)
    assert fragment in message
    assert "config.toml" in message


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:1", "tcp://127.8.8.8:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///x", "inproc://x"],
)
def test_loopback_needs_no_keys(load: Load, endpoint: str) -> None:
    """On this machine the bus may speak in clear text."""
    read = load(f'[bridge]\npublish = "{endpoint}"\n[consumer]\nsubscribe = ["{endpoint}"]\n')
    assert (endpoint, (endpoint,)) == (read.bridge.publish, read.consumer.subscribe)


def test_beyond_loopback(load: Load) -> None:
    """The bus leaves the machine with keys, or when somebody said in so many words that it may."""
    load('[bridge]\npublish = "tcp://*:5555"\ncurve_secret_key = "x"\ncurve_clients = ["y"]\n')
    load('[bridge]\npublish = "tcp://*:5555"\nallow_plaintext = true\n')
    load('[consumer]\nsubscribe = ["tcp://10.0.0.1:1"]\ncurve_secret_key = "x"\ncurve_server_key = "y"\n')
    load('[consumer]\nsubscribe = ["tcp://10.0.0.1:1"]\nallow_plaintext = true\n')


def test_api_beyond_loopback(load: Load) -> None:
    """With a token the API may be asked from elsewhere."""
    assert load(f'[api]\nlisten = "0.0.0.0:8780"\ntokens = ["{TOKEN}"]\n').api.host == "0.0.0.0"
    assert load(COMPANION_API__LISTEN="[::]:8780", COMPANION_API__TOKENS=TOKEN).api.tokens == (TOKEN,)


def test_metrics_beyond_loopback(load: Load) -> None:
    """Metrics without a token leave the machine only when somebody said in so many words that they may."""
    assert load('[metrics]\nlisten = "[::1]:8781"\n').metrics.host == "::1"
    assert load('[metrics]\nlisten = "10.0.0.1:8781"\nallow_anybody = true\n').metrics.port == 8781


def test_tokens_in_a_file(load: Load, tmp_path: Path) -> None:
    """Tokens may be in a file of their own, a line each, with remarks; in no error or repr is one of them told."""
    file = tmp_path / "tokens"
    file.write_text(f"# ours\n\n{TOKEN}\n  bob:read:{'1' * 64}  \n", encoding="utf-8")
    read = load(f'[api]\ntokens_file = "{file}"\n')
    assert read.api.tokens == (TOKEN, f"bob:read:{'1' * 64}")
    assert TOKEN not in repr(read)
    file.write_text(f"{TOKEN}\nhush\n", encoding="utf-8")
    message = refusal(load, f'[api]\ntokens_file = "{file}"\n')
    assert "[api] tokens: number 2 is not" in message
    assert "hush" not in message
    assert TOKEN not in message


def test_all_mistakes_at_once(load: Load) -> None:
    """Each mistake has its line, with the name of the variable where the environment made it."""
    message = refusal(load, "[pings]\ninterval = 0\n", COMPANION_REDIS__SHARDS="-1", COMPANION_REDIS__COLOUR="red")
    places = [Path(line.partition(": ")[0]).name for line in message.splitlines()]
    assert sorted(places) == ["COMPANION_REDIS__COLOUR", "COMPANION_REDIS__SHARDS", "config.toml"]


def test_wrong_environment(load: Load) -> None:
    """A section in the environment must be JSON, and a variable that nothing reads is a mistake."""
    assert "COMPANION_PINGS: is not JSON" in refusal(load, COMPANION_PINGS="[1")
    assert "COMPANION_NOTHING__X: unknown section" in refusal(load, COMPANION_NOTHING__X="1")
    assert "COMPANION_NOTHING: unknown section" in refusal(load, COMPANION_NOTHING="1")


NESTED = {
    "a list": lambda depth: "[" * depth + "]" * depth,
    "a table": lambda depth: "{a = " * depth + "1" + "}" * depth,
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("key", ["top", "[redis]\nurl", "[api]\ntokens", "[api]\nsession_key_file", "[redis]\nshards"])
@pytest.mark.parametrize("depth", [400, 100_000])
def test_deep_values(load: Load, depth: int, key: str, kind: str) -> None:
    """A value that is nested however deep, at whatever key, is a mistake that names the file, not a traceback."""
    assert "config.toml: " in refusal(load, f"{key} = {NESTED[kind](depth)}\n")


@pytest.mark.parametrize("depth", [400, 100_000])
@pytest.mark.parametrize("text", ["[{}]\n", "[[opensips]]\n{} = 1\n", "{} = 1\n"])
def test_deep_names(load: Load, text: str, depth: int) -> None:
    """The name of a table or key may not have any number of parts either."""
    assert "config.toml: " in refusal(load, text.format(".".join(["a"] * depth)))


@pytest.mark.parametrize(
    "name", ["COMPANION_REDIS", "COMPANION_OPENSIPS", "COMPANION_API__TOKENS", "COMPANION_API__HOSTS"]
)
def test_deep_environment(load: Load, name: str) -> None:
    """Nor may a value of the environment be nested deeply: the message names its variable."""
    for depth in (400, 100_000):
        assert refusal(load, **{name: "[" * depth + "]" * depth}).startswith(name)


def test_secret_in_a_file(load: Load, tmp_path: Path) -> None:
    """A secret may be in a file of its own; the environment's goes before the file's, in either form."""
    secret = tmp_path / "secret"
    secret.write_text("hush\n", encoding="utf-8")
    text = f'[bridge]\ncurve_secret_key_file = "{secret}"\ncurve_clients = ["y"]\n'
    assert load(text).bridge.curve_secret_key == "hush"
    assert load(text, COMPANION_BRIDGE__CURVE_SECRET_KEY="loud").bridge.curve_secret_key == "loud"
    plain = '[bridge]\ncurve_secret_key = "loud"\ncurve_clients = ["y"]\n'
    assert load(plain, COMPANION_BRIDGE__CURVE_SECRET_KEY_FILE=str(secret)).bridge.curve_secret_key == "hush"


def test_secret_file_trouble(load: Load, tmp_path: Path) -> None:
    """A secret given twice, or in a file that can not be read, is a mistake."""
    missing = tmp_path / "missing"
    both = f'[bridge]\ncurve_secret_key = "x"\ncurve_secret_key_file = "{missing}"\ncurve_clients = ["y"]\n'
    assert "both given" in refusal(load, both)
    assert "can not be read: No such file" in refusal(load, f'[bridge]\ncurve_secret_key_file = "{missing}"\n')


def test_secrets_are_not_shown(load: Load) -> None:
    """No error and no repr tells a secret."""
    url, key = "redis://:hush@r:6379", "hush-key"
    message = refusal(load, f'[redis]\nurl = "{url}"\nshards = -1\n[bridge]\ncurve_secret_key = "{key}"\n')
    read = load(f'[redis]\nurl = "{url}"\n[bridge]\ncurve_secret_key = "{key}"\ncurve_clients = ["y"]\n')
    assert "hush" not in message + repr(read)


def test_frozen(load: Load) -> None:
    """What was read stays as it was read."""
    with pytest.raises(ValueError, match="frozen"):
        load().pings.lost_after = 9  # type: ignore[misc]


names = st.sampled_from(
    [
        f"COMPANION_{section}__{key}".upper()
        for section, field in Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]
) | st.text("COMPANION_PINGSREDIS").map("COMPANION_".__add__)
environments = st.dictionaries(
    names, st.text() | st.sampled_from(["[", "[]", "{}", "1", "nan", "a, b", "[[1]]"]), max_size=3
)


@given(environments)
def test_any_environment(environment: dict[str, str]) -> None:
    """Any environment gives a configuration, or a ConfigError with a line to read."""
    try:
        config.load(Path("/dev/null"), environment)
    except ConfigError as refused:
        assert str(refused)  # noqa: PT017 - not raising is fine too


def test_whether_pages_are_advised(load: Load) -> None:
    """Pages are advised by the bounds of the configuration, and not at all unless it says so."""
    assert advice_policy(load().media) is None
    policy = advice_policy(load("[media]\nadvice = true\nadvice_loss_percent = 3\n").media)
    assert policy == Policy(loss_percent=3)


def test_origins(load: Load) -> None:
    """Origins are taken with and without a port, by name or address."""
    origins = ("https://phone.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443", "http://192.0.2.1")
    assert load(COMPANION_MEDIA__ORIGINS=", ".join(origins)).media.origins == origins
