"""Find the version in each file that names it. No I/O but reading these files."""

import re
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
_PLACES: Final = {
    "pyproject.toml": r'^version = "(.+)"$',
    "Dockerfile": r"^ARG VERSION=(.+)$",
    "compose.yaml": r"image: opensips-companion:(\S+)",
    "docs/install.md": r"opensips-companion:(\d\S*)",
    "companion/media/static/package.json": r'"version": "(.+)"',
}
"""Where the version is, and how it is written there."""


def find_version() -> str:
    """Return the version of the project."""
    return find_versions()["pyproject.toml"][0]


def find_versions() -> dict[str, list[str]]:
    """Return the versions that each file names; a file without one has an empty list."""
    return {name: re.findall(pattern, read(name), re.MULTILINE) for name, pattern in _PLACES.items()}


def find_released(changelog: str) -> tuple[str, str] | None:
    r"""Return version and date of the section at the top of a changelog; None if that is not a release.

    >>> find_released("# Changelog\n\n## [1.0.0] - 2026-11-28\n")
    ('1.0.0', '2026-11-28')
    >>> find_released("## [Unreleased]\n\n## [1.0.0] - 2026-11-28\n")
    """
    top = re.search(r"^## (.*)$", changelog, re.MULTILINE)
    section = top and re.fullmatch(r"\[(\d\S*)\] - (\d{4}-\d\d-\d\d)", top[1])
    return (section[1], section[2]) if section else None


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")
