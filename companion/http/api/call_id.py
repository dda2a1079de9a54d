"""Read a Call-ID from the path of a request."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Path

from companion.http import problems
from companion.text import SAFE_TEXT
from companion.tokens.call import MAX_CALL_ID, is_name


async def _read_call_id(  # async: FastAPI runs all else in a thread of its own
    call_id: Annotated[
        str,
        Path(
            # of the decoded text, so FastAPI can not check it
            json_schema_extra={"minLength": 1, "maxLength": MAX_CALL_ID, "pattern": SAFE_TEXT},
            description="The Call-ID. Percent-encode it as one segment: `/` as %2F, `%` as %25.",
            examples=["5f2c1b0e9a@phone.example.com"],
        ),
    ],
) -> str:
    return decode_call_id(call_id)


def decode_call_id(segment: str) -> str:
    """Return the Call-ID of a segment of a path. Raises ProblemError for what is none."""
    decoded = unquote(segment)
    if not is_name(decoded, MAX_CALL_ID):
        raise problems.wrong_usage(f"path.call_id: is longer than {MAX_CALL_ID} characters, or can not be shown")
    return decoded


CallId = Annotated[str, Depends(_read_call_id)]
