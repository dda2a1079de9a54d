"""Dockerfile, compose.yaml, .env.example and the systemd unit agree with the code and with each other."""

import configparser
import re
from pathlib import Path

import pytest
import tomli

from companion.config import ApiSection, Config, load
from companion.errors import ConfigError
from companion.services.scheduler import END_SECONDS
from tests.release.versions import find_version, find_versions

PROJECT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def service(name: str) -> str:
    """The lines of one service of compose.yaml."""
    match = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", read("compose.yaml"), re.MULTILINE)
    assert match, f"compose.yaml has no service {name}"
    return match[1]


@pytest.fixture
def unit() -> configparser.SectionProxy:
    """The [Service] section of the systemd unit; of keys that are there twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PROJECT / "packaging/companion.service")
    return parser["Service"]


def test_one_version() -> None:
    """All files that name the version name the same one."""
    wrong = {name: versions for name, versions in find_versions().items() if set(versions) != {find_version()}}
    assert wrong == {}


def test_the_image_has_a_python_that_will_do() -> None:
    """The Dockerfile's Python is one that pyproject.toml allows."""
    least = tomli.loads(read("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    match = re.search(r"^ARG PYTHON_TAG=(\d+)\.(\d+)-slim", read("Dockerfile"), re.MULTILINE)
    assert match
    assert tuple(map(int, match.groups())) >= tuple(map(int, least.split(".")))


def test_the_image_does_not_run_as_root() -> None:
    """The last user of the Dockerfile is a number other than 0: an engine may insist on one it can see."""
    user, group = re.findall(r"^USER (\d+):(\d+)$", read("Dockerfile"), re.MULTILINE)[-1]
    assert 0 not in (int(user), int(group))


def test_the_image_is_checked_where_it_answers() -> None:
    """The Dockerfile's health check asks the API's default address."""
    api = ApiSection()
    assert f"HTTPConnection('{api.host}', {api.port}," in read("Dockerfile")


def test_compose_takes_what_the_example_tells() -> None:
    """Every variable of compose.yaml is in .env.example with the default it has, and none beside."""
    variables = set(VARIABLE.findall(read("compose.yaml")))
    example = set(re.findall(r"^(\w+)=(.*)$", read(".env.example"), re.MULTILINE))
    assert example == variables


def test_compose_configures_a_companion() -> None:
    """The environment compose.yaml gives is a configuration: its node is the one MI is asked of."""
    lines = re.findall(r"^      (COMPANION_\w+): (.+)$", VARIABLE.sub(r"\2", service("companion")), re.MULTILINE)
    settings = load(PROJECT / "config.toml", {name: text.strip("'\"") for name, text in lines})
    assert [settings.bridge.node] == [table.node for table in settings.opensips]
    assert Config().pings == settings.pings


def test_compose_publishes_what_has_access_control() -> None:
    """Bus, MI and Redis have none and are not published; the API's port is, but it listens there only with tokens."""
    published = re.findall(r'^      - ".*:(\d+)(?:/\w+)?"$', read("compose.yaml"), re.MULTILINE)
    assert {"5060", "8080", "8780", "3000"} == set(published)
    assert "COMPANION_API__LISTEN: ${API_LISTEN:-127.0.0.1:8780}" in service("companion")


@pytest.mark.parametrize("name", ["opensips", "companion", "prometheus"])
def test_compose_shares_one_network_namespace(name: str) -> None:
    """What meets on loopback is in the network namespace of the service that never restarts."""
    assert "network_mode: service:pod\n" in service(name)


@pytest.mark.parametrize("name", ["pod", "opensips", "redis", "companion", "prometheus", "grafana"])
def test_compose_hardens_every_service(name: str) -> None:
    """Each container has a read-only file system and no capability."""
    assert "<<: *hardened\n" in service(name)


def test_compose_has_a_cluster() -> None:
    """Six servers of the profile `cluster` have a port and a volume of their own, and one container joins them all."""
    names = [f"redis-{number}" for number in range(1, 7)]
    shared = read("compose.yaml").partition("x-redis-node: &redis-node\n")[2].partition("\nservices:")[0]
    for part in ("<<: *hardened\n", "profiles: [cluster]\n", "network_mode: service:pod\n"):
        assert part in shared
        assert part in service("redis-cluster")
    ports: list[tuple[str, str]] = []
    for name in names:
        assert "<<: *redis-node\n" in service(name)
        assert f"- {name}:/data\n" in service(name)
        assert f"\n  {name}:\n" in read("compose.yaml").partition("\nvolumes:")[2]
        ports += set(re.findall(r"PORT: (\d+)$|--port, \"(\d+)\"", service(name), re.MULTILINE))
    own = [port for pair in ports for port in pair if port]
    joined = service("redis-cluster").partition("--cluster create")[2]
    assert sorted(own) == sorted(2 * re.findall(r"127\.0\.0\.1:(\d+)", joined))
    assert re.findall(r"      (redis-\d):\n        condition: service_healthy", service("redis-cluster")) == names
    example = re.search(r"redis\+cluster://127\.0\.0\.1:(\d+),127\.0\.0\.1:(\d+)", read(".env.example"))
    assert example
    assert set(example.groups()) <= set(own)


def test_compose_mounts_what_is_there() -> None:
    """Every file and folder that compose.yaml mounts or builds from is in the project."""
    mounted = re.findall(r"- \./([^:]+):", read("compose.yaml"))
    assert [name for name in [*mounted, "packaging/opensips.Dockerfile"] if not (PROJECT / name).exists()] == []


def test_the_container_changes_opensips_cfg() -> None:
    """Each substitution of packaging/opensips.sed finds a line in opensips.cfg: its log and its sockets."""
    patterns = re.findall(r"^s/(\^.+?)/", read("packaging/opensips.sed"), re.MULTILINE)
    assert len(patterns) == 3
    for pattern in patterns:
        plain = pattern.replace(r"\(", "(").replace(r"\)", ")")
        assert re.search(plain, read("opensips/opensips.cfg"), re.MULTILINE), pattern


def test_the_unit_stops_trying_on_a_wrong_configuration(unit: configparser.SectionProxy) -> None:
    """A restart mends no configuration; all else is tried again."""
    assert str(ConfigError.exit_code) in unit["RestartPreventExitStatus"].split()
    assert unit["Restart"] == "on-failure"


def test_the_unit_lets_the_companion_finish(unit: configparser.SectionProxy) -> None:
    """Nobody kills the companion while it still stores what it received: neither systemd nor the container engine."""
    grace = re.search(r"stop_grace_period: (\d+)s", service("companion"))
    assert grace
    assert min(int(unit["TimeoutStopSec"]), int(grace[1])) > END_SECONDS + 10


def test_the_unit_leaves_what_the_companion_needs(unit: configparser.SectionProxy) -> None:
    """ZeroMQ may set its thread's scheduling (it aborts otherwise), and /proc/net/udp tells of dropped datagrams."""
    filters = re.findall("^SystemCallFilter=(.+)$", read("packaging/companion.service"), re.MULTILINE)
    assert filters == ["@system-service", "~@privileged"]
    assert "ProcSubset" not in unit
