"""Web phones: pages with a real SIP library in a real Chromium, a window for each phone.

The libraries come from npm: see tests/npm.
"""

import contextlib
import functools
import http.server
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.acceptance.browser import BROWSER, DRIVER, FLAGS
from tests.npm.packages import install_packages, run_tool

PAGES: Final = Path(__file__).parent / "web"
BUNDLES: Final = {"sipjs": "sip.js/lib/index.js", "jssip": "jssip/lib/JsSIP.js"}
MEDIA_FLAGS: Final = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
DEADLINE: Final = 30


def libraries() -> Path:
    """Return the folder of sipjs.js and jssip.js, bundled on the first call. Without npm, or offline, skip the test."""
    packages = install_packages()
    bundles = packages / "bundles"
    if not bundles.exists():
        with tempfile.TemporaryDirectory(dir=packages, ignore_cleanup_errors=True) as draft:
            entries = [f"{name}=node_modules/{entry}" for name, entry in BUNDLES.items()]
            run_tool(packages, "esbuild", *entries, "--bundle", "--format=esm", f"--outdir={draft}")
            with contextlib.suppress(OSError):  # another process was faster
                Path(draft).rename(bundles)
    return bundles


Answer = Callable[..., str]


class Site:
    """The pages, below /libraries/ the libraries, and `answers`: what a GET of a path says to its query's values."""

    def __init__(self, libraries: Path) -> None:
        self.answers: dict[str, Answer] = {}
        handler = functools.partial(_Pages, libraries=libraries, answers=self.answers)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Pages(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, libraries: Path, answers: dict[str, Answer]) -> None:
        self._libraries = libraries
        self._answers = answers
        super().__init__(*args, directory=str(PAGES))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if answer := self._answers.get(url.path):
            body = answer(**dict(parse_qsl(url.query))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        if path.startswith("/libraries/"):
            return str(self._libraries / Path(path).name)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        pass


class Chromium:
    """A browser whose microphone beeps, that plays what it hears, and that lets no window sleep."""

    def __init__(self, folder: Path) -> None:
        options = ChromeOptions()
        options.binary_location = BROWSER or ""
        for flag in (*FLAGS, *MEDIA_FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options, Service(DRIVER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()


class WebPhone:
    """A window with a phone in it; `page` is its address, `settings` go into its query."""

    def __init__(self, browser: Chromium, page: str, **settings: str) -> None:
        self._driver = browser.driver
        self._driver.switch_to.new_window("window")
        self._window = self._driver.current_window_handle
        self._driver.get(f"{page}?{urlencode(settings)}")
        self.until(lambda: self.run("return Boolean(window.phone)"))

    def close(self) -> None:
        """As a tab is closed."""
        self._driver.switch_to.window(self._window)
        self._driver.close()
        self._driver.switch_to.window(self._driver.window_handles[0])

    def run(self, script: str, *values: Any) -> Any:
        """What the script returns; a promise is waited for, and its failure raised."""
        self._driver.switch_to.window(self._window)
        return self._driver.execute_script(script, *values)

    def until(self, condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
        """Wait until a condition holds; what it gave then."""
        deadline = time.monotonic() + seconds
        while not (held := condition()):
            assert time.monotonic() < deadline, f"it did not happen in time\n{self.console_lines()}"
            time.sleep(0.02)
        return held

    def console_lines(self) -> str:
        """The last that was said on the consoles of all windows."""
        lines: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return "\n".join(line["message"] for line in lines[-30:])
