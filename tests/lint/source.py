"""Read the Python files that are checked."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """Hold one parsed file; `place` is its path from the project's top."""

    place: str
    tree: ast.Module


def read_sources(project: Path, folders: Sequence[str]) -> list[Source]:
    """Return every Python file below these folders, in the order of their paths."""
    files = sorted(file for folder in folders for file in (project / folder).rglob("*.py"))
    return [Source(str(file.relative_to(project)), ast.parse(file.read_text(encoding="utf-8"))) for file in files]
