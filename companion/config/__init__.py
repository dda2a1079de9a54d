"""config.toml and the environment, checked, as frozen models.

Every value has a default; `COMPANION_SECTION__KEY` in the environment goes before the file. What is unknown, of the
wrong type or impossible together raises ConfigError: a line for each problem, with the key and where it came from.
"""

import contextlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from companion import quality
from companion.errors import ConfigError
from companion.tokens.access import Token
from companion.tokens.call import MAX_MINUTES, SECRET_CHARACTERS

ENV_PREFIX = "COMPANION_"
DEFAULT_FILE = Path("config.toml")
SESSION_KEY_CHARACTERS = 32


def _check_zeromq(endpoint: str, name: str) -> None:
    if not endpoint.startswith(("tcp://", "ipc://", "inproc://")):
        raise ValueError(f"{name} = {endpoint!r} is no ZeroMQ endpoint, such as tcp://127.0.0.1:5555")


def _loopback(endpoint: str) -> bool:
    """Whether what is said there stays on this machine."""
    if not endpoint.startswith("tcp://"):
        return True
    host = urlsplit(endpoint).hostname or "*"
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """One table of config.toml. A secret `name` may also be given as `name_file`, a file that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name in [
            name for name in values if name.endswith("_file") and name.removesuffix("_file") in cls.model_fields
        ]:
            secret = name.removesuffix("_file")
            if secret in values:
                raise ValueError(f"{secret} and {name} are both given: keep one")
            read[secret] = _read_secret(name, read.pop(name))
        return read


def _read_secret(name: str, path: Any) -> str:
    try:
        return Path(str(path)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: {path} can not be read: {getattr(error, 'strerror', None) or error}") from error


class RedisSection(Section):
    url: str = Field("redis://127.0.0.1:6379/0", repr=False)
    prefix: str = "companion:"
    series: Literal["auto", "timeseries", "streams"] = "auto"
    retention_days: int = Field(7, ge=1, le=366)
    shards: int = Field(1, ge=1, le=4096)


class BridgeSection(Section):
    node: str = Field("opensips", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    datagram: str = "udp:127.0.0.1:5066"
    stream: str = ""
    publish: str = "tcp://127.0.0.1:5555"
    receive_buffer_bytes: int = Field(8 << 20, ge=65536, le=1 << 30)
    high_water_mark: int = Field(50_000, ge=1)
    curve_secret_key: str = Field("", repr=False)
    curve_clients: tuple[str, ...] = ()
    allow_plaintext: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.datagram and not self.stream:
            raise ValueError("datagram and stream are both empty: the bridge would hear nothing; set one of them")
        _check_zeromq(self.publish, "publish")
        plain = not self.curve_secret_key and not self.allow_plaintext
        if plain and not _loopback(self.publish):
            raise ValueError(
                f"publish = {self.publish!r} leaves this machine in clear text: "
                "set curve_secret_key_file, or allow_plaintext = true"
            )
        if self.curve_secret_key and not self.curve_clients:
            raise ValueError("curve_secret_key needs curve_clients, the public keys of those who may subscribe")
        return self


class ConsumerSection(Section):
    subscribe: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    batch_size: int = Field(2048, ge=1, le=100_000)
    batch_ms: int = Field(100, ge=1, le=10_000)
    max_pending: int = Field(200_000, ge=1)
    max_devices: int = Field(1_000_000, ge=1)
    curve_server_key: str = ""
    curve_secret_key: str = Field("", repr=False)
    allow_plaintext: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.subscribe:
            raise ValueError("subscribe is empty: name at least one bridge")
        for endpoint in self.subscribe:
            _check_zeromq(endpoint, "subscribe")
        if bool(self.curve_server_key) != bool(self.curve_secret_key):
            raise ValueError("curve_server_key and curve_secret_key go together")
        far = [endpoint for endpoint in self.subscribe if not _loopback(endpoint)]
        if far and not self.curve_server_key and not self.allow_plaintext:
            raise ValueError(
                f"subscribe = {far[0]!r} is read in clear text: "
                "set curve_server_key and curve_secret_key_file, or allow_plaintext = true"
            )
        return self


class PingsSection(Section):
    interval: float = Field(120, gt=0, le=86_400)
    lost_after: int = Field(3, ge=1, le=1000)

    @property
    def interval_ms(self) -> int:
        return round(self.interval * 1000)


_PROBE_URL = re.compile(r"udp:(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):[0-9]{1,5}")


class OpensipsSection(Section):
    """One OpenSIPS: `node` as its bridge calls it, `cluster` when several share usrloc, `mi_url` of its mi_http.

    `mi_user` and `mi_password` for Basic auth, `mi_ca_file` (PEM) for a private CA, `mi_timeout` in seconds for a call.
    `probe_url` is its mi_datagram, through which phones are asked before a removal.
    `subscribe` to its events through MI; `events_to` is where it sends them, when not to [bridge]'s own address.
    """

    node: str = Field("opensips", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    cluster: str = ""
    mi_url: str = "http://127.0.0.1:8888/mi"
    mi_user: str = ""
    mi_password: str = Field("", repr=False)
    mi_ca_file: Path | None = None
    mi_timeout: float = Field(5.0, gt=0, le=60)
    probe_url: str = ""
    subscribe: bool = False
    events_to: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.probe_url and not _PROBE_URL.fullmatch(self.probe_url):
            raise ValueError(f"probe_url = {self.probe_url!r} is not udp:HOST:PORT")
        if urlsplit(self.mi_url).scheme not in ("http", "https"):
            raise ValueError(f"mi_url = {self.mi_url!r} is no http:// or https:// URL")
        return self


class ReconcileSection(Section):
    enabled: bool = True
    every_hours: float = Field(6, gt=0, le=168)

    @property
    def every_ms(self) -> int:
        return round(self.every_hours * 3_600_000)


class Rule(Section):
    """What to do with the contacts it is for: those of all that it names (patterns as in a shell, `*` and `?`)."""

    domain: str = "*"
    aor: str = "*"
    user_agent: str = "*"
    node: str = "*"
    action: Literal["auto", "push", "remove", "keep"]


class RemediationSection(Section):
    mode: Literal["observe", "enforce"] = "observe"
    sweep_interval: float = Field(15, gt=0, le=3600)
    warm_up: float = Field(0, ge=0)
    disconnect_grace: float = Field(15, ge=0)
    ghost_grace: float = Field(10, ge=0)
    breaker_candidates: int = Field(50, ge=0)
    breaker_share: float = Field(0.2, ge=0, le=1)
    breaker_calm: float = Field(60, ge=0)
    node_lost_after: float = Field(3600, ge=60)
    suspects_per_hour: int = Field(5, ge=0)
    max_per_sweep: int = Field(200, ge=1)
    max_per_minute: int = Field(400, ge=1)
    push_event: str = Field("E_COMPANION_PUSH", pattern=r"^E_[A-Z0-9_]{1,60}$")
    push_grace: float = Field(30, gt=0)
    push_attempts: int = Field(4, ge=1, le=100)
    push_per_day: int = Field(24, ge=1)
    push_fallback: Literal["keep", "remove"] = "keep"
    push_attr: str = ""
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            with warnings.catch_warnings(action="error"):
                re.compile(self.push_attr)
        except (re.error, Warning) as error:
            raise ValueError(f"push_attr is no regular expression: {error}") from None
        return self


class ListenSection(Section):
    """A table whose `listen` is where a socket is to be: HOST:PORT."""

    listen: str

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def check_listen(self) -> None:
        """Raises ValueError for what is no HOST:PORT."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"listen = {self.listen!r} is not HOST:PORT")

    @property
    def on_loopback(self) -> bool:
        return _loopback(f"tcp://{self.listen}")


