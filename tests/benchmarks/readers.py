"""Read the API over HTTP as one or many readers, on kept-alive connections."""

import http.client
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple
from urllib.parse import quote

from companion.times import epoch_ms
from tests.benchmarks.figure import Figure
from tests.benchmarks.phones import phone

TIMEOUT_SECONDS: Final = 30.0
PATIENT_SECONDS: Final = 120.0
"""How long one reader alone waits, to measure slow answers too."""
IDLE_SECONDS: Final = 4.0
"""Servers close a connection after five idle seconds; a browser then connects anew, and so do we."""
ALONE_SECONDS: Final = 10.0
ALONE_SECONDS_MAX: Final = 60.0
ALONE_REQUESTS_MIN: Final = 5
ALONE_REQUESTS_MAX: Final = 500
WATCH_SECONDS: Final = 0.5
API: Final = "/api/v1"
PERCENTILES: Final = (50, 95, 99)


class Request(NamedTuple):
    """Hold a kind of request, the function that makes its path, of a random device, and the field of its time."""

    name: str
    path: Callable[[Random], str]
    time_field: str = ""


class AnswerError(Exception):
    """Report an answer that is missing, late or not 200."""


class Client:
    """Send requests on one connection."""

    def __init__(self, port: int, timeout: float = TIMEOUT_SECONDS) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._used_at = time.monotonic()

    def get(self, path: str) -> bytes:
        """Return the body of the answer.

        Raises AnswerError for one that is not 200, that is late, or that never comes.
        """
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._connection.close()
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise AnswerError(f"{path}: {error!r}") from error
        finally:
            self._used_at = time.monotonic()
        if answer.status != http.client.OK:
            raise AnswerError(f"{path}: {answer.status} {body[:200]!r}")
        return body

    def time(self, path: str) -> tuple[bytes, float]:
        """Return the body of the answer, and how long it took, in ms."""
        started = time.perf_counter()
        body = self.get(path)
        return body, (time.perf_counter() - started) * 1000

    def close(self) -> None:
        self._connection.close()


def fixed_request(name: str, path: str, time_field: str = "") -> Request:
    return Request(name, lambda _: API + path, time_field)


FIRST_PAGE: Final = fixed_request("first page of devices", "/devices", "as_of")
SUMMARY: Final = fixed_request("summary", "/summary", "at")
ANYBODY: Final = Random(0)


def device_request(name: str, devices: int, rest: str = "") -> Request:
    """Return a request of any of the first `devices` devices, each time of another."""
    return Request(name, lambda random: device_path(random.randrange(devices), rest))


def device_path(number: int, rest: str) -> str:
    return f"{API}/devices/{quote(phone(number).device, safe='')}{rest}"


def is_answered(port: int, path: str) -> bool:
    client = Client(port)
    try:
        client.get(path)
    except AnswerError:
        return False
    finally:
        client.close()
    return True


@dataclass
class Answers:
    """Hold the ms of each answer by the request's name, how old it was, how many failed, and the seconds all took."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: int = 0
    seconds: float = 0.0

    def add(self, request: Request, body: bytes, took_ms: float) -> None:
        """Take in an answer that came just now."""
        self.times[request.name].append(took_ms)
        if request.time_field:
            self.ages[request.name].append(read_age_ms(request, body))

    @property
    def rate(self) -> float:
        return sum(map(len, self.times.values())) / self.seconds


def read_age_ms(request: Request, body: bytes) -> float:
    """Return how long before now the time is that an answer gives itself."""
    match = re.search(rf'"{request.time_field}":"([^"]+)"'.encode(), body)
    assert match, body[:200]
    return time.time() * 1000 - epoch_ms(match[1].decode())


def read_alone(client: Client, request: Request) -> Answers:
    """Repeat a request for a while, or until it fails."""
    random, answers, started = Random(request.name), Answers(), time.monotonic()
    times = answers.times[request.name]
    while not answers.failed and len(times) < ALONE_REQUESTS_MAX:
        try:
            times.append(client.time(request.path(random))[1])
        except AnswerError:
            answers.failed += 1
        answers.seconds = time.monotonic() - started
        if answers.seconds > (ALONE_SECONDS if len(times) >= ALONE_REQUESTS_MIN else ALONE_SECONDS_MAX):
            break
    return answers


class Readers(NamedTuple):
    """Hold a number of simultaneous readers, their weighted requests, and their mean seconds between two requests."""

    number: int
    mix: Sequence[tuple[Request, float]]
    think: float

    def read(self, port: int, seconds: float, watch: Callable[[], None]) -> Answers:
        """Read for a while and call `watch` twice a second meanwhile."""
        answers, ended, started = Answers(), threading.Event(), time.monotonic()
        threads = [
            threading.Thread(target=self._one, args=(Client(port), Random(number), answers, ended))
            for number in range(self.number)
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < started + seconds:
            time.sleep(WATCH_SECONDS)
            watch()
        ended.set()
        for thread in threads:
            thread.join()
        answers.seconds = time.monotonic() - started
        return answers

    def _one(self, client: Client, random: Random, answers: Answers, ended: threading.Event) -> None:
        requests, weights = zip(*self.mix, strict=True)
        ended.wait(random.random() * self.think)  # people do not begin all at once
        while not ended.is_set():
            (request,) = random.choices(requests, weights)
            try:
                body, took_ms = client.time(request.path(random))
                answers.add(request, body, took_ms)
            except AnswerError:
                answers.failed += 1
            if self.think:
                ended.wait(random.expovariate(1 / self.think))
        client.close()


def figure(name: str, times_ms: Sequence[float]) -> Figure:
    """Return the percentiles of answers; the number is the 95th, which the product promises."""
    if not times_ms:
        return Figure(name, "no answer")
    p50, p95, p99 = percentiles(times_ms)
    return Figure(name, f"p50 {_ms(p50)}, p95 {_ms(p95)}, p99 {_ms(p99)} ms of {len(times_ms):,}", p95)


def percentiles(times: Sequence[float]) -> list[float]:
    """Return the PERCENTILES by nearest rank."""
    ordered = sorted(times)
    return [ordered[math.ceil(p * len(ordered) / 100) - 1] for p in PERCENTILES]


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
