"""Render the pages that need no dashboard: the login, and the front page where there is none."""

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
 aria-describedby="$description"$invalid>
<button type="submit">Log in</button>
<p class="faint" id="hint">Whoever runs this companion makes one: <code>companion token new NAME</code></p>
</form>"""
)


def login(next_path: str, wrong: str = "") -> str:
    """Render the login form, with the error of the last try."""
    message = f'<p class="wrong" id="wrong" role="alert">{escape(wrong)}</p>\n' if wrong else ""
    description, invalid = ("wrong hint", ' aria-invalid="true"') if wrong else ("hint", "")
    form = _FORM.substitute(message=message, next=escape(next_path), description=description, invalid=invalid)
    title = "Log in again" if wrong else "Log in"
    return _PAGE.substitute(title=title, heading="OpenSIPS Companion", content=form)


def no_dashboard(why: str, remedy: str) -> str:
    """Render the page in place of the dashboard."""
    content = f"<p>{escape(why)}</p>\n<p>{remedy}</p>\n<p><a href='/api/v1/openapi.json'>The HTTP API</a> is there.</p>"
    return _PAGE.substitute(title="No dashboard", heading="No dashboard here", content=content)
