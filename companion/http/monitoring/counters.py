"""Serve /metrics of a process without `api`: its own counters, and nothing from the store."""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from companion import metrics
from companion.config import MetricsSection
from companion.http.access import origin
from companion.http.connections import HttpLimits
from companion.http.monitoring.exposition import METRICS, collect_processes, render_metrics
from companion.http.server import Server
from companion.http.siblings import Siblings

CONNECTIONS: Final = 64
"""Prometheus needs one or two."""


class Counters:
    """Serve the counters of this process, and of those that serve the API for it, at `[metrics] listen`."""

    def __init__(self, config: MetricsSection, siblings: Siblings | None = None) -> None:
        self._siblings = siblings or Siblings()
        self._for_anybody = config.allow_anybody
        app = Starlette(routes=[Route("/metrics", self._metrics)])
        self._server = Server(app, config, "metrics", limits=HttpLimits(CONNECTIONS))

    async def run(self) -> None:
        await self._server.run()

    def stop(self) -> None:
        self._server.stop()

    async def _metrics(self, request: Request) -> Response:
        """Return the counters to requests under a name of this machine: the name of a web page may lead here."""
        name = origin.host(request.scope)
        if not self._for_anybody and not origin.is_loopback(name):
            metrics.API_DENIED.labels("wrong-host").inc()
            return PlainTextResponse("ask by a name of loopback, or see [metrics] allow_anybody\n", 421)
        processes = collect_processes(self._siblings, await self._siblings.ask(METRICS))
        return Response(render_metrics(processes), media_type=CONTENT_TYPE_LATEST)
