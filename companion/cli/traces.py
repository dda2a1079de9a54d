"""Record the SIP messages of a device, and show them: `companion trace …`."""

import getpass
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from companion import config
from companion.cli.options import AsJson, ConfigFile, opened, show
from companion.cli.screens.trace import render_recordings, render_trace
from companion.errors import UsageError
from companion.query.reader import Reader
from companion.recording.recordings import DEFAULT_MINUTES, MAX_MINUTES, start_recording, stop_recording
from companion.services import event_loop
from companion.times import iso
from companion.trace.export import write_pcap, write_text

app = typer.Typer(
    help="Record the SIP messages of one device, and read them as a ladder.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DeviceId = Annotated[str, typer.Argument(metavar="ID", help="A device id, or a SIP instance or AOR if it is unique.")]


class ExportFormat(StrEnum):
    text = "text"
    pcap = "pcap"


@app.command()
def start(
    name: DeviceId,
    minutes: Annotated[int, typer.Option(help="How long to record.", min=1, max=MAX_MINUTES)] = DEFAULT_MINUTES,
    config_file: ConfigFile = None,
) -> None:
    """Start to record a device. A recording that goes on gets a new end.

    OpenSIPS mirrors the messages of this device alone. Passwords, push tokens and keys are masked before they are
    stored. The timeline of the device shows who asked.
    """
    settings = config.load(config_file)
    with opened(settings) as store:
        started = event_loop.run(start_recording(settings, store, name, minutes, _operator()))
    typer.echo(f"{started.recording.device} is recorded until {iso(started.recording.ends_at)}")
    for node, reason in started.failures.items():
        typer.echo(f"{node} does not take part yet, it is tried again: {reason}")


@app.command()
def stop(name: DeviceId, config_file: ConfigFile = None) -> None:
    """Stop recording a device. Its trace is kept."""
    settings = config.load(config_file)
    with opened(settings) as store:
        device, failures = event_loop.run(stop_recording(settings, store, name, _operator()))
    typer.echo(f"{device} is not recorded any more")
    for node, reason in failures.items():
        typer.echo(f"{node} still mirrors its messages, the companion stops it later: {reason}")


@app.command()
def status(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the recordings that go on."""
    settings = config.load(config_file)
    with opened(settings) as store:
        rows = Reader(settings, store).recordings()["recordings"]
    show(rows, render_recordings(rows), as_json=as_json)


@app.command("show")
def show_trace(  # noqa: PLR0913, PLR0917 - options of the command line
    name: DeviceId,
    config_file: ConfigFile = None,
    method: Annotated[str, typer.Option(help="Only messages of this method, such as INVITE.")] = "",
    call_id: Annotated[str, typer.Option("--call-id", help="Only messages of this call.")] = "",
    texts: Annotated[bool, typer.Option("--texts", help="Print each message in full, below its step.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the messages of a device as a ladder: the phone, OpenSIPS, the other end."""
    settings = config.load(config_file)
    with opened(settings) as store:
        trace = Reader(settings, store).trace(name, method, call_id)
    show(trace, render_trace(trace, texts=texts), as_json=as_json)


@app.command()
def export(
    name: DeviceId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for the standard output.")],
    config_file: ConfigFile = None,
    kind: Annotated[
        ExportFormat | None, typer.Option("--format", help="text or pcap. Default: by the end of FILE.")
    ] = None,
    call_id: Annotated[str, typer.Option("--call-id", help="Only messages of this call.")] = "",
) -> None:
    """Write the messages of a device to a file: text, or pcap for Wireshark."""
    settings = config.load(config_file)
    with opened(settings) as store:
        trace = Reader(settings, store).trace_packets(name, call_id)
    is_pcap = kind is ExportFormat.pcap or (kind is None and file.suffix in (".pcap", ".cap"))
    content = write_pcap(trace.packets) if is_pcap else write_text(trace.packets).encode("utf-8", "replace")
    try:
        (sys.stdout.buffer.write if str(file) == "-" else file.write_bytes)(content)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    if trace.is_cut:
        typer.echo(f"only the last {len(trace.packets)} messages are exported: the trace is too large", err=True)


def _operator() -> str:
    """Return who runs this command, for the audit."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"
