"""Serving the page: who may come in, and the files of results by id. Nothing here turns a client's text into a path."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fastapi
import gradio as gr
import httpx
from fastapi.responses import FileResponse, Response
from gradio import networking
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from studio.errors import InputError
from studio.service.backend import Backend
from studio.service.media import find_media
from studio.ui import theme
from studio.ui.strings import say

USER = "studio"  # of a generated login
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
# What the login form itself needs, and gradio's own call at the start; everything else asks for a login.
OPEN_PATHS = {
    "/", "/login", "/login/", "/theme.css", "/gradio_api/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json",
    "/pwa_icon", "/gradio_api/startup-events",
}  # fmt: skip
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon/")  # parts of gradio's frontend
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class ServeOptions:
    """How the page is reached. host None: this machine alone. auth: (user, password) pairs; auth_file: lines of
    USER:PASS. say: where sentences for the person at the terminal go."""

    host: str | None = None
    port: int | None = None
    share: bool = False
    auth: tuple[tuple[str, str], ...] = ()
    auth_file: Path | None = None
    inbrowser: bool = False
    say: Callable[[str], None] = lambda sentence: None
    language: str = "en"


def serve(page: gr.Blocks, backend: Backend, options: ServeOptions) -> str:
    """Serve the page from threads of its own and return its local url; page.close() ends it.

    A page that others can reach (another host than this machine, or a public link) always asks for a login: one is
    made up and told where none is given. Raises InputError for an unusable login file, OSError for a taken port.
    """
    host = options.host or backend.config.host
    logins = read_logins(options)
    if not logins and (options.share or host not in LOCAL_HOSTS):
        logins = [(USER, secrets.token_urlsafe(12))]
        options.say(say("serve.password", options.language, user=USER, password=logins[0][1]))
    _, url, _ = page.launch(
        server_name=host,
        server_port=options.port or backend.config.port,
        auth=logins or None,
        inbrowser=options.inbrowser,
        app_kwargs={"routes": media_routes(backend), "middleware": [Middleware(LoginGate)]},
        max_file_size=f"{backend.config.upload_limit_mb}mb",
        favicon_path=theme.ASSETS / "favicon.svg",
        theme=theme.make_theme(),
        css=theme.style_sheet(),
        head=theme.head(),
        share=False,  # made below: gradio's own would serve its frontend from elsewhere
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        num_workers=0,
    )
    options.say(say("serve.local", options.language, url=url))
    if options.share:
        _share(page, options)
    return url


def _share(page: gr.Blocks, options: ServeOptions) -> None:
    """A public link through gradio's tunnel; without one the page runs on."""
    try:
        url = networking.setup_tunnel(page.server_name, page.server_port, page.share_token, None, None)
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:
        options.say(say("serve.share_failed", options.language, reason=str(error).splitlines()[0]))
        return
    options.say(say("serve.public", options.language, url=url.replace("http://", "https://", 1)))


def read_logins(options: ServeOptions) -> list[tuple[str, str]]:
    """All (user, password) pairs of the options. Raises InputError for a file or a line that is none."""
    logins = list(options.auth)
    if options.auth_file is not None:
        try:
            lines = options.auth_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("login_invalid", file=options.auth_file, reason=str(error)) from None
        logins += [parse_login(line, str(options.auth_file)) for line in lines if line.strip()]
    return logins


def parse_login(words: str, source: str = "--auth") -> tuple[str, str]:
    """USER:PASS as a pair. Raises InputError where either is missing."""
    user, _, password = words.strip().partition(":")
    if not (user and password):
        raise InputError("login_invalid", file=source, reason="no user or no password")
    return user, password


class LoginGate:
    """Before every route, gradio's and ours: without the login of gradio's own form there is a 401.

    Gradio checks most of its routes itself; this one list says which need no login instead of which do.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._may_pass(scope):
            await JSONResponse({"detail": "Not authenticated"}, status_code=401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _may_pass(scope: Scope) -> bool:
        app = scope["app"]  # gradio's App: accounts in `auth`, logged-in cookies in `tokens`
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if app.auth is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            return True
        cookies = HTTPConnection(scope).cookies
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        return any(cookies.get(name) in app.tokens for name in names)


def media_routes(backend: Backend) -> list[Route]:
    """GET /studio/media/{id}/{kind}: a file of a job, result or example, found by looking the id up."""

    def media(request: fastapi.Request) -> Response:
        id, kind = request.path_params["id"], request.path_params["kind"]
        path = find_media(backend, id, kind)
        if path is None or not path.is_file():
            raise fastapi.HTTPException(404)
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private, max-age=3600" if kind != "preview" else "private, no-cache",
        }
        kind_of_file = MEDIA_TYPES[path.suffix]
        if kind == "preview":  # replaced while it is read: its size and its bytes must be of one file
            return Response(path.read_bytes(), media_type=kind_of_file, headers=headers)
        name = path.name if kind == "download" else None
        return FileResponse(path, media_type=kind_of_file, filename=name, headers=headers)

    return [Route("/studio/media/{id}/{kind}", media, methods=["GET"])]
