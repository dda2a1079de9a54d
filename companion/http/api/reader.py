"""Give routes the Reader of their application."""

from typing import Annotated

from fastapi import Depends, Request

from companion.query.reader import Reader


def _find_reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


ReaderDependency = Annotated[Reader, Depends(_find_reader)]
