"""Show markup as a NiceGUI element, and pass on what is pressed or typed in it."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from companion.dashboard.markup import Markup

OnAct = Callable[[str, Any], Awaitable[None] | None]
OnGo = Callable[[str], Awaitable[None] | None]


class Part(Element, component="part.js", esm={"companion": "script"}):
    """Show a piece of a page; the browser changes only what has changed: nothing flickers, and focus stays."""

    def __init__(self, *markup: Markup, **props: Any) -> None:
        super().__init__()
        self.props.update({**props, "markup": markup})  # a tuple, as NiceGUI wraps and watches each list in a list

    def show(self, *markup: Markup) -> None:
        if markup != self.props["markup"]:
            self.props["markup"] = markup

    def move_to(self, address: str) -> None:
        """Change the address in the browser without loading anything."""
        self.props["address"] = address

    def on_act(self, handler: OnAct) -> None:
        """Call `handler(name, value)` when something with `act` is used; a browser may send any value."""

        def handle(event: GenericEventArguments) -> Awaitable[None] | None:
            act = event.args if isinstance(event.args, dict) else {}
            return handler(str(act.get("name", "")), act.get("value"))

        self.on("act", handle)

    def on_go(self, handler: OnGo) -> None:
        """Call `handler(query)` when a link with `go` is followed, or the browser goes back to one."""
        self.on("go", lambda event: handler(str(event.args).removeprefix("?")))
