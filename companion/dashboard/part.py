"""The NiceGUI element that shows markup, and tells of what is pressed or typed in it."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from companion.dashboard.markup import Markup

OnAct = Callable[[str, Any], Awaitable[None] | None]
OnGo = Callable[[str], Awaitable[None] | None]


class Part(Element, component="part.js", esm={"companion": "script"}):
    """A piece of a page. What changed is sent, and the browser changes only that: nothing flickers, focus stays."""

    def __init__(self, *markup: Markup, **props: Any) -> None:
        super().__init__()
        self.props.update({**props, "markup": markup})  # a tuple, as NiceGUI wraps and watches each list in a list

    def show(self, *markup: Markup) -> None:
        if markup != self.props["markup"]:
            self.props["markup"] = markup

    def move_to(self, address: str) -> None:
        """Make the browser's address this one, without loading anything."""
        self.props["address"] = address

    def on_act(self, handler: OnAct) -> None:
        """Call `handler(name, value)` when something with `act` is used; what comes is the browser's word only."""

        def said(event: GenericEventArguments) -> Awaitable[None] | None:
            told = event.args if isinstance(event.args, dict) else {}
            return handler(str(told.get("name", "")), told.get("value"))

        self.on("act", said)

    def on_go(self, handler: OnGo) -> None:
        """Call `handler(query)` when a link with `go` is followed, or the browser goes back to one."""
        self.on("go", lambda event: handler(str(event.args).removeprefix("?")))
