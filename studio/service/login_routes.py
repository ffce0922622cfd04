"""The login page's routes: one cookie comes with the right password and goes at log out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from studio.service.gate import VISITOR, Rule, Visitor, cookie_name, reader_language
from studio.service.login import Login, Refused

LOGIN_RULES = (
    Rule("GET", "/login", open=True, query=("language",)),
    Rule("POST", "/login", open=True),
    Rule("POST", "/logout", open=True),
)
MAX_FIELDS = 8  # of the form
LONGEST_FIELD = 1000  # characters


@dataclass(frozen=True)
class LoginView:
    """What the login page says. user: the name as it was typed. wait: whole seconds until the next try, 0: now."""

    language: str
    user: str = ""
    wrong: bool = False
    wait: int = 0


def login_routes(login: Login, render: Callable[[LoginView], str], headers: dict[str, str]) -> Sequence[Route]:
    """GET and POST /login, POST /logout. render: the page; headers: what is sent with it."""

    def page(view: LoginView, status: int = 200) -> Response:
        waiting = {"Retry-After": str(view.wait)} if view.wait else {}
        return HTMLResponse(render(view), status, {**headers, "Cache-Control": "no-store", **waiting})

    def show(request: Request) -> Response:
        visitor: Visitor = request.scope[VISITOR]
        if visitor.user:
            return RedirectResponse("./", 303)
        return page(LoginView(language_of(request, request.query_params.get("language", ""))))

    async def enter(request: Request) -> Response:
        visitor: Visitor = request.scope[VISITOR]
        try:
            typed = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=MAX_FIELDS)
        except ValueError:
            typed = {}
        form = {name: values[0][:LONGEST_FIELD] for name, values in typed.items()}
        language = language_of(request, form.get("language", ""))
        user = form.get("user", "").strip()
        if not login.required:
            return RedirectResponse("./", 303)
        found = login.enter(user, form.get("password", ""), visitor.client)
        if isinstance(found, Refused):
            view = LoginView(language, user, wrong=found.looked_at, wait=math.ceil(found.wait))
            return page(view, 401 if found.looked_at else 429)
        answer = RedirectResponse("./", 303)
        _set_cookie(answer, visitor, found.token)
        return answer

    def leave(request: Request) -> Response:
        visitor: Visitor = request.scope[VISITOR]
        login.leave(visitor.token)
        answer = RedirectResponse("login", 303)
        _set_cookie(answer, visitor, "", max_age=0)
        return answer

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", enter, methods=["POST"]),
        Route("/logout", leave, methods=["POST"]),
    ]


def language_of(request: Request, chosen: str) -> str:
    """The language of the page that answers."""
    return reader_language(request.headers.get("accept-language", ""), chosen)


def _set_cookie(answer: Response, visitor: Visitor, token: str, max_age: int | None = None) -> None:
    name = cookie_name(visitor.origin)
    answer.set_cookie(name, token, max_age, path="/", httponly=True, samesite="lax", secure=visitor.secure)
