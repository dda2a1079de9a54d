"""Give routes the Reader of their application."""

from typing import Annotated

from fastapi import Depends, Request

from companion.query.reader import Reader


async def _find_reader(request: Request) -> Reader:  # async: FastAPI runs all else in a thread of its own
    reader: Reader = request.app.state.reader
    return reader


ReaderDependency = Annotated[Reader, Depends(_find_reader)]
