"""The gate: nothing passes that is not in its table, and every refusal is a clean answer and one line in the log."""

import itertools
import logging

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from studio.service.gate import BODY_LIMIT, VISITOR, Gate, Key, Rule, cookie_name, reader_language
from studio.service.login import THIS_MACHINE, Login
from studio.service.login_routes import LOGIN_RULES, LoginView, login_routes
from studio.service.origin import ServedHosts
from studio.service.uploads import FORM_BYTES, Uploads

OWN, TUNNEL = "http://127.0.0.1:7860", "https://abc.gradio.live"
ACCOUNT = {"user": "ada", "password": "lovelace"}
CROSS = {"Sec-Fetch-Site": "cross-site"}


async def anything(request: Request) -> Response:
    """Whatever is behind the gate: says who asks and what came."""
    visitor, body = request.scope[VISITOR], await request.body()
    if "break" in request.headers:
        raise TypeError(request.headers["break"])
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}
    told = {"user": visitor.user, "bytes": len(body), "url": str(request.url), "headers": dict(request.headers)}
    return JSONResponse(told, headers=headers)


def own_policy(request: Request) -> Response:
    return PlainTextResponse("x", headers={"Content-Security-Policy": "default-src 'none'", "X-Frame-Options": "ALLOW"})


RULES = (
    *LOGIN_RULES,
    Rule("GET", "/"),
    Rule("GET", "/open", open=True),
    Rule("GET", "/files/{id}/{kind}"),
    Rule("GET", "/assets/{path...}"),
    Rule("GET", "/policy"),
    Rule("GET", "/query", query=("a",)),
    Rule("POST", "/do"),
    Rule("GET", "/v1/told", key="read"),
    Rule("GET", "/v1/videos", key="read", login=False),
    Rule("POST", "/v1/videos", key="write", login=False, upload=True),
    Rule("POST", "/upload", upload=True),
    Rule("POST", "/checked", check=lambda body: None if body == b"sound" else "it is unsound\n\x1b[31m"),
)
KEYS = {
    "secret-key": Key("robot", frozenset({"read", "write"})),
    "looks": Key("watcher", frozenset({"read"})),
    "hasty": Key("hurry", frozenset({"read", "write"}), wait=1.2),
}
BODIES = {"/v1/": lambda status, code, sentence: {"error": {"code": code, "message": sentence, "status": status}}}


@pytest.fixture
def login():
    return Login([("ada", "lovelace")])


@pytest.fixture
def uploads(tmp_path):
    made = Uploads(tmp_path / "uploads", 1000, 10_000)
    made.clear()
    return made


@pytest.fixture
def app(login, uploads):
    views = login_routes(login, lambda view: f"<p>{view.language} {view.user} {view.wrong} {view.wait}</p>", {})
    made = Starlette(routes=[*views, Route("/policy", own_policy), Mount("/", Starlette(routes=[
        Route("/{path:path}", anything, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])]))])  # fmt: skip
    hosts = ServedHosts([TUNNEL])
    made.add_middleware(Gate, rules=RULES, hosts=hosts, login=login, uploads=uploads, keys=KEYS.get, bodies=BODIES)
    return made


@pytest.fixture
def stranger(app):
    return TestClient(app, OWN, follow_redirects=False)


@pytest.fixture
def member(app):
    client = TestClient(app, OWN, follow_redirects=False)
    assert client.post("/login", data=ACCOUNT).status_code == 303
    return client


