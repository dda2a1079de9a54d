"""Take the pictures: pages in light and dark, and what a command prints as a picture of a terminal."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from rich.text import Text

from tests.acceptance.browser import Browser, Scheme
from tests.pictures.demo import Demo

WIDTH: Final = 1200
QUALITY: Final = 75
"""Of WebP: text stays sharp."""
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
NAMES: Final = ("device", "call", "ladder", "terminal")
THEMES: Final = {"light": DEFAULT_TERMINAL_THEME, "dark": MONOKAI}
TERMINAL: Final = (
    '<!doctype html><meta charset="utf-8"><body style="margin: 0; background: {background}; color: {foreground}">'
    '<pre id="terminal" style="display: inline-block; margin: 0; padding: 18px 22px; font: 14px/1.35 monospace">'
    "{code}</pre>"
)


class Page(NamedTuple):
    """A page of the dashboard, what shows that it is there, and how much of it from the top is in the picture."""

    path: str
    wait_for: str
    height: int


def find_pages(demo: Demo) -> dict[str, Page]:
    """The pages that pictures are taken of, by the names of the pictures."""
    kim = next(row["device"] for row in demo.get("devices", search="kim")["devices"] if not row["push"])
    calls = demo.get(f"devices/{kim}/calls", window="7d")["calls"]
    worst = min(calls, key=lambda call: call["mos"] or 5)
    return {
        "device": Page(f"/devices/{kim}?window=7d", "#main canvas, #main svg", 780),
        "call": Page(f"/calls/{worst['call_id']}", "#main canvas, #main svg", 1130),
        "ladder": Page(f"/traces/{kim}", ".ladder .step", 1110),
    }


def take_pictures(demo: Demo, profile: Path, folder: Path) -> Iterator[Path]:
    """Take all pictures and return their files, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    browser = Browser(profile / "browser", demo.site)
    try:
        browser.log_in(demo.secret)
        for name, page in find_pages(demo).items():
            for scheme in SCHEMES:
                browser.look(WIDTH, scheme)
                browser.open(page.path, page.wait_for)
                yield _shoot(browser, folder / f"{name}-{scheme}.webp", page.height)
        text = demo.print("device", "dave")
        for scheme in SCHEMES:
            yield _shoot_terminal(browser, text, scheme, profile, folder)
    finally:
        browser.driver.quit()


def _shoot_terminal(browser: Browser, text: str, scheme: Scheme, profile: Path, folder: Path) -> Path:
    html = profile / f"terminal-{scheme}.html"
    html.write_text(render_terminal(text, scheme))
    browser.look(WIDTH, scheme)
    browser.driver.get(html.as_uri())
    width, height = browser.run("const box = terminal.getBoundingClientRect(); return [box.width, box.height]")
    return _shoot(browser, folder / f"terminal-{scheme}.webp", round(height), round(width))


def render_terminal(text: str, scheme: Scheme) -> str:
    """Return a page that shows what a command printed, in its colours."""
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(Text.from_ansi(text))
    return console.export_html(theme=THEMES[scheme], code_format=TERMINAL, inline_styles=True)


def _shoot(browser: Browser, file: Path, height: int, width: int = WIDTH) -> Path:
    """Write what is at the top of the page to a file."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    options = {"format": "webp", "quality": QUALITY, "clip": clip, "captureBeyondViewport": True}
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    file.write_bytes(base64.b64decode(shot["data"]))
    return file
