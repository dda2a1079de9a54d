"""The version on the command line."""

import pytest
from typer.testing import CliRunner

from companion import __version__
from companion.cli.main import app


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word: str) -> None:
    """Option and command print the version alone, and end well."""
    result = CliRunner().invoke(app, [word])
    assert (result.stdout, result.exit_code) == (f"{__version__}\n", 0)