def test_only_what_stands_in_the_table_is_served(member):
    served = {("GET", "/"), ("GET", "/files/a/b"), ("GET", "/assets/a"), ("GET", "/assets/a/b.js"), ("POST", "/do")}
    paths = ("/", "/files/a/b", "/files/a", "/files/a/b/c", "/files//b", "/assets/a", "/assets/a/b.js", "/assets/",
             "/do", "/do/", "/DO", "/config", "/gradio_api/queue/join", "/assets/%2e%2e/do", "/assets/a%5Cb",
             "/files/a/..", "/assets/" + "x" * 201, "/assets/" + "影" * 67, "/do%0A", "/%2Fdo")  # fmt: skip
    wrong = []
    for method, path in itertools.product(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"), paths):
        status = member.request(method, path).status_code
        wrong += [] if (status == 200) == ((method, path) in served) else [(method, path, status)]
        wrong += [] if status in (200, 404, 405) else [(method, path, status)]
    assert wrong == []
    assert member.head("/").status_code == 200 and member.head("/do").status_code == 405


def test_without_a_login_the_open_ones_alone_are_served(stranger):
    assert stranger.get("/open").json()["user"] == "" and stranger.get("/login").status_code == 200
    assert stranger.get("/").headers["location"] == "login"
    answers = [stranger.get("/files/a/b"), stranger.get("/nothing"), stranger.post("/do"), stranger.post("/upload")]
    assert [answer.status_code for answer in answers] == [401] * 4
    assert answers[0].json()["code"] == "login_needed"
    assert stranger.get("/nothing", headers={"Accept-Language": "zh-CN,en"}).json()["detail"].startswith("请先登录")


def test_one_cookie_and_nothing_else_is_the_login(app, stranger, login):
    answer = stranger.post("/login", data=ACCOUNT)
    assert answer.status_code == 303 and answer.headers["location"] == "./"
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith("studio-7860=") and {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie and "Domain" not in cookie
    behind_tls = TestClient(app, TUNNEL, follow_redirects=False).post("/login", data=ACCOUNT)
    (cookie,) = behind_tls.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-studio=") and {"HttpOnly", "SameSite=lax", "Path=/", "Secure"} <= set(
        cookie.split("; ")
    )
    token = login.enter("ada", "lovelace", THIS_MACHINE).token
    for cookies in ({"studio-7861": token}, {"studio-7860": "x" + token}, {"studio-7860": ""}, {"__Host-studio": token},
                    {"access-token-x": token}):  # fmt: skip
        assert TestClient(app, OWN, cookies=cookies).get("/files/a/b").status_code == 401, cookies
    assert TestClient(app, OWN, cookies={"studio-7860": token}).get("/files/a/b").json()["user"] == "ada"
    assert {cookie_name(origin) for origin in ("http://a:1", "http://a:2", "http://a", "https://a")} == {
        "studio-1", "studio-2", "studio-a", "__Host-studio"}  # fmt: skip


def test_a_wrong_word_keeps_the_name_and_tells_how_long_to_wait(stranger):
    wrong = {"user": " ada ", "password": "x", "language": "zh"}
    answers = [stranger.post("/login", data=wrong) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert "zh ada True 0" in answers[0].text and "zh ada True 1" in answers[2].text
    assert "zh ada False 1" in answers[3].text and answers[3].headers["retry-after"] == "1"
    assert all("set-cookie" not in answer.headers and "x" not in answer.headers.values() for answer in answers)
    broken = stranger.post("/login", content=b"user=%ff%fe&" * 20, headers={"Content-Type": "x"})
    assert broken.status_code == 429


def test_log_out_ends_this_session_alone(app, member):
    other = TestClient(app, OWN, follow_redirects=False)
    other.post("/login", data=ACCOUNT)
    kept = dict(member.cookies)
    answer = member.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "login") and not dict(member.cookies)
    assert TestClient(app, OWN, cookies=kept).get("/files/a/b").status_code == 401, "the cookie alone is worth nothing"
    assert other.get("/files/a/b").status_code == 200
    assert other.get("/logout").status_code == 405, "a picture's address must not log out"
    assert other.get("/login").headers["location"] == "./"


def test_a_foreign_page_is_refused_with_and_without_a_cookie(member, stranger):
    kinds = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:8000"}, CROSS,
             {"Sec-Fetch-Site": "same-site"}, {"Origin": OWN, **CROSS},
             {"Origin": "https://evil.gradio.live"}]  # fmt: skip
    asked = [("GET", "/"), ("GET", "/open"), ("GET", "/files/a/b"), ("POST", "/do"), ("POST", "/upload"),
             ("POST", "/login"), ("POST", "/logout"), ("OPTIONS", "/do"), ("GET", "/nothing")]  # fmt: skip
    wrong = []
    for client, headers, (method, path) in itertools.product((member, stranger), kinds, asked):
        answer = client.request(method, path, headers=headers)
        wrong += (
            [] if answer.status_code == 403 and answer.json()["code"] == "page_foreign" else [(method, path, headers)]
        )
        wrong += [name for name in answer.headers if name.startswith("access-control")]
    assert wrong == []
    assert member.get("/files/a/b").status_code == 200, "the session goes on"
    link = {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert member.get("/", headers=link).status_code == 200 and member.post("/do", headers=link).status_code == 403
    own = {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}
    assert member.post("/do", headers=own).status_code == 200 and member.post("/do").status_code == 200
    two = [("Origin", OWN), ("Origin", "http://evil.example")]
    assert member.post("/do", headers=two).status_code == 403


def test_a_foreign_host_is_refused_whatever_else_is_right(member):
    for host in (
        "rebind.example",
        "rebind.example:7860",
        "127.0.0.1.rebind.example",
        "",
        "0.0.0.0:7860",
        "evil.gradio.live",
    ):
        for headers in (
            {"Host": host},
            {"Host": host, "Origin": f"http://{host}"},
            {"Host": host, "Authorization": "Bearer secret-key"},
        ):
            answer = member.get("/files/a/b", headers=headers)
            assert answer.status_code == 403 and answer.json()["code"] == "host_unknown", headers
    assert member.get("/files/a/b", headers=[("Host", "127.0.0.1:7860"), ("Host", "rebind.example")]).status_code == 403
    assert "--allowed-host" in member.get("/", headers={"Host": "rebind.example"}).json()["detail"]


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_a_key_opens_its_own_rules_and_skips_the_rule_of_origins(stranger, member):
    assert stranger.post("/v1/videos", headers=bearer("secret-key")).json()["user"] == "robot"
    foreign = stranger.post("/v1/videos", headers={**bearer("secret-key"), **CROSS, "Origin": "http://evil.example"})
    assert foreign.json()["user"] == "robot" and "access-control-allow-origin" not in foreign.headers
    for wrong in ("Bearer x", "Bearer ", "Bearer", "bearer SECRET-KEY", "Bearer secret-key secret-key"):
        for client in (stranger, member):
            answer = client.get("/v1/videos", headers={"Authorization": wrong})
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "key_unknown", wrong
    assert stranger.post("/v1/videos", headers={"Authorization": "Basic secret-key"}).status_code == 401
    assert stranger.post("/v1/videos", headers={**CROSS, "Authorization": "Basic secret-key"}).status_code == 403


def test_a_key_opens_nothing_of_the_page_and_no_more_than_its_scope(stranger, member):
    wrong = []
    for client, key, (method, path) in itertools.product(
        (stranger, member),
        ("secret-key", "looks"),
        [("GET", "/"), ("POST", "/do"), ("POST", "/upload"), ("GET", "/files/a/b"), ("GET", "/assets/a"),
         ("GET", "/v1/told"), ("GET", "/v1/videos"), ("POST", "/v1/videos"), ("GET", "/open"),
         ("GET", "/nothing"), ("PUT", "/v1/videos")],
    ):  # fmt: skip
        answer = client.request(method, path, headers=bearer(key))
        right = {"/open": 200, "/nothing": 404, "/v1/told": 200}.get(path, 200 if path == "/v1/videos" else 403)
        right = 405 if method == "PUT" else 403 if (key, method, path) == ("looks", "POST", "/v1/videos") else right
        wrong += [] if answer.status_code == right else [(key, method, path, answer.status_code)]
    assert wrong == []
    answer = stranger.post("/v1/videos", headers=bearer("looks"))
    assert answer.json()["error"]["code"] == "key_scope" and "read keys only look" in answer.json()["error"]["message"]


def test_a_key_over_its_rate_is_told_how_long_to_wait(stranger):
    answer = stranger.get("/v1/videos", headers=bearer("hasty"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["code"] == "key_rate"


def test_a_login_opens_what_asks_for_a_key_only_where_the_rule_says_so(stranger, member):
    assert member.get("/v1/told").json()["user"] == "ada" and stranger.get("/v1/told").status_code == 401
    for client in (member, stranger):
        for method in ("GET", "POST"):
            answer = client.request(method, "/v1/videos")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_needed")
            assert "Authorization: Bearer" in answer.json()["error"]["message"]
    assert member.get("/v1/nothing").json()["error"]["code"] == "not_served"
    assert member.get("/nothing").json()["code"] == "not_served", "elsewhere a refusal has the page's own form"


def test_nothing_behind_the_gate_believes_a_proxy(member):
    claims = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4",
              "Forwarded": "for=1.2.3.4", "X-Real-IP": "1.2.3.4", "X-Gradio-Server": "http://evil.example"}  # fmt: skip
    told = member.get("/files/a/b", headers=claims).json()
    assert told["url"] == f"{OWN}/files/a/b" and not {name.lower() for name in claims} & set(told["headers"])


def test_of_a_query_only_what_a_rule_names_is_passed_on(member):
    given = {"a=1&page=x&b=%00": "a=1", "a": "", "a=": "", "a=x%2Fy": "", "a=1&a=2": "a=1&a=2", "a=" + "x" * 65: ""}
    found = {query: member.get(f"/query?{query}").json()["url"].partition("?")[2] for query in given}
    assert found == given
    assert member.get("/?a=1").json()["url"] == f"{OWN}/"


def test_behind_the_tunnel_everything_is_https(app):
    client = TestClient(app, TUNNEL, follow_redirects=False)
    client.post("/login", data=ACCOUNT)
    told = client.post("/do", headers={"Origin": TUNNEL}).json()
    assert told["url"] == f"{TUNNEL}/do"
    assert client.post("/do", headers={"Origin": TUNNEL.replace("https", "http")}).status_code == 403


def test_bodies_are_small(member):
    fits, over = b"x" * BODY_LIMIT, b"x" * (BODY_LIMIT + 1)
    assert member.post("/do", content=fits).json()["bytes"] == BODY_LIMIT
    for body in (over, iter([fits, b"x"])):  # with its length promised, and in chunks
        answer = member.post("/do", content=body)
        assert (
            answer.status_code == 413 and answer.json()["detail"] == "The request is too large: at most 1 MB are taken."
        )
    assert member.post("/do", content=iter([b"abc", b"def"])).json()["bytes"] == 6


def test_uploads_are_counted_and_leave_no_room_taken(member, uploads):
    limit = uploads.request_limit
    assert limit == 1000 + FORM_BYTES
    assert member.post("/upload", content=b"x" * limit).json()["bytes"] == limit
    assert member.post("/upload", content=b"x" * (limit + 1)).status_code == 413
    chunks = iter([b"x" * 2**16] * (limit // 2**16 + 2))
    assert member.post("/upload", content=chunks).status_code == 413, "without a promise it is counted"
    assert uploads._running == []
    assert uploads.reserve(uploads._quota)
    answer = member.post("/upload", content=b"x")
    assert answer.status_code == 503 and answer.json()["code"] == "uploads_busy"


def test_an_upload_that_breaks_its_reader_is_a_clean_refusal(member, caplog):
    with caplog.at_level(logging.WARNING):
        answer = member.post("/upload", headers={"Break": "its reader"})
    assert (answer.status_code, answer.json()["code"]) == (400, "call_unknown")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "POST /upload refused (400): the upload was not understood (TypeError('its reader'))"


def test_what_a_rule_checks_never_gets_further(member, caplog):
    assert member.post("/checked", content=b"sound").status_code == 200
    with caplog.at_level(logging.WARNING):
        answer = member.post("/checked", content=b"evil\r\n\x1b[2J")
    assert answer.status_code == 422 and answer.json()["code"] == "call_unknown"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "POST /checked refused (422): it is unsound [31m"


def test_every_answer_keeps_out_of_frames(member, stranger):
    answers = [member.get("/"), member.get("/nothing"), stranger.get("/login"), stranger.get("/files/a/b"),
               member.get("/", headers=CROSS), member.get("/policy"),
               member.post("/do", content=b"x" * 2**21)]  # fmt: skip
    for answer in answers:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], answer.url
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert member.get("/policy").headers["content-security-policy"].startswith("default-src 'none'; ")


def test_without_accounts_this_machine_needs_no_login_and_strangers_stay_out(uploads):
    made = Starlette(routes=[*login_routes(Login(), str, {}), Route("/{path:path}", anything, methods=["GET", "POST"])])
    made.add_middleware(Gate, rules=RULES, hosts=ServedHosts(), login=Login(), uploads=uploads)
    client = TestClient(made, OWN, follow_redirects=False)
    assert client.post("/do").json()["user"] == "local"
    assert client.post("/do", headers={"Origin": "http://localhost:3000"}).status_code == 403
    assert client.post("/do", headers={"Host": "rebind.example"}).status_code == 403
    assert client.post("/v1/videos", headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.post("/v1/videos").json()["user"] == "local" == client.get("/v1/told").json()["user"]
    assert client.post("/v1/videos", headers=CROSS).status_code == 403
    assert client.get("/login").headers["location"] == "./" == client.post("/login", data=ACCOUNT).headers["location"]


def test_a_websocket_is_closed(stranger):
    with pytest.raises(WebSocketDisconnect) as closed, stranger.websocket_connect("/"):
        pass
    assert closed.value.code == 1008


def test_a_readers_language():
    headers = {
        "zh-CN,zh;q=0.9,en;q=0.8": "zh",
        "en-US,zh": "en",
        "de,fr;q=0.8,zh-TW;q=0.5": "zh",
        "": "en",
        "zhx": "zh",
        "*": "en",
    }
    assert {header: reader_language(header) for header in headers} == headers
    assert reader_language("zh", "en") == "en" and reader_language("zh", "xx") == "zh"
    assert LoginView("en") == LoginView("en", "", False, 0)
