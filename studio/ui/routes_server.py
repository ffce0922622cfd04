"""A server of routes alone, behind the same gate and login as the page, without gradio's page."""

import webbrowser
from pathlib import Path

from starlette.applications import Starlette

from studio.config import StudioConfig
from studio.service.endpoints import Endpoints
from studio.service.gate import Gate
from studio.service.login import Login
from studio.service.login_routes import LOGIN_RULES, login_routes
from studio.service.uploads import Uploads
from studio.ui import login_page
from studio.ui.server import Running, ServeOptions, accounts, listen, open_tunnel, served_hosts
from studio.ui.strings import say


def serve_routes(served: Endpoints, folder: Path, config: StudioConfig, options: ServeOptions) -> Running:
    """Serve the endpoints from a thread; `close()` of what is returned ends it. folder: for this server's own files.

    Whoever else can reach it needs a login, as for the page. Raises InputError and StudioError as `server.serve`.
    """
    host = options.host or config.host
    hosts, login = served_hosts(host, options.allowed_hosts), Login(accounts(host, options))
    uploads = Uploads(folder / "uploads", 0, 0)  # none are taken
    listener = listen(host, options.port if options.port is not None else config.port)
    routes = [*login_routes(login, login_page.render, login_page.HEADERS), *served.routes]
    app = Starlette(routes=routes)
    app.add_middleware(Gate, rules=(*LOGIN_RULES, *served.rules), hosts=hosts, login=login, uploads=uploads)
    running = Running(app, listener)
    options.say(say("serve.local", options.language, url=running.url))
    if options.share:
        running.public_url = open_tunnel(running.host, running.port, hosts, options)
    if options.inbrowser:
        webbrowser.open(running.url)
    return running
