"""Make tokens for the HTTP API and the dashboard, or for one call: `companion token`."""

import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened, show
from companion.errors import UsageError
from companion.query.device_ids import find_or_accept_device_id
from companion.times import iso
from companion.tokens import access, call
from companion.tokens.call import MAX_CALL_ID, MAX_DEVICE, MAX_MINUTES, Claims

app = typer.Typer(help="Make tokens for the HTTP API and the dashboard, or for one call.", no_args_is_help=True)


class Scope(StrEnum):
    read = "read"
    operate = "operate"


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The owner, such as grafana or ann; it appears in the log.")
    ],
    scope: Annotated[Scope, typer.Option(help="read: only read; operate: also act.")] = Scope.read,
    as_json: AsJson = False,
) -> None:
    """Make an access token, and the line that enables it.

    The token is printed once and stored nowhere. The configuration contains only its SHA-256.

    Example: companion token new grafana --scope read
    """
    if not access.NAME.fullmatch(name):
        raise UsageError(f"{name!r} can not name a token: use up to 64 letters, digits, dots, dashes and underscores")
    secret, call = access.make(name, scope.value)
    page = Group(
        Text("The token. It can not be shown again:"),
        Text(f"\n  {secret}\n", style="bold"),
        Text("Add this to [api] tokens, or as a line to the file of tokens_file; then restart the companion:"),
        Text(f"\n  {call.line}\n"),
    )
    show({"token": secret, "line": call.line}, page, as_json=as_json)


@app.command()
def media(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device: its id, SIP instance or AOR.")],
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", help="The Call-ID, as in SIP.")],
    minutes: Annotated[
        int, typer.Option(min=0, max=MAX_MINUTES, help="Lifetime in minutes; 0: [media] token_minutes.")
    ] = 0,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token with which a page may report one call of a device.

    The backend of a web phone gets such tokens from the API: POST /api/v1/media-tokens.

    Example: companion token media alice 5f2c1b0e9a@phone.example.com --minutes 30
    """
    settings = config.load(config_file)
    if not settings.media.secret:
        raise UsageError("[media] has no secret: set secret_file; `openssl rand -hex 32` makes a secret")
    if not call.is_name(call_id, MAX_CALL_ID) or not call.is_name(device, MAX_DEVICE):
        raise UsageError(f"a Call-ID has at most {MAX_CALL_ID} printable characters, a device at most {MAX_DEVICE}")
    with opened(settings) as store:
        claims = Claims(find_or_accept_device_id(store, device), call_id)
    now, seconds = int(time.time()), 60 * (minutes or settings.media.token_minutes)
    made = call.make(settings.media.secret, claims, now, seconds)
    until = iso(1000 * (now + seconds))
    page = Text(f"For {claims.device} in call {claims.call_id}, until {until}:\n")
    show({**claims._asdict(), "token": made, "expires_at": until}, page, as_json=as_json)
    if not as_json:
        typer.echo(made)  # in one piece, however narrow the terminal is
