"""Find names that say how a value was come by, not what it is, and class names with two meanings."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from tests.lint.source import Source

FORBIDDEN: Final = frozenset(
    """
    advised announced asked caught claimed declared described detected each found given glimpsed got gotten happened
    heard judged known listed looked mentioned named noted noticed observed perceived recounted remarked reported said
    seen shown sighted spoken spotted stated taken thought told understood uttered viewed wanted watched witnessed
    """.split()  # noqa: SIM905 - words read better than a list of strings
)
"""Participles of saying, seeing, knowing and getting: a name is a noun of the dictionary in docs/architecture.md."""


def forbidden(sources: Iterable[Source]) -> list[str]:
    """Return a line for each variable, attribute, parameter, function or class with a forbidden name."""
    return [
        f"{source.place}:{line}: {name!r} says how it was come by: name what it is"
        for source in sources
        for name, line in _names(source.tree)
        if name.strip("_").lower() in FORBIDDEN
    ]


def classes_of_two_meanings(sources: Iterable[Source]) -> list[str]:
    """Return a line for each class name that is defined in two files or more."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(source.place)
    return [f"class {name} is defined in {' and '.join(files)}" for name, files in places.items() if len(files) > 1]


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
