"""Serve probes and metrics."""

import time
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from companion.config import Config
from companion.http.access.guard import scope_of
from companion.http.api.models.health import AliveModel, ReadyModel
from companion.http.monitoring import fleet_metrics
from companion.query.now import View, load_view
from companion.store import summary
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.store import Store
from companion.store.summary import load_summary


class Health:
    """Serve /healthz, /readyz and /metrics; `router` has their routes."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._registry = fleet_metrics.registry(config, store)
        self.router = APIRouter(tags=["health"])
        self.router.add_api_route("/healthz", self.alive, response_model=AliveModel)
        self.router.add_api_route("/readyz", self.ready, response_model=ReadyModel, response_model_exclude_none=True)
        self.router.add_api_route("/metrics", self.metrics)

    async def alive(self) -> dict[str, str]:
        """Answer that the process runs."""
        return {"status": "alive"}

    def ready(self, request: Request, response: Response) -> dict[str, object]:
        """Answer 200 when Redis answers, all feeds live and the scheduler runs, else 503, with reasons for readers."""
        reasons, notes = self._find_reasons()
        response.status_code = 503 if reasons else 200
        may_read = scope_of(request) != "none"
        status = "not ready" if reasons else "ready"
        answer: dict[str, object] = {"status": status, "reasons": reasons if may_read else []}
        return answer | ({"notes": notes} if notes and may_read else {})

    def metrics(self) -> Response:
        """Return all metrics for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _find_reasons(self) -> tuple[list[str], list[str]]:
        """Return why it is not ready, and what else should be looked at."""
        try:
            now = load_view(self._config, self._store)
            saved = load_summary(self._store)
        except (*Unreachable, NotNowError, ResponseError) as error:
            return [f"Redis does not answer: {type(error).__name__}"], []
        reasons = [*_check_feeds(now), *_check_scheduler(saved["at"] if saved else None)]
        return reasons, _check_intervals(now, self._config.pings.interval_ms)


def _check_feeds(now: View) -> list[str]:
    if not now.feeds:
        return ["no bridge has been heard of: is one running?"]
    return [
        f"the feed of node {feed.node} is silent" for feed in now.feeds.values() if not feed.is_alive(now.clock.now)
    ]


def _check_intervals(now: View, configured_ms: int) -> list[str]:
    """Compare how often each node pings with [pings] interval, by which losses and statuses are judged."""
    return [
        f"{feed.node} pings every {feed.interval_ms / 1000:.0f} s, and [pings] interval is {configured_ms / 1000:g}"
        for feed in now.feeds.values()
        if feed.interval_ms and abs(feed.interval_ms - configured_ms) > configured_ms / 3
    ]


def _check_scheduler(summed_at: str | None) -> list[str]:
    """Check the age of the last summary, which every scheduler makes."""
    if not summed_at:
        return ["no summary was made within the last minute: is a scheduler running?"]
    seconds = round(time.time() - datetime.fromisoformat(summed_at).timestamp())
    limit = summary.FRESH_MS // 1000
    return [f"the last summary is {seconds} s old: is a scheduler running?"] if seconds > limit else []
