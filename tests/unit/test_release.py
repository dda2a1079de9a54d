"""The checklist of a release: what `make release-check` decides without running a program."""

import pytest

from tests.release.__main__ import main
from tests.release.steps import STEPS
from tests.release.versions import PROJECT, find_released


@pytest.mark.parametrize(
    ("changelog", "expected"),
    [
        ("# Changelog\n\n## [1.2.3] - 2026-11-28\n\n## [1.0.0] - 2025-01-01\n", ("1.2.3", "2026-11-28")),
        ("## [Unreleased]\n\n## [1.0.0] - 2025-01-01\n", None),
        ("## [1.0.0]\n", None),
        ("", None),
    ],
)
def test_released_section(changelog: str, expected: tuple[str, str] | None) -> None:
    """Only a section at the top with a version and a date is a release."""
    assert expected == find_released(changelog)


def test_walk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step is printed with ok or what to do; one that is not ok makes the walk fail."""
    for name in tuple(STEPS):
        monkeypatch.setitem(STEPS, name, lambda: None)
    assert main() == 0
    monkeypatch.setitem(STEPS, "versions agree", lambda: "write 2.0.0 into compose.yaml")
    assert main() == 1
    assert "versions agree: write 2.0.0 into compose.yaml\n" in capsys.readouterr().out


def test_the_checklist_is_in_contributing() -> None:
    """CONTRIBUTING.md lists each step of the walk by its name."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in STEPS if f"   - {name}:" not in text] == []