class MetricsSection(ListenSection):
    """Where a process tells what it counts itself, to whoever can reach it; `listen` "" = nowhere."""

    listen: str = ""
    allow_anybody: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.listen:
            return self
        self.check_listen()
        if not self.on_loopback and not self.allow_anybody:
            raise ValueError(
                f"listen = {self.listen!r} is not on loopback, and whoever gets there may read: "
                "let [api] serve /metrics with a token, or set allow_anybody = true"
            )
        return self


class ApiSection(ListenSection):
    """`tokens`: lines NAME:SCOPE:SHA256HEX. `hosts`: by which names one gets here, `*` and `?` as in a shell."""

    listen: str = "127.0.0.1:8780"
    dashboard: bool = True
    tokens: tuple[str, ...] = Field((), repr=False)
    open_reads: bool = True
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    session_key: str = Field("", repr=False)
    secure_cookie: Literal["auto", "always", "never"] = "auto"

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_lines(cls, tokens: Any) -> Any:
        """What tokens_file holds: a token a line; empty lines and those with a # say nothing."""
        if not isinstance(tokens, str):
            return tokens
        lines = (line.strip() for line in tokens.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        names = set()
        for number, line in enumerate(lines, 1):
            try:
                name = Token.parse(line).name
            except ValueError as error:
                raise ValueError(f"number {number} {error}") from None
            if name in names:
                raise ValueError(f"{name} is there twice")
            names.add(name)
        return lines

    @field_validator("proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{error}: name the proxies by address, such as 10.0.0.2 or 10.0.0.0/24") from None
        return proxies

    @field_validator("session_key")
    @classmethod
    def _check_session_key(cls, key: str) -> str:
        if key and len(key) < SESSION_KEY_CHARACTERS:
            raise ValueError(f"is shorter than {SESSION_KEY_CHARACTERS} characters: `openssl rand -hex 32` makes one")
        return key

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_listen()
        if not self.tokens and not self.on_loopback:
            raise ValueError(
                f"listen = {self.listen!r} is not on loopback, and there are no tokens to keep strangers out: "
                "`companion token new NAME` makes one for `tokens`"
            )
        return self


_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

_UNSAID = {"http": ":80", "https": ":443"}
"""Ports that browsers do not say."""


class MediaSection(Section):
    """`secret` signs tokens; without one no report is taken. `origins`: whose pages may send, as browsers say it."""

    secret: str = Field("", repr=False)
    token_minutes: int = Field(60, ge=1, le=MAX_MINUTES)
    origins: tuple[str, ...] = ()
    full_addresses: bool = False
    reports_per_minute: int = Field(60, ge=1, le=6000)
    max_calls: int = Field(20_000, ge=1, le=1_000_000)
    advice: bool = False
    advice_min_bps: int = Field(16_000, ge=6000, le=10_000_000)
    advice_max_bps: int = Field(64_000, ge=6000, le=10_000_000)
    advice_loss_percent: float = Field(5, gt=0, le=100)
    advice_rtt_ms: float = Field(400, gt=0, le=60_000)
    advice_after: float = Field(10, ge=1, le=3600)
    advice_recover_after: float = Field(30, ge=1, le=3600)

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: str) -> str:
        if secret and len(secret) < SECRET_CHARACTERS:
            raise ValueError(f"is shorter than {SECRET_CHARACTERS} characters: `openssl rand -hex 32` makes one")
        return secret

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin) or origin.endswith(_UNSAID[origin.partition(":")[0]]):
                raise ValueError(f"{origin!r} is no origin as browsers say it, such as https://phone.example.com")
        return origins

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.advice_min_bps > self.advice_max_bps:
            raise ValueError("advice_min_bps is more than advice_max_bps")
        return self


