"""Complete the OpenAPI document of FastAPI with problems, tokens and reports."""

from typing import Any, Final

from fastapi import FastAPI

from companion.http import problems
from companion.http.reports.endpoint import SCHEMAS

_DESCRIPTION: Final = """What OpenSIPS Companion knows of the devices behind OpenSIPS: how well their last mile is, what
happened to them, what was done about it. Times are ISO 8601 in UTC, but for samples, whose times are epoch
milliseconds. Read access is open on loopback unless configured otherwise; otherwise, and to act, send
`Authorization: Bearer TOKEN`."""
TAGS: Final = [
    {"name": "devices", "description": "What a person holds; it outlives its contacts."},
    {"name": "calls", "description": "What browsers tell of the media of their calls."},
    {"name": "traces", "description": "SIP messages of single devices, recorded on request."},
    {"name": "fleet", "description": "All devices together, and the OpenSIPS they are registered at."},
    {"name": "remediation", "description": "What is done about contacts that stopped answering."},
    {"name": "live", "description": "Server-sent events."},
]


def make_api(title: str, version: str, prefix: str) -> FastAPI:
    """Make an application with a complete document at `prefix`/openapi.json."""
    api = FastAPI(
        title=title,
        version=version,
        summary="The last mile of every SIP and WebRTC device, over HTTP",
        description=_DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=TAGS,
        servers=[{"url": prefix, "description": "This companion."}],
        root_path_in_servers=False,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    make_document = api.openapi

    def openapi() -> dict[str, Any]:
        return _complete(make_document())

    api.openapi = openapi  # type: ignore[method-assign]
    return api


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "As `companion token new NAME` prints it."},
        "session": {"type": "apiKey", "in": "cookie", "name": "companion_session", "description": "From /login."},
        "call": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From /media-tokens."},
    }
    document["components"]["schemas"] |= SCHEMAS
    logins: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
    for operations in document["paths"].values():
        for method, operation in operations.items():
            operation.setdefault("security", [*logins, {}] if method == "get" else logins)
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if int(status) >= 400 and "application/json" in content:
                    content[problems.MEDIA_TYPE] = content.pop("application/json")
    return document
