"""Readers of the API: over HTTP, with kept-alive connections and nothing that takes time of its own."""

import http.client
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple
from urllib.parse import quote

from tests.benchmarks.figure import Figure
from tests.benchmarks.phones import phone

TIMEOUT_SECONDS: Final = 30.0
PATIENT_SECONDS: Final = 120.0
"""What one reader alone waits for, to know how long it takes."""
IDLE_SECONDS: Final = 4.0
"""Servers hang up on who says nothing for five seconds; a browser then connects anew, and so do we."""
ASKED_SECONDS: Final = 10.0
ASKED_AT_MOST_SECONDS: Final = 60.0
ASKED_LEAST: Final = 5
ASKED_MOST: Final = 500
WATCH_SECONDS: Final = 0.5
API: Final = "/api/v1"
PERCENTILES: Final = (50, 95, 99)


class Question(NamedTuple):
    """What is asked, and the path that asks it, of whatever device it is."""

    name: str
    path: Callable[[Random], str]


class AnswerError(Exception):
    """An answer that is none."""


class Asker:
    """One reader on one connection."""

    def __init__(self, port: int, timeout: float = TIMEOUT_SECONDS) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._used_at = time.monotonic()

    def ask(self, path: str) -> bytes:
        """The body of the answer. Raises AnswerError for one that is not 200, that is late, or that never comes."""
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

    def time(self, path: str) -> float:
        """How long the answer took, in ms."""
        started = time.perf_counter()
        self.ask(path)
        return (time.perf_counter() - started) * 1000

    def close(self) -> None:
        self._connection.close()


def fixed(name: str, path: str) -> Question:
    return Question(name, lambda _: API + path)


def of_a_device(name: str, devices: int, rest: str = "") -> Question:
    """Asked of any of the first so many devices, each time of another."""
    return Question(name, lambda random: device_path(random.randrange(devices), rest))


def device_path(number: int, rest: str) -> str:
    return f"{API}/devices/{quote(phone(number).device, safe='')}{rest}"


def is_answered(port: int, path: str) -> bool:
    asker = Asker(port)
    try:
        asker.ask(path)
    except AnswerError:
        return False
    finally:
        asker.close()
    return True


@dataclass
class Answers:
    """What readers got: ms of each answer by the question's name, how many failed, and in how many seconds."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return sum(map(len, self.times.values())) / self.seconds


def alone(asker: Asker, question: Question) -> Answers:
    """What one reader gets who asks again and again for a while, or until there is no answer."""
    random, answers, started = Random(question.name), Answers(), time.monotonic()
    times = answers.times[question.name]
    while not answers.failed and len(times) < ASKED_MOST:
        try:
            times.append(asker.time(question.path(random)))
        except AnswerError:
            answers.failed += 1
        answers.seconds = time.monotonic() - started
        if answers.seconds > (ASKED_SECONDS if len(times) >= ASKED_LEAST else ASKED_AT_MOST_SECONDS):
            break
    return answers


class Readers(NamedTuple):
    """So many at once, each with questions by their weight, and after each answer some thought: its mean in seconds."""

    number: int
    mix: Sequence[tuple[Question, float]]
    think: float

    def read(self, port: int, seconds: float, watch: Callable[[], None]) -> Answers:
        """Let them read for a while; `watch` is called twice a second meanwhile."""
        answers, ended, started = Answers(), threading.Event(), time.monotonic()
        threads = [
            threading.Thread(target=self._one, args=(Asker(port), Random(number), answers, ended))
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

    def _one(self, asker: Asker, random: Random, answers: Answers, ended: threading.Event) -> None:
        questions, weights = zip(*self.mix, strict=True)
        ended.wait(random.random() * self.think)  # people do not begin all at once
        while not ended.is_set():
            (question,) = random.choices(questions, weights)
            try:
                answers.times[question.name].append(asker.time(question.path(random)))
            except AnswerError:
                answers.failed += 1
            if self.think:
                ended.wait(random.expovariate(1 / self.think))
        asker.close()


def figure(name: str, times_ms: Sequence[float]) -> Figure:
    """Percentiles of answers; the number is the 95th, the one that is promised."""
    if not times_ms:
        return Figure(name, "no answer")
    p50, p95, p99 = percentiles(times_ms)
    return Figure(name, f"p50 {_ms(p50)}, p95 {_ms(p95)}, p99 {_ms(p99)} ms of {len(times_ms):,}", p95)


def percentiles(times: Sequence[float]) -> list[float]:
    """By nearest rank."""
    ordered = sorted(times)
    return [ordered[math.ceil(p * len(ordered) / 100) - 1] for p in PERCENTILES]


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
