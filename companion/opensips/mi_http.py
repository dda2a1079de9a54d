"""Send requests to OpenSIPS' module mi_http and read its answers piece by piece.

HTTP goes through httpx2, the maintained line of httpx (httpx itself had its last release in 2024).
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import httpx2

from companion.errors import ConfigError, MiRefusedError, MiUnreachableError
from companion.text import printable

_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class MiHttp:
    """Send HTTP requests to MI at one URL, each on a connection of its own.

    Basic auth by `user` and `password`, or by those in the URL. TLS is verified against `ca_file` (PEM), or against the
    system's authorities. Neither proxies nor .netrc are taken from the environment.

    Raises ConfigError for a URL or a `ca_file` that can not be used.
    """

    def __init__(self, url: str, *, user: str, password: str, ca_file: Path | None) -> None:
        address = _parse_url(url)
        self.url = str(address.copy_with(userinfo=b""))
        self._client = _client(user or address.username, password or address.password, ca_file)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def post(self, body: bytes, seconds: float, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the answer to one request piece by piece, at most `limit` bytes within `seconds`.

        Raises MiRefusedError for wrong credentials, MiUnreachableError for any other failure.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        request = self._client.build_request("POST", self.url, content=body)
        try:
            # a timeout must not span a yield: it would hit the caller
            async with asyncio.timeout_at(deadline):
                response = await self._client.send(request, stream=True, follow_redirects=False)
            async with aclosing(response), aclosing(response.aiter_raw()) as chunks:
                self._check_status(response, len(body))
                while True:
                    async with asyncio.timeout_at(deadline):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    if (limit := limit - len(chunk)) < 0:
                        raise self.unreachable("an answer that is too long")
                    yield chunk
        except TimeoutError as error:
            raise self.unreachable(f"no answer within {seconds:g} s") from error
        except httpx2.TransportError as error:
            raise self.unreachable(printable(str(error)) or type(error).__name__) from error

    def unreachable(self, reason: str) -> MiUnreachableError:
        """Return the error for an answer that is missing or unusable."""
        return MiUnreachableError(f"MI at {self.url}: {reason}")

    def _check_status(self, response: httpx2.Response, request_bytes: int) -> None:
        if response.status_code in (401, 403):
            raise MiRefusedError(f"MI at {self.url} refuses our credentials (HTTP {response.status_code})")
        if response.status_code == 400:
            raise self.unreachable(
                f"HTTP 400 to {request_bytes} bytes; raise httpd's receive_buf_size, which is 1024 by default"
            )
        if response.status_code != 200:
            raise self.unreachable(f"HTTP {response.status_code}")


def _parse_url(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"the URL of MI can not be used: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError("the URL of MI must begin with http:// or https:// and name a host")
    return address


def _client(user: str, password: str, ca_file: Path | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        auth=httpx2.BasicAuth(user, password) if user or password else None,
        headers=_HEADERS,
        verify=_tls_context(ca_file),
        trust_env=False,
        timeout=None,
        # a kept connection may be dead at its next use, and a request that is sent once would be lost on it
        limits=httpx2.Limits(max_keepalive_connections=0),
    )


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"{ca_file} can not be used as a CA file: {error.strerror or error}") from error