class QualitySection(Section):
    excellent: int = Field(100, gt=0)
    good: int = Field(150, gt=0)
    fair: int = Field(200, gt=0)
    poor: int = Field(400, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.excellent < self.good < self.fair < self.poor:
            raise ValueError("the bounds must rise: excellent < good < fair < poor")
        return self

    @property
    def bounds(self) -> quality.Bounds:
        return quality.Bounds(self.excellent, self.good, self.fair, self.poor)


class LogSection(Section):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    redis: RedisSection = RedisSection()
    bridge: BridgeSection = BridgeSection()
    consumer: ConsumerSection = ConsumerSection()
    pings: PingsSection = PingsSection()
    opensips: tuple[OpensipsSection, ...] = ()
    reconcile: ReconcileSection = ReconcileSection()
    remediation: RemediationSection = RemediationSection()
    api: ApiSection = ApiSection()
    metrics: MetricsSection = MetricsSection()
    media: MediaSection = MediaSection()
    quality: QualitySection = QualitySection()
    log: LogSection = LogSection()

    @model_validator(mode="after")
    def _check(self) -> Self:
        nodes = [table.node for table in self.opensips]
        twice = {node for node in nodes if nodes.count(node) > 1}
        if twice:
            raise ValueError(f"opensips: node {min(twice)!r} is there twice")
        return self

    def cluster(self, node: str) -> str:
        """The cluster a node belongs to: its own name when nothing else is said."""
        return next((table.cluster for table in self.opensips if table.node == node and table.cluster), node)


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file (None: `./config.toml`, which need not be there) and the environment (None: os.environ)."""
    file = path or DEFAULT_FILE
    tables = _read_toml(file) if path or file.exists() else {}
    from_environment = _read_environment(os.environ if environment is None else environment)
    for (section, key), value in from_environment.items():
        if key:
            table = tables.setdefault(section, {})
            if isinstance(table, dict):
                _set(table, key, value)
        else:
            tables[section] = value
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, file, from_environment))) from None


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    """Let the environment win over the file, also where one gives a secret and the other the file that holds it."""
    table.pop(key.removesuffix("_file") if key.endswith("_file") else f"{key}_file", None)
    table[key] = value


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomli.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _read_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], Any]:
    read: dict[tuple[str, str], Any] = {}
    for name, text in environment.items():
        if name.startswith(ENV_PREFIX):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            read[section, key] = _value(name, section, key, text)
    return read


def _value(name: str, section: str, key: str, text: str) -> Any:
    """Lists are given as `a, b` or as JSON, whole sections as JSON."""
    field = Config.model_fields.get(section)
    inner = getattr(field.annotation, "model_fields", {}).get(key) if field else None
    if inner is not None and "tuple" in str(inner.annotation):
        return _read_list(text)
    if field is None or key:
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(f"{name}: is not JSON, as a whole section must be in the environment") from None


def _read_list(text: str) -> list[Any]:
    with contextlib.suppress(ValueError):
        read = json.loads(text)
        if isinstance(read, list):
            return read
    return [part.strip() for part in text.split(",") if part.strip()]


def _explain(error: ValidationError, file: Path, environment: Mapping[tuple[str, str], Any]) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = [str(part) for part in problem["loc"]]
        section, key = [*where, "", ""][:2]
        named = {(section, key), (section, "")}
        said = next((name for name in environment if name in named or (not key and name[0] == section)), None)
        if said:
            place = ENV_PREFIX + "__".join(filter(None, said)).upper()
        else:
            place = f"{file}: [{section}] {'.'.join(where[1:])}".rstrip() if section else str(file)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "unknown key" if key else "unknown section"
        lines.append(f"{place}: {text}")
    return lines
