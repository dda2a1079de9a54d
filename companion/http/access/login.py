"""Log browsers in and out: a form takes a token, and a cookie stands for it afterwards."""

from typing import Final
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import Scope as AsgiScope

from companion import log, metrics
from companion.config import ApiSection
from companion.http import problems
from companion.http.access import origin, pages
from companion.http.access.guard import HOME, Access, cookie, local_path
from companion.http.access.sessions import COOKIE, SECONDS
from companion.http.access.throttle import Throttle
from companion.http.paths import LOGIN_PATH
from companion.http.siblings import Siblings
from companion.tokens.access import Token

logger = log.get(__name__)

WRONG: Final = "This token is not known here."
FAILED: Final = b"login failed"
END: Final = b"session ended"
ENDED: Final = b"ended sessions"
"""What processes that serve the API together tell each other: an address, a session, and nothing."""


class Login:
    """Serve the login page; `router` has its routes.

    Failed logins and ended sessions hold for all processes that serve the API together.
    """

    def __init__(self, config: ApiSection, access: Access, siblings: Siblings) -> None:
        self._access = access
        self._siblings = siblings
        siblings.on(FAILED, self._note_failure)
        siblings.on(END, self._note_end)
        siblings.on(ENDED, self._list_ended)
        self._secure = config.secure_cookie
        self._throttle = Throttle()
        self._episodes = log.Episodes(logger)
        self.router = APIRouter(include_in_schema=False)
        # one route, as a 405 names the methods of one
        self.router.add_api_route(LOGIN_PATH, self.login, methods=["GET", "POST"], response_class=HTMLResponse)
        self.router.add_api_route("/logout", self.log_out, methods=["POST"])
        self.router.add_api_route("/companion.css", self.style)

    async def login(self, request: Request) -> Response:
        return await (self.log_in if request.method == "POST" else self.form)(request)

    async def form(self, request: Request) -> Response:
        return HTMLResponse(pages.login(local_path(request.query_params.get("next", HOME))))

    async def log_in(self, request: Request) -> Response:
        """Take a token from the form.

        Answer 303 to the page that the person came for, or the form again with 401 or 429.
        """
        form = await _read_form(request)
        path = local_path(form.get("next", HOME))
        address = origin.peer(request.scope)
        wait = self._throttle.wait(address)
        if wait:
            return self._refuse(problems.too_many_logins(wait), path)
        token = self._access.token(form.get("token", "").strip())
        if not token:
            self._throttle.failed(address)
            await self._siblings.ask(FAILED, address.encode())
            self._episodes.warn("a login failed", address=address)
            return self._refuse(problems.login_needed(wrong=True), path)
        metrics.API_LOGINS.labels("in").inc()
        logger.info("logged in", name=token.name, scope=token.scope, address=address)
        return self._welcome(request.scope, token, path)

    async def log_out(self, request: Request) -> Response:
        """End the session for good, on whatever machine its cookie may be."""
        session = self._access.sessions.end(cookie(request.scope))
        if session:
            await self._siblings.ask(END, msgspec.json.encode((session.id, session.until)))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self._is_secure(request.scope))
        return answer

    async def style(self) -> Response:
        return Response(pages.STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    async def load_ended_sessions(self) -> None:
        """Ask the other processes which sessions have ended: we may take the place of one that knew."""
        for answer in (await self._siblings.ask(ENDED)).values():
            for session, until in msgspec.json.decode(answer, type=dict[str, int]).items():
                self._access.sessions.note_end(session, until)

    async def _note_failure(self, address: bytes) -> bytes:
        self._throttle.failed(address.decode())
        return b""

    async def _note_end(self, payload: bytes) -> bytes:
        self._access.sessions.note_end(*msgspec.json.decode(payload, type=tuple[str, int]))
        return b""

    async def _list_ended(self, _: bytes) -> bytes:
        return msgspec.json.encode(self._access.sessions.ended)

    def _welcome(self, scope: AsgiScope, token: Token, path: str) -> Response:
        answer = RedirectResponse(path, 303)
        value, secure = self._access.sessions.start(token), self._is_secure(scope)
        answer.set_cookie(COOKIE, value, SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    def _refuse(self, problem: problems.ProblemError, path: str) -> Response:
        metrics.API_LOGINS.labels("throttled" if problem.status == 429 else "wrong").inc()
        wrong = WRONG if problem.status == 401 else f"{problem.body['title']}: {problem.body['remedy']}."
        return HTMLResponse(pages.login(path, wrong), problem.status, problem.headers)

    def _is_secure(self, scope: AsgiScope) -> bool:
        return scope["scheme"] == "https" if self._secure == "auto" else self._secure == "always"


async def _read_form(request: Request) -> dict[str, str]:
    """Read the fields of a form as browsers send it: the first of each name, as text."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return {name: values[0] for name, values in parse_qs(body, max_num_fields=10).items()}
    except ValueError as error:
        raise problems.wrong_usage(str(error)) from None
