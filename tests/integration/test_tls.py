"""TLS to a Redis, a Sentinel and a Redis Cluster: certificates are verified, users log in, no log has a password."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import pytest

from companion.config import RedisSection
from companion.errors import UnavailableError
from companion.simulator.redis import find_free_port
from companion.store.store import open_store
from companion.times import now_ms
from tests.integration.certificates import Certificates
from tests.integration.conftest import MakeSetup, cli, message, phone_event, record_events, until
from tests.integration.redis_cluster import RedisCluster, redis_cluster
from tests.integration.redis_process import is_up, redis_process
from tests.integration.test_redis_rights import documented_rights

SERVER: Final = """
port 0
tls-port {port}
bind 127.0.0.1
dir {folder}
tls-cert-file {certificates.certificate}
tls-key-file {certificates.key}
tls-ca-cert-file {certificates.ca}
tls-auth-clients no
tls-replication yes
user companion on >{password} ~* &* +@all
"""
WATCH: Final = "sentinel monitor main 127.0.0.1 {port} 1"
PASSWORD: Final = "s/e@c:r%t"
LOGIN: Final = f"companion:{quote(PASSWORD, safe='')}@"


class Authorities(NamedTuple):
    """Hold the certificates of the servers, and those of an authority that signed none of them."""

    own: Certificates
    other: Certificates


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(*(Certificates.make(tmp_path_factory.mktemp(name)) for name in ("own", "other")))


@pytest.fixture(scope="module")
def ports(authorities: Authorities, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Run a Redis and a Sentinel that watches it; both speak TLS alone."""
    folder, server, sentinel = tmp_path_factory.mktemp("tls"), find_free_port(), find_free_port()
    with ExitStack() as stack:
        stack.enter_context(_tls(folder, server, authorities.own))
        more = WATCH.format(port=server)
        stack.enter_context(_tls(folder, sentinel, authorities.own, more, "--sentinel"))
        until(partial(is_up, f"rediss://127.0.0.1:{server}?ssl_ca_certs={authorities.own.ca}"))
        until(partial(is_up, f"rediss://127.0.0.1:{sentinel}?ssl_ca_certs={authorities.own.ca}"))
        yield server, sentinel


@contextmanager
def _tls(folder: Path, port: int, certificates: Certificates, more: str = "", *options: str) -> Iterator[None]:
    file = folder / f"tls-{port}.conf"
    text = SERVER.format(port=port, folder=folder, certificates=certificates, password=PASSWORD)
    file.write_text(text + more)
    with redis_process(folder, str(file), *options):
        yield


@pytest.fixture(scope="module")
def cluster(authorities: Authorities, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Run three masters that speak TLS with all, ask clients for a certificate, and have a user with few rights."""
    with redis_cluster(tmp_path_factory.mktemp("cluster"), replicas=0, certificates=authorities.own) as cluster:
        for server in cluster.all():
            server.call("ACL", "SETUSER", "companion", "on", f">{PASSWORD}", *documented_rights(has_timeseries=True))
        yield cluster


def certified(certificates: Certificates) -> str:
    """Return the options of a URL for a server that asks clients for a certificate."""
    return f"?ssl_ca_certs={certificates.ca}&ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"


class Place(NamedTuple):
    """Hold the URL of a server, with room for a login, and the option that trusts it."""

    url: str
    trust: str


@pytest.fixture(params=["server", "sentinel", "cluster"])
def place(
    request: pytest.FixtureRequest, ports: tuple[int, int], authorities: Authorities, cluster: RedisCluster
) -> Place:
    trust = f"?ssl_ca_certs={authorities.own.ca}"
    login = f"&sentinel_username=companion&sentinel_password={quote(PASSWORD, safe='')}"
    return {
        "server": Place(f"rediss://{{}}127.0.0.1:{ports[0]}/0", trust),
        "sentinel": Place(f"rediss+sentinel://{{}}127.0.0.1:{ports[1]}/main", trust + login),
        "cluster": Place(f"rediss+cluster://{{}}{cluster.hosts}", certified(authorities.own)),
    }[str(request.param)]


class Url(NamedTuple):
    """Name a server as Setup wants it."""

    url: str


def test_events_are_stored(make_setup: MakeSetup, place: Place) -> None:
    """A companion with a login stores events and shows them, and its log does not show the password."""
    setup = make_setup(server=Url(place.url.format(LOGIN) + place.trust), redis={"prefix": "companion:"})
    now = now_ms()
    record_events(
        setup,
        [message("E_UL_LATENCY_UPDATE", phone_event(f"phone{n}", latency=20_000), now + n, n) for n in range(20)],
    )
    assert len(setup.pages()) == setup.samples() == 20
    with setup.process("consumer") as process:
        until(lambda: setup.store.connection.call("HLEN", setup.store.keys.consumers()))
    assert PASSWORD not in process.log_file.read_text()


@pytest.mark.parametrize("is_named", [False, True])
def test_another_authority(place: Place, authorities: Authorities, *, is_named: bool) -> None:
    """A certificate that no trusted authority signed is refused, with the option that would help."""
    trust = place.trust if is_named else "?"
    wrong = trust.replace(str(authorities.own.ca), str(authorities.other.ca))
    with pytest.raises(UnavailableError) as refusal:
        open_store(RedisSection(url=place.url.format(LOGIN) + wrong))
    assert "ssl_ca_certs" in str(refusal.value) or "their certificates" in str(refusal.value)
    assert quote(PASSWORD, safe="") not in str(refusal.value)


def test_a_wrong_password(place: Place) -> None:
    """A wrong password is refused with what to set, and is not shown."""
    url = place.url.format("companion:wr0ng@") + place.trust
    with pytest.raises(UnavailableError, match="set the user name and the password") as refusal:
        open_store(RedisSection(url=url))
    assert "wr0ng" not in str(refusal.value)


def test_no_secret_is_told(cluster: RedisCluster, authorities: Authorities) -> None:
    """A companion that is refused says so without the password."""
    url = f"rediss+cluster://companion:wr0ng@{cluster.hosts}{certified(authorities.own)}"
    done = cli("run", "consumer", COMPANION_REDIS__URL=url)
    assert "set the user name and the password" in done.stderr
    assert "wr0ng" not in done.stdout + done.stderr


def test_a_client_without_certificate(cluster: RedisCluster, authorities: Authorities) -> None:
    """A Cluster that asks clients for a certificate gets one, or the error says which options are missing."""
    with pytest.raises(UnavailableError, match="ssl_certfile and ssl_keyfile of yours"):
        open_store(RedisSection(url=f"rediss+cluster://{LOGIN}{cluster.hosts}?ssl_ca_certs={authorities.own.ca}"))


def test_no_tls_spoken(place: Place) -> None:
    """A URL without TLS leads nowhere, and the error says that the port may want it."""
    with pytest.raises(UnavailableError, match=r"want rediss|wants TLS|look at the Sentinels"):
        open_store(RedisSection(url=place.url.format(LOGIN).replace("rediss", "redis")))
