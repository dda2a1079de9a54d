"""Chromium without a screen, as somebody who looks at the dashboard; it tells what it asked for and what it minded."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DEADLINE: Final = 15
Scheme = Literal["light", "dark"]

_CONTRASTS: Final = """
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour) => {
  context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgba('white');
};
return [...document.querySelectorAll('#app *')].filter((element) =>
  [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) &&
  element.checkVisibility({visibilityProperty: true, opacityProperty: true})
).map((element) => {
  const style = getComputedStyle(element);
  const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
  const [high, low] = [light(ink), light(ground(element))].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  return {text: element.textContent.trim().slice(0, 40), ratio: (high + 0.05) / (low + 0.05), needs: large ? 3 : 4.5};
}).filter(({ratio, needs}) => ratio < needs).map(({text, ratio}) => `${text}: ${ratio.toFixed(2)}`);
"""


class Browser:
    """One window at a companion."""

    def __init__(self, folder: Path, site: str, *flags: str) -> None:
        options = ChromeOptions()
        options.binary_location = BROWSER or ""
        for flag in (*FLAGS, f"--user-data-dir={folder}", *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options, Service(DRIVER))
        self.site = site
        self.look(1440)

    def look(self, width: int, scheme: Scheme = "light") -> None:
        """Have a window so wide, and a system of this colour scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path: str, wait_for: str = "#main .card") -> None:
        """Load a page, and wait until it is there and its websocket stands."""
        self.driver.get(self.site + path)
        self.find(wait_for)
        self.until(lambda: self.run("return window.did_handshake"))

    def log_in(self, secret: str) -> None:
        self.driver.get(f"{self.site}/login")
        self.find("input[name=token]").send_keys(secret + Keys.ENTER)
        self.find("#main")

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def find(self, css: str) -> WebElement:
        """The first of these, as soon as it is there."""
        self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, css))
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def count(self, css: str) -> int:
        return len(self.driver.find_elements(By.CSS_SELECTOR, css))

    def press(self, label: str) -> None:
        """The button of that name."""
        self.until(lambda: self.run(_BUTTON, label))
        self.driver.find_element(By.XPATH, f"//button[contains(normalize-space(), '{label}')]").click()

    def keys(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return str(self.run("return document.querySelector('#app').innerText"))

    @property
    def focused(self) -> str:
        return str(self.run("return document.activeElement.textContent || document.activeElement.name"))

    def series(self, name: str) -> list[list[Any]]:
        """What ECharts says that it draws under that name."""
        return list(self.run(_SERIES, name) or [])

    def contrasts(self) -> list[str]:
        """Texts that are hard to read against what is behind them: less than WCAG AA asks for."""
        return list(self.run(_CONTRASTS))

    def until(self, condition: Callable[[], Any], seconds: float = DEADLINE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen in time\n{self.text}"
            time.sleep(0.05)

    def shoot(self, file: Path) -> None:
        """The whole page as a picture."""
        height = int(self.run("return document.documentElement.scrollHeight"))
        width = int(self.run("return innerWidth"))
        size = {"width": width, "height": max(height, 700), "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.until(lambda: self.run("return innerHeight >= arguments[0]", min(height, 700)))
        file.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(file))

    def complaints(self) -> list[str]:
        """What the browser minded since it was asked the last time."""
        return [line["message"] for line in self._log("browser") if line["level"] in ("SEVERE", "WARNING")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses of all requests since it was asked the last time, websockets too."""
        messages = [json.loads(line["message"])["message"] for line in self._log("performance")]
        sent = [message["params"]["request"]["url"] for message in messages if message["method"] == _REQUEST]
        return sent + [message["params"]["url"] for message in messages if message["method"] == _WEBSOCKET]

    def close(self) -> None:
        self.driver.quit()


_REQUEST: Final = "Network.requestWillBeSent"
_WEBSOCKET: Final = "Network.webSocketCreated"
_BUTTON: Final = "return [...document.querySelectorAll('button')].some((b) => b.textContent.includes(arguments[0]))"
_SERIES: Final = """
const graph = document.querySelector('.graph');
const drawn = (graph && getElement(graph.id.slice(1))?.chart?.getOption()?.series) ?? [];
return drawn.find((series) => series.name === arguments[0])?.data;
"""
