"""Serve the dashboard: pages for support and operations, made with NiceGUI, an optional extra.

`pages/` reads the data and handles what is pressed, `markup/` turns data into markup, part.js shows it in the browser.
Only `mount` and its imports need NiceGUI.
"""

from fastapi import FastAPI

from companion.config import Config
from companion.http.device_pings import DevicePings
from companion.query.reader import Reader
from companion.recording.recordings import Recordings


def mount(app: FastAPI, config: Config, reader: Reader, pings: DevicePings, recordings: Recordings) -> None:
    """Mount the pages on an application, behind all its routes.

    Raises ImportError where NiceGUI is not installed. The import takes half a second: call this late.
    """
    from companion.dashboard.server import mount as mount_pages  # noqa: PLC0415 - NiceGUI costs start time

    mount_pages(app, config, reader, pings, recordings)


def name_process(name: str) -> None:
    """Name our process in the pages that it makes: their connections must find the way to it. Call it after `mount`."""
    from companion.dashboard.server import name_process_in_pages  # noqa: PLC0415 - as above

    name_process_in_pages(name)
