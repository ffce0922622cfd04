"""The server: our own application with gradio's page mounted on it, behind one gate, served from a thread."""

import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fastapi
import gradio as gr
import httpx
import uvicorn
from gradio import networking
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route

from studio.errors import InputError, StudioError
from studio.service.backend import Backend
from studio.service.endpoints import NOTHING, Endpoints
from studio.service.gate import VISITOR, Gate, Rule
from studio.service.login import Login
from studio.service.login_routes import LOGIN_RULES, login_routes
from studio.service.media_routes import MEDIA_RULES, media_routes
from studio.service.origin import ANY_ADDRESS, LOOPBACK, ServedHosts, machine_names
from studio.service.rights import Right
from studio.service.uploads import Uploads
from studio.ui import login_page, theme
from studio.ui.calls import call_check
from studio.ui.client_api import client_check
from studio.ui.handler_rights import call_right
from studio.ui.page import build_page
from studio.ui.page_html import PageHtml
from studio.ui.phone import network_address, qr_code
from studio.ui.strings import say

USER = "studio"  # of a generated login
UPLOAD_FOLDER = "uploads"  # inside the queue's folder
QUOTA_FILES = 16  # as many uploads of the largest size are kept
CLOSING_SECONDS = 2  # for answers under way
BACKLOG = 256  # connections that wait to be taken
MB = 2**20


@dataclass(frozen=True)
class ServeOptions:
    """How the page is reached. host None: this machine alone. auth: (user, password) pairs; auth_file: lines of
    USER:PASS. allowed_hosts: further names, https://NAME for one reached by https. guests: what those may who come
    from other machines. say: where sentences for the person
    at the terminal go."""

    host: str | None = None
    port: int | None = None
    share: bool = False
    auth: tuple[tuple[str, str], ...] = ()
    auth_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    guests: Right = Right.ALL
    inbrowser: bool = False
    say: Callable[[str], None] = lambda sentence: None
    language: str = "en"


class Running:
    """A running application. url: on this machine; public_url: through the tunnel, None where there is none."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self.public_url: str | None = None
        host, port = listener.getsockname()[:2]
        self.host, self.port = "127.0.0.1" if host in ANY_ADDRESS else host, port
        self.url = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, proxy_headers=False, server_header=False,
            ws="none", timeout_graceful_shutdown=CLOSING_SECONDS,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; answers under way have CLOSING_SECONDS."""
        self._server.should_exit = True
        self._thread.join()


class Served(Running):
    """A running page."""

    def __init__(self, app: fastapi.FastAPI, page: gr.Blocks, uploads: Uploads, listener: socket.socket) -> None:
        super().__init__(app, listener)
        self.app, self.page, self.uploads = app, page, uploads


def serve(backend: Backend, options: ServeOptions, beside: Endpoints = NOTHING) -> Served:
    """Build the page and serve it, and what is beside it, from a thread; `close()` of what is returned ends it.

    A page that others can reach (another address than this machine's own, another name, or a public link) always asks
    for a login: one is made up and told where none is given. Raises InputError for an unusable login file or host name,
    StudioError for a taken port.
    """
    host = options.host or backend.config.host
    hosts = served_hosts(host, options.allowed_hosts)
    login = Login(accounts(host, options))
    file_bytes = backend.config.upload_limit_mb * MB
    uploads = Uploads(backend.queue.folder / UPLOAD_FOLDER, file_bytes, QUOTA_FILES * file_bytes)
    listener = listen(host, options.port if options.port is not None else backend.config.port)
    uploads.clear()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)  # where gradio writes and looks for uploads
    page = build_page(backend, uploads, login.required, beside.tabs)
    app = make_app(page, backend, hosts, login, uploads, beside, options.guests)
    served = Served(app, page, uploads, listener)
    options.say(say("serve.local", options.language, url=served.url))
    if host in ANY_ADDRESS and (address := network_address()):
        url = f"http://{address}:{served.port}"
        options.say(f"{say('serve.phone', options.language, url=url)}\n{qr_code(url)}".rstrip("\n"))
    if options.share:
        served.public_url = open_tunnel(served.host, served.port, hosts, options)
    if options.inbrowser:
        webbrowser.open(served.url)
    return served


