"""Answer with JSON that needs no checks."""

import msgspec
from fastapi import Response

from companion.text import Json


class JsonResponse(Response):
    """Encode an answer of the Reader without checking it against its model.

    Tests hold the answers to their models. A check of each ping of a week takes longer than reading them.
    """

    media_type = "application/json"

    def render(self, content: Json) -> bytes:
        return msgspec.json.encode(content)
