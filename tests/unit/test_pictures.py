"""The pictures of the documents: they are there, small, of both colour schemes, and of what the demo shows."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.pictures.demo import Demo
from tests.pictures.steps import NAMES, SCHEMES, find_pages, render_terminal

PROJECT: Final = Path(__file__).parents[2]
FOLDER: Final = PROJECT / "docs" / "pictures"
DOCUMENTS: Final = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
MOST_BYTES: Final = 100_000
MOST_BYTES_OF_ALL: Final = 1_000_000
_SOURCES: Final = re.compile(r'(?:src|srcset)="([^"]+)"|!\[[^]]*\]\(([^)]+)\)')


def list_pictures(document: Path) -> list[Path]:
    """The files that a document shows."""
    names = (one or other for one, other in _SOURCES.findall(document.read_text(encoding="utf-8")))
    return [(document.parent / name).resolve() for name in names if "://" not in name]


def test_pictures_are_shown() -> None:
    """Each document's pictures are there, and each picture is in some document, light and dark."""
    pictures = {picture for document in DOCUMENTS for picture in list_pictures(document)}
    assert (
        pictures == set(FOLDER.iterdir()) == {FOLDER / f"{name}-{scheme}.webp" for name in NAMES for scheme in SCHEMES}
    )


def test_pictures_are_small() -> None:
    """A clone and a page load stay quick."""
    sizes = [file.stat().st_size for file in FOLDER.iterdir()]
    assert max(sizes) <= MOST_BYTES
    assert sum(sizes) <= MOST_BYTES_OF_ALL


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_both_schemes(document: Path) -> None:
    """Who shows a picture in light shows it in dark, too, and says in words what is on it."""
    pictures = [picture.stem for picture in list_pictures(document)]
    assert [name.replace("-dark", "-light") for name in pictures[::2]] == pictures[1::2]
    assert document.read_text(encoding="utf-8").count("<img alt=") == len(pictures) // 2


class AnsweredDemo(Demo):
    """A demo whose answers are given."""

    def get(self, path: str, **query: str | int) -> Any:
        del query
        if path == "devices":
            return {"devices": [{"device": "kim/phone", "push": True}, {"device": "kim/web", "push": False}]}
        assert path == "devices/kim/web/calls"
        return {
            "calls": [{"call_id": "good", "mos": 4.3}, {"call_id": "new", "mos": None}, {"call_id": "bad", "mos": 3}]
        }


def test_pages_of_pictures() -> None:
    """The pictures are of the device with the bad evening, of its worst call, and of its recorded messages."""
    pages = find_pages(AnsweredDemo("http://127.0.0.1", "secret", Path("config.toml")))
    assert [page.path for page in pages.values()] == ["/devices/kim/web?window=7d", "/calls/bad", "/traces/kim/web"]
    assert {*pages, "terminal"} == set(NAMES)


def test_picture_of_a_terminal() -> None:
    """What a command prints keeps its colours, on the ground of the scheme, and no text of it becomes HTML."""
    light, dark = (render_terminal("\x1b[31mstale\x1b[0m <b>", scheme) for scheme in SCHEMES)
    assert "background: #ffffff" in light
    assert "background: #0c0c0c" in dark
    assert "&lt;b&gt;" in light
    assert re.search(r"color: #[0-9a-f]{6}[^>]*>stale", light)
