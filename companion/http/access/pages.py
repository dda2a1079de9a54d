"""The pages that need no dashboard: the login, and what stands at / where there is none."""

from html import escape
from pathlib import Path
from string import Template
from typing import Final

STYLE: Final = Path(__file__).with_name("companion.css").read_text(encoding="utf-8")

_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title · OpenSIPS Companion</title>
<link rel="stylesheet" href="/companion.css">
</head>
<body>
<main>
<h1>$heading</h1>
$content
</main>
</body>
</html>
"""
)
_FORM: Final = Template(
    """$message<form method="post" action="/login">
<input type="hidden" name="next" value="$next">
<label for="token">Access token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 aria-describedby="$described"$invalid>
<button type="submit">Log in</button>
<p class="faint" id="hint">Whoever runs this companion makes one: <code>companion token new NAME</code></p>
</form>"""
)


def login(next_path: str, wrong: str = "") -> str:
    """The login form, with what was wrong the last time."""
    message = f'<p class="wrong" id="wrong" role="alert">{escape(wrong)}</p>\n' if wrong else ""
    described, invalid = ("wrong hint", ' aria-invalid="true"') if wrong else ("hint", "")
    form = _FORM.substitute(message=message, next=escape(next_path), described=described, invalid=invalid)
    title = "Log in again" if wrong else "Log in"
    return _PAGE.substitute(title=title, heading="OpenSIPS Companion", content=form)


def no_dashboard(why: str, remedy: str) -> str:
    """What stands where the dashboard would be."""
    content = f"<p>{escape(why)}</p>\n<p>{remedy}</p>\n<p><a href='/api/v1/openapi.json'>The HTTP API</a> is there.</p>"
    return _PAGE.substitute(title="No dashboard", heading="No dashboard here", content=content)
