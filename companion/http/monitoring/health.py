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
        self.router.add_api_route("/readyz", self.ready, response_model=ReadyModel)
        self.router.add_api_route("/metrics", self.metrics)

    async def alive(self) -> dict[str, str]:
        """Answer that the process runs."""
        return {"status": "alive"}

    def ready(self, request: Request, response: Response) -> dict[str, object]:
        """Answer 200 when Redis answers, all feeds live and the scheduler runs, else 503, with reasons for readers."""
        reasons = self._find_reasons()
        response.status_code = 503 if reasons else 200
        shown_reasons = reasons if scope_of(request) != "none" else []
        return {"status": "not ready" if reasons else "ready", "reasons": shown_reasons}

    def metrics(self) -> Response:
        """Return all metrics for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _find_reasons(self) -> list[str]:
        try:
            now = load_view(self._config, self._store)
            saved = load_summary(self._store)
        except (*Unreachable, NotNowError, ResponseError) as error:
            return [f"Redis does not answer: {type(error).__name__}"]
        return [*_check_feeds(now), *_check_scheduler(saved["at"] if saved else None)]


def _check_feeds(now: View) -> list[str]:
    if not now.feeds:
        return ["no bridge has been heard of: is one running?"]
    return [
        f"the feed of node {feed.node} is silent" for feed in now.feeds.values() if not feed.is_alive(now.clock.now)
    ]


def _check_scheduler(summed_at: str | None) -> list[str]:
    """Check the age of the last summary, which every scheduler makes."""
    if not summed_at:
        return ["no summary was made within the last minute: is a scheduler running?"]
    seconds = round(time.time() - datetime.fromisoformat(summed_at).timestamp())
    limit = summary.FRESH_MS // 1000
    return [f"the last summary is {seconds} s old: is a scheduler running?"] if seconds > limit else []
