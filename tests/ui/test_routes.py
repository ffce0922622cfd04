"""The table: every route of the running application, every method, every kind of origin, with and without a login.

The list comes from the application itself. A route that stands in neither table here fails: whoever adds one, or
updates gradio, decides what it is.
"""

import asyncio
import itertools
import logging
import re
from dataclasses import dataclass

import httpx
import pytest

from studio.api.keys import KEYS_FILE, Keys
from studio.api.operations import OPERATIONS
from studio.api.routes import api_endpoints
from studio.evals.blind_tests import BlindTests
from studio.evals.evaluate_routes import EvaluateRoutes
from studio.evals.evaluations import Evaluations
from studio.service.endpoints import joined
from tests.ui.serving import finished_backend, member_of, serving

# What is served; open: without a login. Keyed: for keys alone, which tests/api/test_rules.py tries.
OPEN = {("GET", "/login"), ("POST", "/login"), ("POST", "/logout"), ("GET", "/robots.txt"), ("GET", "/favicon.ico")}
OPEN |= {(operation.method, operation.path) for operation in OPERATIONS if operation.open}
PEOPLES = {(operation.method, operation.path) for operation in OPERATIONS if operation.person}
KEYED = {(operation.method, operation.path) for operation in OPERATIONS} - OPEN - PEOPLES
SERVED = (
    OPEN
    | PEOPLES
    | KEYED
    | {
        ("GET", "/"),
        ("GET", "/assets/{path:path}"),
        ("GET", "/static/{path:path}"),
        ("GET", "/theme.css"),
        ("GET", "/studio/alive"),
        ("GET", "/studio/media/{id}/{kind}"),
        ("GET", "/gradio_api/app_id"),
        ("GET", "/gradio_api/upload_progress"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/{api_name}"),  # for the name "predict" alone
        # Of gradio_client; calls of the three endpoints with names alone pass (test_gradio_client.py).
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/queue/data"),
        ("POST", "/gradio_api/queue/join"),
        ("GET", "/studio/evaluations"),
        ("POST", "/studio/evaluations"),
        ("GET", "/studio/evaluations/choices"),
        ("POST", "/studio/evaluations/{name}/{act}"),
        ("POST", "/studio/evaluations/{name}/file/{file}"),
        ("GET", "/studio/reports/{path:path}"),
        ("GET", "/studio/blind"),
        ("POST", "/studio/blind"),
        ("GET", "/studio/blind/{test}/pair"),
        ("GET", "/studio/blind/{test}/clip/{token}"),
        ("POST", "/studio/blind/{test}/vote"),
        ("GET", "/studio/blind/{test}/result"),
    }
)
# Routes that gradio has and the page does not need. Those with a slash at the end are the same routes again.
CLOSED = {
    "GET": """/openapi.json /manifest.json /monitoring /monitoring/summary /monitoring/{key} /pwa_icon
        /pwa_icon/{size} /logout /svelte/{path:path} /gradio_api/deep_link /gradio_api/dev/reload
        /gradio_api/call/{api_name}/{event_id} /gradio_api/call/v2/{api_name}/{event_id}
        /gradio_api/custom_component/{id}/{environment}/{type}/{file_name} /gradio_api/file/{path:path}
        /gradio_api/file={path_or_url:path} /gradio_api/heartbeat/{session_hash}
        /gradio_api/login_check /gradio_api/openapi.json /gradio_api/proxy={url_path:path}
        /gradio_api/queue/status /gradio_api/runs /gradio_api/startup-events
        /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file
        /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8
        /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext} /gradio_api/theme.css
        /gradio_api/token /gradio_api/user /gradio_api/vibe-code""",
    "POST": """/gradio_api/api/{api_name} /gradio_api/call/{api_name} /gradio_api/call/v2/{api_name}
        /gradio_api/cancel /gradio_api/component_server /gradio_api/process_recording
        /gradio_api/reset /gradio_api/stream/{event_id} /gradio_api/stream/{event_id}/close
        /gradio_api/undo-vibe-edit /gradio_api/vibe-code /gradio_api/vibe-edit /gradio_api/vibe-starter-queries""",
}
OWN = [{}, {"Origin": "{own}"}, {"Origin": "{own}", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "https://evil.gradio.live", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:{port}"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Host": "rebind.example"},
    {"Host": "rebind.example", "Origin": "http://rebind.example", "Sec-Fetch-Site": "same-origin"},
]


def routes(router, prefix=""):
    """(method, path) of everything a router serves, in what is mounted and included too."""
    for route in router.routes:
        if inner := getattr(route, "original_router", None):  # how fastapi holds an included router
            yield from routes(inner, prefix)
        elif methods := getattr(route, "methods", None):
            yield from ((method, prefix + route.path) for method in methods)
        else:
            yield from routes(route.app, prefix + route.path)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    fake, _ = finished_backend(tmp_path_factory.mktemp("routes"))
    api = api_endpoints(fake.backend, Keys(fake.backend.queue.folder / KEYS_FILE))
    evaluations = Evaluations(tmp_path_factory.mktemp("runs"), list, len)
    made = EvaluateRoutes(evaluations, fake.models, lambda: dict.fromkeys(fake.models, True)).endpoints()
    tests = BlindTests(evaluations.folder, evaluations.folder).endpoints()
    with serving(fake, joined(api, made, tests), auth=(("ada", "lovelace"),)) as page:
        yield page


@pytest.fixture(scope="module")
def table(served):
    """(method, path, whether it is served, whether it is open) of every route the application has."""
    closed = {(method, path) for method, paths in CLOSED.items() for path in paths.split()}
    found, unlisted = [], []
    for method, path in sorted(set(routes(served.app))):
        key = ("GET" if method == "HEAD" else method, path)
        bare = (key[0], path.rstrip("/"))
        unlisted += [] if key in SERVED or bare in closed or bare in SERVED else [key]
        found.append((method, path.replace("run/{api_name}", "run/predict"), key in SERVED, key in OPEN))
    assert unlisted == [] and len(found) > 80
    assert sorted(SERVED - {("GET" if method == "HEAD" else method, path) for method, path in routes(served.app)}) == []
    return found


def test_every_route_is_listed(table):
    assert sum(is_served for _, _, is_served, _ in table) < 70  # four of them for gradio_client


@dataclass(frozen=True)
class Case:
    """A request: of a route, from a kind of origin, by somebody who came in or by nobody."""

    method: str
    path: str
    is_served: bool
    is_open: bool
    headers: dict[str, str]
    is_foreign: bool
    is_member: bool

    def is_right(self, status):
        if self.is_foreign:
            return status == 403
        if ("GET" if self.method == "HEAD" else self.method, self.path.replace("/x", "/{id}")) in KEYED:
            return status == 401
        if not (self.is_member or self.is_open):
            return status == (303 if (self.method, self.path) == ("GET", "/") else 401)
        if not self.is_served:
            return status in (404, 405)
        # 401 and 429 are what the login says to no password; 4xx what a route says to nothing in particular
        return status in ((200, 204, 303, 401, 429) if self.is_open else (200, 204, 400, 404, 422))


def all_cases(table):
    """Every route with every kind of origin: without a login too where the origin is the page's own."""
    kinds = [(kind, False, member) for kind in OWN for member in (True, False)] + [
        (kind, True, True) for kind in FOREIGN
    ]
    for (method, template, is_served, is_open), (headers, is_foreign, is_member) in itertools.product(table, kinds):
        path = re.sub(r"\{[^}]*\}", "x", template)
        if path != "/logout" or is_foreign or not is_member:  # test_gate.py logs out; here the session goes on
            yield Case(method, path, is_served, is_open, headers, is_foreign, is_member)


async def statuses(served, cases, cookies):
    """The status of every case, without a network between."""
    words = {"own": served.url, "port": served.port}
    transport, found = httpx.ASGITransport(served.app, client=("127.0.0.1", 1)), []
    async with httpx.AsyncClient(transport=transport, base_url=served.url) as client:
        for case in cases:
            headers = {name: value.format(**words) for name, value in case.headers.items()}
            given = {"Cookie": cookies} if case.is_member else {}
            found.append((await client.request(case.method, case.path, headers=headers | given)).status_code)
    return found


def test_every_route_answers_as_its_kind_of_origin_may_hear(served, table, caplog):
    """403 for what is foreign, though logged in; 401 without a login; 404 for what is closed; the rest goes on."""
    caplog.set_level(logging.CRITICAL, "studio.service.gate")
    with member_of(served) as client:
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    cases = list(all_cases(table))
    found = asyncio.run(statuses(served, cases, cookies))
    assert len(cases) > 1800
    assert [(case, status) for case, status in zip(cases, found, strict=True) if not case.is_right(status)] == []
