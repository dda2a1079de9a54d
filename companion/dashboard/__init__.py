"""The dashboard: pages for support and operations, made with NiceGUI, an extra that need not be installed.

`pages/` asks, and answers what is pressed; `markup/` makes plain data of what there is to show; part.js shows it. Only
`mount` and what it imports need NiceGUI.
"""

from fastapi import FastAPI

from companion.config import Config
from companion.query.reader import Reader


def mount(app: FastAPI, config: Config, reader: Reader) -> None:
    """Put the pages on an application, behind all routes it has already. They read from the reader that is given.

    Raises ImportError where NiceGUI is not installed. It takes half a second to import: call this late.
    """
    from companion.dashboard.server import mount as mount_pages  # noqa: PLC0415 - NiceGUI costs start time

    mount_pages(app, config, reader)
