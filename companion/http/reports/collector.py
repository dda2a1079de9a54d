"""Serve the collector, a JavaScript module for pages to import, with a tag that changes with its content."""

from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import companion.media

PATH: Final = "/static/last-mile.js"
FILE: Final = Path(companion.media.__file__).with_name("static") / "last-mile.js"
CACHE_SECONDS: Final = 300
"""A browser checks after this time whether it is still the same, so a page may run an older one for so long."""


def get_collector(request: Request) -> Response:
    """Return the module, or 304 to a client that has it."""
    try:
        module = FILE.read_bytes()
    except FileNotFoundError:
        raise HTTPException(404) from None
    tag = f'"{sha256(module).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={CACHE_SECONDS}"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(module, headers=headers, media_type="text/javascript")
