"""The page's html as it leaves the server: gradio's, with a script of ours before gradio's own, and small."""

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEVEL = 6  # of gzip: 15 ms on a slow core, and a sixth of the bytes


class PageHtml:
    """ASGI middleware of the path "/" alone. first_script: javascript that runs before anything of gradio's does:
    `head` of gradio comes after its modules."""

    def __init__(self, app: ASGIApp, first_script: str) -> None:
        self._app = app
        self._page = GZipMiddleware(_Scripted(app, first_script), compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"] == "/"
        await (self._page if is_page else self._app)(scope, receive, send)


class _Scripted:
    def __init__(self, app: ASGIApp, script: str) -> None:
        self._app, self._head = app, f"<head><script>{script}</script>".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            html = bytes(body).replace(b"<head>", self._head, 1)
            MutableHeaders(scope=start)["Content-Length"] = str(len(html))
            await send(start)
            await send({"type": "http.response.body", "body": html})

        await self._app(scope, receive, collect)
