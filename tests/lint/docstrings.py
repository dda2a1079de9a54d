"""Find docstrings that do not open with a verb."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.lint.source import Source

VERBS: Final = frozenset(Path(__file__).with_name("verbs.txt").read_text(encoding="utf-8").split())
"""The imperatives that docstrings open with. Add one to verbs.txt where a docstring needs it."""


def without_verb(sources: Iterable[Source]) -> list[str]:
    """Return a line for each docstring of a module, class or function that opens with another word."""
    return [
        f"{source.place}:{line}: the docstring opens with {_first_word(text)!r}, not with a verb"
        for source in sources
        for text, line in _docstrings(source.tree)
        if not _opens_with_verb(text)
    ]


def share_with_verb(sources: Iterable[Source]) -> float:
    """Return the share of docstrings that open with a verb, 0 to 1."""
    texts = [text for source in sources for text, _ in _docstrings(source.tree)]
    return sum(map(_opens_with_verb, texts)) / len(texts)


def count(sources: Iterable[Source]) -> int:
    """Return the number of docstrings."""
    return sum(1 for source in sources for _ in _docstrings(source.tree))


def _opens_with_verb(text: str) -> bool:
    return _first_word(text).lower() in VERBS


def _first_word(text: str) -> str:
    match = re.match(r"[A-Za-z]+", text)
    return match[0] if match else text[:1]


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text, getattr(node, "lineno", 1)
