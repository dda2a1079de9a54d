"""Test the collector that pages load: what it needs, and its package for npm."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "companion/media/static"
MODULE = (FOLDER / "last-mile.js").read_text(encoding="utf-8")


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
