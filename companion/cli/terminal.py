"""Take over a terminal: a screen of its own and keys as they are typed; give it back however that ends."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.segment import Segment

from companion.cli.keys import KeyDecoder

ESCAPE_SECONDS: Final = 0.05
"""How long after the Escape character the rest of a control sequence may come."""
DROP_SECONDS: Final = 0.05
"""How often output is dropped that nobody takes, so that who draws can end."""
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_DEVICE: Final = "/dev/tty"


class Terminal:
    """Hold the terminal of this process. `on_change` is called when keys were typed, or the size is another."""

    def __init__(self, console: Console, on_change: Callable[[], None]) -> None:
        self._console = console
        self._on_change = on_change
        self._decoder = KeyDecoder()
        self._keys: list[str] = []
        self._mode: Any = None
        self._device = -1
        self.is_gone = False
        """Whether nobody can type any more."""

    @property
    def width(self) -> int:
        return self._console.size.width

    @property
    def height(self) -> int:
        return self._console.size.height

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the terminal within the running event loop."""
        loop = asyncio.get_running_loop()
        with _open_device() as self._device:
            loop.add_reader(self._device, self._read)
            loop.add_signal_handler(signal.SIGWINCH, self._on_change)
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
            try:
                self._enter()
                yield
            finally:
                self._leave()
                loop.remove_signal_handler(signal.SIGTSTP)
                loop.remove_signal_handler(signal.SIGWINCH)
                loop.remove_reader(self._device)

    def read_keys(self) -> list[str]:
        """Return the keys that were typed since the last call."""
        keys, self._keys = self._keys, []
        return keys

    def render(self, page: RenderableType) -> Sequence[list[Segment]]:
        """Render something into lines of the width of the screen."""
        return self._console.render_lines(page)

    async def draw(self, page: RenderableType, ended: "asyncio.Future[Any]") -> None:
        """Draw the whole screen, cut where it is too small.

        A terminal that takes nothing, such as one behind a dead line, is waited for until `ended`.
        """
        size = self._console.options.update_dimensions(self.width, self.height)
        lines = self._console.render_lines(page, size)
        drawing = asyncio.ensure_future(asyncio.to_thread(self._write, lines))
        await asyncio.wait({drawing, ended}, return_when=asyncio.FIRST_COMPLETED)
        while not drawing.done():
            self._drop_output()
            await asyncio.wait({drawing}, timeout=DROP_SECONDS)
        drawing.result()

    def _write(self, lines: list[list[Segment]]) -> None:
        try:
            self._console.update_screen_lines(lines)
        except OSError:
            self.is_gone = True

    def _drop_output(self) -> None:
        with contextlib.suppress(termios.error):
            termios.tcflush(self._device, termios.TCOFLUSH)
            termios.tcsetattr(self._device, termios.TCSANOW, termios.tcgetattr(self._device))  # wakes who writes

    def _read(self) -> None:
        try:
            data = os.read(self._device, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._keys += self._decoder.feed(data)
        if not data:
            self.is_gone = True
            asyncio.get_running_loop().remove_reader(self._device)
        if self._decoder.is_waiting:
            asyncio.get_running_loop().call_later(ESCAPE_SECONDS, self._end_sequence)
        self._on_change()

    def _end_sequence(self) -> None:
        self._keys += self._decoder.flush()
        self._on_change()

    def _enter(self) -> None:
        self._mode = termios.tcgetattr(self._device)
        tty.setcbreak(self._device)
        mode = termios.tcgetattr(self._device)
        mode[0] &= ~termios.IXON  # Ctrl-S would halt the screen
        termios.tcsetattr(self._device, termios.TCSANOW, mode)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._device, termios.TCSANOW, self._mode)

    def _suspend(self) -> None:
        """Stop as Ctrl-Z stops other programs, and go on when the shell says so."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._on_change()


def is_usable(console: Console) -> bool:
    """Return whether this process has a terminal, is in its foreground, and can move its cursor."""
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        return False
    try:
        with _open_device() as device:
            return os.tcgetpgrp(device) == os.getpgrp()
    except OSError:
        return False


@contextmanager
def _open_device() -> Iterator[int]:
    """Open the terminal anew: an event loop makes what it reads non-blocking, and our output shares that of stdin."""
    device = os.open(_DEVICE, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield device
    finally:
        os.close(device)