def make_app(
    page: gr.Blocks,
    backend: Backend,
    hosts: ServedHosts,
    login: Login,
    uploads: Uploads,
    beside: Endpoints,
    guests: Right = Right.ALL,
) -> fastapi.FastAPI:
    """The application: our routes, gradio's after them, the gate around all."""
    routes: Sequence[BaseRoute] = [
        *login_routes(login, login_page.render, login_page.HEADERS),
        *media_routes(backend),
        *beside.routes,
        Route("/studio/alive", lambda request: PlainTextResponse(_stamp(backend))),
        Route("/robots.txt", lambda request: PlainTextResponse("User-agent: *\nDisallow: /\n")),
    ]
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, routes=list(routes))
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth_dependency=lambda request: request.scope[VISITOR].user if VISITOR in request.scope else None,
        max_file_size=uploads.file_bytes,
        favicon_path=str(theme.ASSETS / "favicon.svg"),
        theme=theme.make_theme(),
        css=theme.style_sheet(),
        head=theme.head(),
        footer_links=[],
        run_history=False,
        show_error=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
    )
    app.add_middleware(PageHtml, first_script=theme.script("frames.js"))
    rules = (*OWN_RULES, *beside.rules, *gradio_rules(page, uploads))
    app.add_middleware(
        Gate,
        rules=rules,
        hosts=hosts,
        login=login,
        uploads=uploads,
        keys=beside.keys,
        bodies=beside.bodies,
        guests=guests,
    )
    return app


def _stamp(backend: Backend) -> str:
    """Changes whenever a page has something new to show."""
    return f"{backend.queue.version()} {backend.downloads.stamp()}".strip()


OWN_RULES = (
    *LOGIN_RULES,
    *MEDIA_RULES,
    Rule("GET", "/studio/alive"),  # asked every few seconds by pulse.js: changes with the queue
    Rule("GET", "/robots.txt", open=True),
)


def gradio_rules(page: gr.Blocks, uploads: Uploads) -> tuple[Rule, ...]:
    """What the page uses of gradio's routes; the others, its login, tokens, queue, proxy and files, are closed."""
    return (
        Rule("GET", "/"),
        Rule("GET", "/assets/{path...}"),
        Rule("GET", "/static/{path...}"),
        Rule("GET", "/theme.css"),
        Rule("GET", "/favicon.ico", open=True),
        Rule("GET", "/gradio_api/app_id"),  # asked after a lost connection: another id reloads the page
        Rule("GET", "/gradio_api/upload_progress", query=("upload_id",)),
        Rule("POST", "/gradio_api/upload", upload=True, needs=Right.MAKE, query=("upload_id",)),
        Rule("POST", "/gradio_api/run/predict", check=call_check(page, uploads), needs=call_right(page)),
        # Of gradio_client, which comes with a key where a login is needed: client_api.py.
        Rule("GET", "/config", key="read"),
        Rule("GET", "/gradio_api/info", key="read"),
        Rule("POST", "/gradio_api/queue/join", key="write", check=client_check(page)),
        Rule("GET", "/gradio_api/queue/data", key="read", query=("session_hash",)),
    )


def served_hosts(host: str, allowed: Sequence[str] = ()) -> ServedHosts:
    """The names of a page that listens on `host`: with any other than a loopback one, this machine's own too."""
    try:
        hosts = ServedHosts(allowed, frozenset if is_loopback(host) else machine_names)
        if host not in ANY_ADDRESS:
            hosts.add(f"[{host}]" if ":" in host else host)
    except ValueError as error:
        raise InputError("host_invalid", reason=str(error)) from None
    return hosts


def is_loopback(host: str) -> bool:
    """Whether listening on `host` is for this machine alone."""
    return host in LOOPBACK or host == "::1"


def accounts(host: str, options: ServeOptions) -> list[tuple[str, str]]:
    """The logins given; one that is made up and told where none is given and others can reach the page."""
    given = read_logins(options)
    if given or (is_loopback(host) and not options.share and not options.allowed_hosts):
        return given
    password = secrets.token_urlsafe(12)
    options.say(say("serve.password", options.language, user=USER, password=password))
    return [(USER, password)]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is told before anything is built. Raises StudioError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StudioError("port_taken", port=port, host=host, reason=error.strerror or str(error)) from None
    return listener


def open_tunnel(host: str, port: int, hosts: ServedHosts, options: ServeOptions) -> str | None:
    """A public link through gradio's tunnel, https from there on; None where there is none: the page runs on."""
    try:
        url = networking.setup_tunnel(host, port, secrets.token_urlsafe(32), None, None)
        url = url.replace("http://", "https://", 1)
        hosts.add(url)
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        options.say(say("serve.share_failed", options.language, reason=reason))
        return None
    options.say(say("serve.public", options.language, url=url))
    return url


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
