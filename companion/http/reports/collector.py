"""The collector, for pages to import: `/static/last-mile.js`, with a tag that changes with what is in it."""

from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

import companion.media
from companion.http.paths import SCRIPT_PATH

FILE: Final = Path(companion.media.__file__).with_name("static") / "last-mile.js"
CACHE_SECONDS: Final = 300
"""After which a browser asks whether it is still the same: so long pages may run an older one."""

router = APIRouter(include_in_schema=False)


@router.get(SCRIPT_PATH)
def collector(request: Request) -> Response:
    """The module, or 304 for who has it."""
    try:
        module = FILE.read_bytes()
    except FileNotFoundError:
        raise HTTPException(404) from None
    tag = f'"{sha256(module).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={CACHE_SECONDS}"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(module, headers=headers, media_type="text/javascript")
