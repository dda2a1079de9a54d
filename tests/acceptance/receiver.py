"""Where a browser's reports go: what a companion does with them, without keeping them; and what it may do wrong."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote

from companion.errors import InvalidReportError
from companion.media.report import Item, Report, decode
from companion.text import Json

COLLECTOR: Final = Path(__file__).parents[2] / "companion/media/static/last-mile.js"
PAGE: Final = Path(__file__).parent / "peers.html"
WEEK_MS: Final = 7 * 24 * 3_600_000
Answer = tuple[int, Json, dict[str, str]]


class Call:
    """All that was told of one call, by number."""

    def __init__(self) -> None:
        self.samples: dict[int, Json] = {}
        self.happenings: dict[int, Json] = {}
        self.reports: list[Json] = []
        self.raw: list[str] = []
        self.tokens: list[str] = []
        self.items: dict[int, Item] = {}
        self.next = 0

    @property
    def numbers(self) -> list[int]:
        return sorted([*self.samples, *self.happenings])

    @property
    def last(self) -> Json:
        """The newest report, with what it leaves out."""
        payload: Json = self.reports[-1] if self.reports else {"dropped": 0, "call": {}}
        about: Json = {"direction": "", "peer": "", "ended_at": None, "end": "", "why": ""}
        return payload | {"call": about | payload["call"]}

    def list_happenings(self, what: str) -> list[Json]:
        return [item for _, item in sorted(self.happenings.items()) if item["what"] == what]

    def media(self, since: float = 0) -> list[Json]:
        """Samples whose interval began then or later (epoch ms)."""
        return [item for _, item in sorted(self.samples.items()) if item["at"] - item["ms"] >= since]

    def take(self, report: Report, payload: Json, token: str, body: str) -> int:
        new = [item for item in [*payload["samples"], *payload["happenings"]] if item["n"] >= self.next]
        items: tuple[Item, ...] = (*report.samples, *report.happenings)
        self.items |= {item.n: item for item in items}
        self.samples |= {item["n"]: item for item in payload["samples"]}
        self.happenings |= {item["n"]: item for item in payload["happenings"]}
        self.reports.append(payload)
        self.raw.append(body)
        self.tokens.append(token)
        self.next = max([self.next, *(item["n"] + 1 for item in new)])
        return len(new)


class Receiver:
    """A server on a free port of loopback. While there are `answers` the next one is given in place of taking a report;
    `always` is given as long as it is there.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        self.advice: Json | None = None
        self.wrong: list[str] = []
        self.refused: list[int] = []
        receiver = self

        class Handler(_Handler):
            server_side = receiver

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.site = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __getitem__(self, call_id: str) -> Call:
        return self.calls.setdefault(call_id, Call())

    def take(self, call_id: str, body: bytes, bearer: str) -> Answer:
        answer = self.answers.pop(0) if self.answers else self.always
        if answer:
            self.refused.append(answer[0])
            return answer
        try:
            report = decode(body, WEEK_MS)
        except InvalidReportError as error:
            self.wrong.append(f"{error}: {body[:2000]!r}")
            return problem(422, "wrong-report")
        return 200, self._store(self[call_id], report, body, bearer), {}

    def _store(self, call: Call, report: Report, body: bytes, bearer: str) -> Json:
        token = bearer.removeprefix("Bearer ") or report.token
        stored = call.take(report, json.loads(body), token, body.decode())
        return {"stored": stored, "next": call.next, "advice": self.advice}


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A browser that goes leaves connections behind."""


class _Handler(BaseHTTPRequestHandler):
    server_side: Receiver
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        files = {"/last-mile.js": (COLLECTOR, "text/javascript"), "/": (PAGE, "text/html")}
        file, kind = files.get(self.path, (None, ""))
        self._say(200 if file else 404, file.read_bytes() if file else b"", {"Content-Type": kind})

    def do_POST(self) -> None:
        call_id = unquote(self.path.split("/")[4])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer, headers = self.server_side.take(call_id, body, self.headers.get("Authorization", ""))
        self._say(status, json.dumps(answer).encode(), {"Content-Type": "application/json", **headers})

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """What it was asked is in `calls`."""


def problem(status: int, name: str, **headers: str) -> Answer:
    """An answer as the API gives it when something is wrong."""
    body = {"type": f"urn:opensips-companion:problem:{name}", "title": name, "status": status}
    return status, body, {key.replace("_", "-"): value for key, value in headers.items()}
