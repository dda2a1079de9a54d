"""`companion token …`: who may use the HTTP API and the dashboard."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from companion.api import tokens
from companion.command import AsJson, show
from companion.errors import UsageError

app = typer.Typer(help="Make tokens for the HTTP API and the dashboard.", no_args_is_help=True)


class Scope(StrEnum):
    read = "read"
    operate = "operate"


@app.callback()
def _several() -> None:
    """Without this a typer app with a single command is that command."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, such as grafana or ann; it is in the log.")],
    scope: Annotated[Scope, typer.Option(help="read: look only; operate: act as well.")] = Scope.read,
    as_json: AsJson = False,
) -> None:
    """Make a token and the line that lets it in.

    The token is shown this once and kept nowhere: the configuration only has its SHA-256.

    Example: companion token new grafana --scope read
    """
    if not tokens.NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a token: up to 64 letters, digits, dots, dashes and underscores")
    secret, token = tokens.make(name, scope.value)
    page = Group(
        Text("The token. Nobody can show it again:"),
        Text(f"\n  {secret}\n", style="bold"),
        Text("What to add to [api] tokens, or to the file of tokens_file as a line; then restart the companion:"),
        Text(f"\n  {token.line}\n"),
    )
    show({"token": secret, "line": token.line}, page, as_json=as_json)
