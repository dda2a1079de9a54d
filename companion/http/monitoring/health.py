"""Serve probes and metrics. None of them waits behind other requests, or for a Redis that hangs."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from companion.config import Config
from companion.http.access.guard import scope_of
from companion.http.api.models.health import AliveModel, ReadyModel
from companion.http.monitoring.exposition import METRICS, answer_metrics, collect_processes, render_metrics
from companion.http.monitoring.fleet_metrics import FleetCollector
from companion.http.monitoring.watch import Watch
from companion.http.siblings import Siblings
from companion.query.now import View
from companion.store.store import Store


class Health:
    """Serve /healthz, /readyz and /metrics; `router` has their routes."""

    def __init__(self, config: Config, store: Store, siblings: Siblings) -> None:
        self._interval_ms = config.pings.interval_ms
        self.watch = Watch(config, store)
        self._fleet = FleetCollector(config, store, self.watch)
        self._siblings = siblings
        answer_metrics(siblings)
        self._thread = ThreadPoolExecutor(1, "metrics")
        self.router = APIRouter(tags=["health"])
        self.router.add_api_route("/healthz", self.alive, response_model=AliveModel)
        self.router.add_api_route("/readyz", self.ready, response_model=ReadyModel, response_model_exclude_none=True)
        self.router.add_api_route("/metrics", self.metrics)

    async def alive(self) -> dict[str, str]:
        """Answer that the process runs."""
        return {"status": "alive"}

    async def ready(self, request: Request, response: Response) -> dict[str, object]:
        """Answer 200 when all of the companion does its work, else 503, with reasons for readers."""
        reasons, view = await self.watch.judge()
        response.status_code = 503 if reasons else 200
        answer: dict[str, object] = {"status": "not ready" if reasons else "ready", "reasons": []}
        if scope_of(request) == "none":
            return answer
        notes = _check_intervals(view, self._interval_ms) if view else []
        answer["reasons"] = [reason.text for reason in reasons]
        answer |= {"names": list(dict.fromkeys(reason.name for reason in reasons))} if reasons else {}
        return answer | ({"notes": notes} if notes else {})

    async def metrics(self) -> Response:
        """Return all metrics for Prometheus."""
        self._fleet.begin()
        processes = collect_processes(self._siblings, await self._siblings.ask(METRICS))
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._thread, render_metrics, processes, self._fleet)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _check_intervals(now: View, configured_ms: int) -> list[str]:
    """Compare how often each node pings with [pings] interval, by which losses and statuses are judged."""
    return [
        f"{feed.node} pings every {feed.interval_ms / 1000:.0f} s, and [pings] interval is {configured_ms / 1000:g}"
        for feed in now.feeds.values()
        if feed.interval_ms and abs(feed.interval_ms - configured_ms) > configured_ms / 3
    ]
