"""The collector that pages load: how large it is, and what npm is told of it."""

import json
import re
from pathlib import Path

import pytest

from tests.unit.media.minify import minified

FOLDER = Path(__file__).parents[3] / "companion/media/static"
MODULE = (FOLDER / "last-mile.js").read_text(encoding="utf-8")
MOST_BYTES = 12 * 1024


def test_it_is_small() -> None:
    """Minified, the collector is no more than 12 kB."""
    assert len(minified(MODULE).encode()) <= MOST_BYTES


@pytest.mark.parametrize(
    ("module", "size"),
    [
        ("// no\nconst first = 1_000;\nconst second = 0.5;\n", "const a=1e3,a=.5;"),
        ("export const go = (x) => {\n  return x.y; /* no */\n};", "export const a=a=>{return a.y};"),
        ("f({ key: value, short, call() {} });", "a({key:a,short:a,call(){}});"),
        ('const { a, b = true } = c; d = /[/"]+/g.test(`x ${y}`);', 'const{a:a,b:a=!0}=a;a=/[/"]+/g.test(`x ${y}`);'),
    ],
)
def test_how_it_is_measured(module: str, size: str) -> None:
    """What counts is what a minifier leaves: texts, patterns, members' names, and a letter for each other name."""
    assert size == minified(module).removesuffix(";") or size == minified(module)


def test_it_needs_nothing() -> None:
    """The collector imports nothing, and nothing has to be installed or built for it."""
    package = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    assert not re.search(r"^\s*import\b|\bimport\(|\brequire\(", MODULE, re.MULTILINE)
    assert not {"dependencies", "peerDependencies", "scripts"} & package.keys()


def test_npm_gets_what_is_served() -> None:
    """The package is the module that the companion serves, and all that it names is there."""
    package = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    assert (package["name"], package["type"]) == ("opensips-last-mile", "module")
    assert "last-mile.js" in package["files"]
    assert package["exports"] == "./last-mile.js"
    assert all((FOLDER / name).is_file() for name in package["files"])
