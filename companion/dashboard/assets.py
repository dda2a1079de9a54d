"""Serve the style sheet and the script under an address that changes with their content."""

from hashlib import blake2b
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("static")
_DIGEST: Final = blake2b(b"".join(file.read_bytes() for file in sorted(FOLDER.iterdir())), digest_size=6).hexdigest()
ADDRESS: Final = f"/_dashboard/{_DIGEST}"
CACHE_SECONDS: Final = 365 * 86_400
HEAD: Final = (
    f'<link rel="stylesheet" href="{ADDRESS}/dashboard.css"><script src="{ADDRESS}/page.js"></script>'
    f'<meta name="theme-color" content="#f5f6f8" media="(prefers-color-scheme: light)">'
    f'<meta name="theme-color" content="#0d1014" media="(prefers-color-scheme: dark)">'
)
