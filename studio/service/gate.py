"""The one gate before page, login, media and API: whatever is not in its table of rules is not served.

In order: the Host must be a name of the page, the request must come from the page itself or carry a key, somebody must
have come in, the path must be in the table, a key must open it, and the body must be small (or an upload, which is
counted as it streams). A refusal is a clean 4xx and one line in the log.
"""

import logging
import math
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.messages import clean, message
from studio.service.guests import guest_cookie, guest_cookie_name, maker_of, new_token
from studio.service.login import THIS_MACHINE, Login, client_of
from studio.service.origin import ServedHosts, foreign
from studio.service.rights import LIMITS, Right, asking
from studio.service.uploads import Uploads

BODY_LIMIT = 2**20  # bytes, outside the upload routes
LONGEST_NAME = 200  # bytes of one part of a path
VISITOR = "studio.visitor"  # key of a scope that passed
LOCAL_USER = "local"  # where no login is required
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
FRAMES = "frame-ancestors 'none'"
# By these the sender of a request says what only a proxy may: stripped, so that nothing behind the gate believes them.
FORWARDED_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
                     "x-forwarded-prefix", "x-real-ip", "x-gradio-server")  # fmt: skip
_WORD = re.compile(r"\w+=[\w-]{1,64}", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A key that is known. scopes: what it opens; wait: seconds until its rate lets it in again, 0.0: now."""

    user: str
    scopes: frozenset[str]
    wait: float = 0.0


Check = Callable[[bytes], str | None]
Needs = Callable[[bytes], Right]
KeyChecker = Callable[[str], Key | None]
RefusalBody = Callable[[int, str, str], Mapping[str, Any]]  # of status, code and sentence


@dataclass(frozen=True)
class Rule:
    """What is served: a method and a path, in which {name} is one part and {name...} one or more.

    open: without a login. key: the scope of the keys that open it, "" for none. login: whether a login opens it; where
    nobody needs one, everything is open. upload: the body streams to disk, up to the limit for uploads. query: the
    parameters that are passed on, each a short word. check: why a body is none of the page's, None for a sound one.
    needs: the right of those who may, or how a sound body says it; None: to look for what is read, all for the rest.
    """

    method: str
    path: str
    open: bool = False
    key: str = ""
    login: bool = True
    upload: bool = False
    query: tuple[str, ...] = ()
    check: Check | None = None
    needs: Right | Needs | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        parts = re.split(r"(\{\w+(?:\.\.\.)?\})", self.path)
        named = {True: "(?:.+)", False: "(?:[^/]+)"}
        return re.compile("".join(named["..." in part] if part[:1] == "{" else re.escape(part) for part in parts))

    def needed(self, body: bytes = b"") -> Right:
        """The right that a request needs."""
        if self.needs is None:
            return Right.WATCH if self.open or self.method == "GET" else Right.ALL
        return self.needs if isinstance(self.needs, Right) else self.needs(body)

    def serves(self, method: str, path: str) -> bool:
        """Whether this is the rule of a request; HEAD is a GET without its body."""
        return ("GET" if method == "HEAD" else method) == self.method and bool(self.pattern.fullmatch(path))


@dataclass(frozen=True)
class Visitor:
    """Who sent a request that passed. user: the name of the login or key. client: whose login tries count together.
    scopes: of the key, None for whoever came in without one."""

    user: str
    client: str
    origin: str
    token: str = ""
    scopes: frozenset[str] | None = None

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https:")


class Refusal(Exception):
    """A request that is not served: the status, a code of messages.py with its values, and the reason for the log."""

    def __init__(self, status: int, code: str, reason: str, **values: object) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason, self.values = status, code, reason, values


def no_keys(text: str) -> Key | None:
    """The checker where there are no keys: none is known."""
    return None


def own_body(status: int, code: str, sentence: str) -> Mapping[str, Any]:
    """How the page's own routes refuse."""
    return {"code": code, "detail": sentence}


class Gate:
    """ASGI middleware. keys: what a key opens, None for an unknown one. bodies: what a refusal says, by how its path
    begins; `own_body` elsewhere. guests: what those may who come from other machines."""

    def __init__(
        self,
        app: ASGIApp,
        rules: Iterable[Rule],
        hosts: ServedHosts,
        login: Login,
        uploads: Uploads,
        keys: KeyChecker = no_keys,
        bodies: Mapping[str, RefusalBody] | None = None,
        guests: Right = Right.ALL,
    ) -> None:
        self._app, self._rules, self._bodies, self._guests = app, tuple(rules), dict(bodies or {}), guests
        self._hosts, self._login, self._uploads, self._keys = hosts, login, uploads, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["type"] != "http":  # a websocket: nothing here has one
            _log.warning("%s %s is not served", scope["type"], clean(scope.get("path", "")))
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _with_headers(send)
        try:
            visitor = self._visitor(scope, headers)
            rule = self._rule(scope, visitor)
            passed, right = _passed(scope, visitor, rule), self._right(visitor)
            maker, cookie = self._maker(visitor, headers) if right == Right.MAKE else ("", "")
            if cookie and scope["method"] == "GET" and scope["path"] == "/":
                guarded = _with_headers(send, cookie)
            with asking(right, maker):
                if rule.upload:
                    _permit(rule.needed(), right)
                    await self._upload(passed, headers, receive, guarded)
                elif scope["method"] in ("GET", "HEAD"):
                    _permit(rule.needed(), right)
                    await self._app(passed, receive, guarded)
                else:
                    body = await _small_body(headers, receive, rule)
                    _permit(rule.needed(body), right)
                    await self._app(passed, _replayed(body, receive), guarded)
        except Refusal as refusal:
            bodies = [made for beginning, made in self._bodies.items() if scope["path"].startswith(beginning)]
            await _refused(scope, headers, refusal, next(iter(bodies), own_body))(scope, receive, guarded)

    def _visitor(self, scope: Scope, headers: Headers) -> Visitor:
        """Who asks. Raises Refusal for a foreign name, a foreign page or an unknown key; "" is nobody yet."""
        hosts = headers.getlist("host")
        own = self._hosts.origin(hosts[0]) if len(hosts) == 1 else None
        if own is None:
            named = clean(", ".join(hosts))
            raise Refusal(403, "host_unknown", f"Host is {named}", host=named)
        address = (scope.get("client") or ("",))[0]
        forwarded = own.startswith("https:") or any(name in headers for name in FORWARDED_HEADERS)
        client = client_of(address, forwarded)
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            if (found := self._keys(key.strip())) is None:
                raise Refusal(401, "key_unknown", "the key is unknown")
            if found.wait > 0:
                raise Refusal(429, "key_rate", f"{found.user} is over its rate", seconds=math.ceil(found.wait))
            return Visitor(found.user, client, own, scopes=found.scopes)
        reason = foreign(scope["method"], headers, own) if len(headers.getlist("origin")) < 2 else "two Origins"
        if reason:
            raise Refusal(403, "page_foreign", reason)
        if not self._login.required:
            return Visitor(LOCAL_USER, client, own)
        token = _cookie(headers, cookie_name(own))
        return Visitor(self._login.user(token) or "", client, own, token)

    def _right(self, visitor: Visitor) -> Right:
        """What a visitor may do; a key's scopes were looked at with its rule."""
        return self._guests if visitor.scopes is None and visitor.client != THIS_MACHINE else Right.ALL

    def _maker(self, visitor: Visitor, headers: Headers) -> tuple[str, str]:
        """How the queue names what a guest makes, and the Set-Cookie header of one who is not known yet, else ""."""
        token = _cookie(headers, guest_cookie_name(visitor.origin))
        maker = maker_of(visitor.user if self._login.several else "", token)
        return maker, "" if maker else guest_cookie(visitor.origin, new_token())

    def _rule(self, scope: Scope, visitor: Visitor) -> Rule:
        method, path = scope["method"], scope["path"]
        parts = path.encode().split(b"/")
        sound = path.isprintable() and "\\" not in path and b".." not in parts and max(map(len, parts)) <= LONGEST_NAME
        rule = next((rule for rule in self._rules if sound and rule.serves(method, path)), None)
        if not (rule and rule.open):
            self._admit(visitor, rule)
        if rule is None:
            known = sound and any(rule.pattern.fullmatch(path) for rule in self._rules)
            raise Refusal(405 if known else 404, "not_served", "it is not served")
        return rule

    def _admit(self, visitor: Visitor, rule: Rule | None) -> None:
        """Raise Refusal where the rule is not for this visitor; to nobody not even that there is none is told."""
        if visitor.scopes is not None:
            if rule and rule.key not in visitor.scopes:
                raise Refusal(403, "key_scope", f"the key {visitor.user} does not open it")
        elif rule and not rule.login and self._login.required:
            raise Refusal(401, "key_needed", "no key was given")
        elif not visitor.user:
            raise Refusal(401, "login_needed", "nobody came in")

    async def _upload(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Count the body while it streams; what lies longest unused makes room for it."""
        limit, promised = self._uploads.request_limit, headers.get("content-length", "")
        size = int(promised) if promised.isdecimal() else limit
        too_large = Refusal(413, "body_large", f"the upload is over {limit} bytes", limit_mb=limit >> 20)
        if size > limit:
            raise too_large
        if not self._uploads.reserve(size):
            raise Refusal(503, "uploads_busy", "other uploads take all the room")
        read = 0

        async def counted() -> Message:
            nonlocal read
            part = await receive()
            read += len(part.get("body", b""))
            if read > size:  # more than a header promised, or without a promise; whoever reads it answers with this
                _log.warning("%s: %s", clean(scope["path"]), too_large.reason)
                raise HTTPException(413, message(too_large.code, too_large.values))
            return part

        async def sound(part: Message) -> None:
            """A form that breaks its reader is the sender's fault: the reader's 500 becomes a refusal."""
            if part["type"] == "http.response.start" and part["status"] >= 500:
                raise Refusal(400, "call_unknown", f"the upload was not understood ({sys.exc_info()[1]!r})")
            await send(part)

        try:
            await self._app(scope, counted, sound)
        finally:
            self._uploads.release(size)


def _cookie(headers: Headers, name: str) -> str:
    """A cookie's value, "" where it is not sent."""
    return cookie_parser("; ".join(headers.getlist("cookie"))).get(name, "")


def _permit(needed: Right, right: Right) -> None:
    """Raise Refusal where a guest may not."""
    if needed > right:
        raise Refusal(403, LIMITS[right], f"a guest may {right.name.lower()} alone")


def reader_language(accepted: str, chosen: str = "") -> str:
    """One of "en" and "zh": what was chosen, else the first of the two in an Accept-Language header."""
    tags = (part.strip().lower()[:2] for part in accepted.split(","))
    return chosen if chosen in ("en", "zh") else next((tag for tag in tags if tag in ("en", "zh")), "en")


def cookie_name(origin: str) -> str:
    """Of the session's cookie. Browsers share cookies between ports of a host, and with https between its subdomains
    unless the name begins with __Host-."""
    return "__Host-studio" if origin.startswith("https:") else f"studio-{origin.rpartition(':')[2].strip('/')}"


def _passed(scope: Scope, visitor: Visitor, rule: Rule) -> Scope:
    """The scope for what is behind the gate: who asks, under which scheme, what the rule lets pass of a query, and no
    claims of proxies."""
    names = {name.encode() for name in FORWARDED_HEADERS}
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in names]
    given = scope["query_string"].decode("latin-1").split("&")
    query = "&".join(part for part in given if part.partition("=")[0] in rule.query and _WORD.fullmatch(part))
    scheme = visitor.origin.partition(":")[0]
    return {**scope, "scheme": scheme, "headers": headers, "query_string": query.encode(), VISITOR: visitor}


def _refused(scope: Scope, headers: Headers, refusal: Refusal, body: RefusalBody) -> Response:
    if refusal.code == "login_needed" and scope["method"] == "GET" and scope["path"] == "/":
        return RedirectResponse("login", 303)  # how everybody begins: no refusal to be logged
    _log.warning("%s %s refused (%d): %s", scope["method"], clean(scope["path"]), refusal.status,
                 clean(refusal.reason))  # fmt: skip
    detail = message(refusal.code, refusal.values, reader_language(headers.get("accept-language", "")))
    waiting = {"Retry-After": str(refusal.values["seconds"])} if refusal.status == 429 else {}
    return JSONResponse(body(refusal.status, refusal.code, detail), refusal.status, waiting)


def _with_headers(send: Send, cookie: str = "") -> Callable[[Message], Awaitable[None]]:
    """Answers keep out of frames and other pages, whatever made them; no other page is let in by CORS. cookie: a
    Set-Cookie header that goes with them."""

    async def guarded(part: Message) -> None:
        if part["type"] == "http.response.start":
            headers = MutableHeaders(scope=part)
            for name in [name for name in headers if name.lower().startswith("access-control-")]:
                del headers[name]
            for name, value in COMMON_HEADERS.items():
                headers[name] = value
            policy = headers.get("Content-Security-Policy", "base-uri 'self'; object-src 'none'; form-action 'self'")
            headers["Content-Security-Policy"] = f"{policy}; {FRAMES}"
            if cookie:
                headers.append("Set-Cookie", cookie)
        await send(part)

    return guarded


async def _small_body(headers: Headers, receive: Receive, rule: Rule) -> bytes:
    """The whole body, before anything behind the gate sees it. Raises Refusal where it is over the limit or unsound."""
    too_large = Refusal(413, "body_large", f"the body is over {BODY_LIMIT} bytes", limit_mb=BODY_LIMIT >> 20)
    promised = headers.get("content-length", "0")
    if promised.isdecimal() and int(promised) > BODY_LIMIT:
        raise too_large
    body, more = bytearray(), True
    while more:
        part = await receive()
        if part["type"] == "http.disconnect":
            raise Refusal(400, "call_unknown", "the client left before its body was whole")
        body += part.get("body", b"")
        more = part.get("more_body", False)
        if len(body) > BODY_LIMIT:
            raise too_large
    if rule.check and (reason := rule.check(bytes(body))):
        raise Refusal(422, "call_unknown", reason)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` from the start: the body at once, then whatever the client does."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
