"""Read the requests and write the replies of JSON-RPC as OpenSIPS does."""

from typing import Any

from companion.simulator.wire import dump_json


class MiReplyError(Exception):
    """Carry the `error` of a JSON-RPC reply."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.reply: dict[str, Any] = {"code": code, "message": message}
        if data:
            self.reply["data"] = data


class InvalidParamsError(MiReplyError):
    """Report parameters that a command does not take."""

    def __init__(self, data: str = "Too few or too many parameters") -> None:
        super().__init__(-32602, "Invalid params", data)


def render_reply(request_id: Any, outcome: Any) -> bytes:
    """Return the JSON-RPC reply with what a command returned, or its error."""
    if isinstance(outcome, MiReplyError):
        return dump_json({"jsonrpc": "2.0", "error": outcome.reply, "id": request_id})
    return dump_json({"jsonrpc": "2.0", "result": outcome, "id": request_id})


def is_request(request: dict[str, Any]) -> bool:
    """Return whether an object is a JSON-RPC request."""
    return (
        request.get("jsonrpc") == "2.0"
        and isinstance(request.get("method"), str)
        and isinstance(request.get("params", {}), dict | list)
    )


def name_params(recipes: tuple[tuple[str, ...], ...], params: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """Return the parameters by name. A list fits the recipe of its length, an object the one with its names."""
    for recipe in recipes:
        if isinstance(params, list) and len(params) == len(recipe):
            return dict(zip(recipe, params, strict=True))
        if isinstance(params, dict) and set(params) == set(recipe):
            return params
    raise InvalidParamsError


def read_string(value: Any) -> str:
    """Return a string. OpenSIPS also takes a number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidParamsError("")
    return str(value)


def read_integer(value: Any) -> int:
    """Return an integer. OpenSIPS also takes one in a string."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    raise InvalidParamsError("")
