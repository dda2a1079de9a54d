"""Put together the application for pages of other sites: it serves the collector and takes reports of calls.

Reports bring a token of their own kind, so this application stands beside the guard, with its own limit and CORS.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from companion import metrics
from companion.http import problem_handlers
from companion.http.access.cors import Cors
from companion.http.access.hosts import Hosts
from companion.http.middleware.body_limit import BodyLimit
from companion.http.paths import PREFIX
from companion.http.reports import collector, endpoint
from companion.http.reports.intake import MAX_REPORT, Intake

PATHS: Final = (f"{PREFIX}{endpoint.PATH}", collector.PATH)
"""The paths that the application serves."""


def make_reports(intake: Intake, origins: Iterable[str], hosts: Iterable[str]) -> Starlette:
    """Make the application for pages of these origins that know us by one of these host names."""
    app = Starlette(
        routes=[
            Route(f"{PREFIX}{endpoint.PATH}", endpoint.handle, methods=["POST"]),
            Route(collector.PATH, collector.get_collector),
        ],
        middleware=[
            Middleware(Cors, origins=origins),
            Middleware(problem_handlers.Catch),
            Middleware(Hosts, names=hosts),
            Middleware(BodyLimit, max_bytes=MAX_REPORT, on_refusal=partial(metrics.count_refused_report, "too-large")),
        ],
    )
    app.state.intake = intake
    problem_handlers.add_handlers(app)
    return app
