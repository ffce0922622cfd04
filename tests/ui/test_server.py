"""Nobody comes in without the login, nothing is served but results by id, and nothing leaves the machine."""

import json
import re
import socket

import httpx
import pytest
from gradio import networking

from studio.errors import InputError
from studio.queue.job import JobState
from studio.settings import GenerationSettings
from studio.ui import server
from studio.ui.page import build_page
from studio.ui.server import OPEN_FOLDERS, OPEN_PATHS, ServeOptions, parse_login, read_logins, serve
from tests.ui.fake_backend import FakeBackend, Pace

LOGIN = ("ada", "lovelace")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A backend with one finished job."""
    fake = FakeBackend(tmp_path_factory.mktemp("served"), Pace(0.0, 1))
    wanted = GenerationSettings("nano", "a boat", height=64, width=64, num_frames=17, seed=1)
    job = fake.backend.queue.submit(wanted.resolve(fake.models["nano"]))
    player = fake.play()
    while fake.backend.queue.get(job.id).state in (JobState.QUEUED, JobState.RUNNING):
        player.join(0.02)
    player.end()
    return fake, fake.backend.queue.get(job.id)


@pytest.fixture(scope="module")
def guarded(finished):
    """The page behind a login: (url, page)."""
    page = build_page(finished[0].backend)
    url = serve(page, finished[0].backend, ServeOptions(port=free_port(), auth=(LOGIN,)))
    yield url.rstrip("/"), page
    page.close()


@pytest.fixture(scope="module")
def member(guarded):
    """A client that has logged in."""
    with httpx.Client(base_url=guarded[0]) as client:
        answer = client.post("/login", data={"username": LOGIN[0], "password": LOGIN[1]})
        assert answer.status_code == 200
        yield client


def routes(router):
    """Every (method, path) of an app, with something in place of the path's parameters."""
    for route in router.routes:
        if inner := getattr(route, "original_router", None):  # how fastapi holds an included router
            yield from routes(inner)
        else:
            for method in getattr(route, "methods", None) or {"GET"}:
                yield method, re.sub(r"\{[^}]*\}", "x", route.path)


def raw(url, target):
    """The answer's status line to a request target that a client library would tidy up first."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(sock.recv(4096).split(b" ")[1])


def test_every_route_asks_for_the_login(guarded):
    url, page = guarded
    asked = set(routes(page.app))
    assert ("GET", "/studio/media/x/x") in asked and len(asked) > 60
    with httpx.Client(base_url=url) as stranger:
        for method, path in sorted(asked):
            status = stranger.request(method, path).status_code
            is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
            assert is_open or status == 401, f"{method} {path}: {status}"
            assert not is_open or status != 200 or method in ("GET", "HEAD"), f"{method} {path}: {status}"


def test_the_open_paths_tell_nothing(guarded):
    with httpx.Client(base_url=guarded[0]) as stranger:
        page = stranger.get("/").text
        assert '"auth_required":true' in page and "first-image" not in page and "prompt" not in page
        assert stranger.post("/login", data={"username": "ada", "password": "x"}).status_code == 400


@pytest.mark.parametrize(
    "target",
    ["//config", "/assets/../config", "/assets%2f..%2fconfig", "/assets/..%2f..%2f..%2fserver.py", "/?/../config",
     "/studio/media/../../etc/passwd", "/CONFIG", "/config/", "/login/../config", "http://x/config"],
)  # fmt: skip
def test_no_spelling_of_a_path_passes_the_gate(guarded, target):
    status = raw(guarded[0], target)
    assert status in (400, 401, 403, 404) or target.startswith("/?"), status


def test_a_wrong_cookie_is_no_login(guarded):
    _, page = guarded
    name = f"access-token-unsecure-{page.app.cookie_id}"
    assert httpx.get(f"{guarded[0]}/config", cookies={name: "guessed"}).status_code == 401


def test_results_are_served_by_id(member, finished):
    job = finished[1]
    video = member.get(f"/studio/media/{job.id}/result")
    assert video.headers["content-type"] == "video/mp4" and video.content[4:8] == b"ftyp"
    assert (
        video.headers["x-content-type-options"] == "nosniff" and "sandbox" in video.headers["content-security-policy"]
    )
    part = member.get(f"/studio/media/{job.id}/result", headers={"Range": "bytes=0-9"})
    assert part.status_code == 206 and len(part.content) == 10
    assert member.get(f"/studio/media/{job.id}/poster").content[:2] == b"\xff\xd8"
    assert member.get(f"/studio/media/{job.id}/preview").content[:4] == b"RIFF"
    assert "attachment" in member.get(f"/studio/media/{job.id}/download").headers["content-disposition"]


@pytest.mark.parametrize(
    "path",
    ["x/result", "{id}/settings", "{id}/../../queue.sqlite", "..%2f..%2fetc/result", "{id}/%2e%2e", "{id}/"],
)
def test_nothing_else_is_served(member, finished, path):
    answer = member.get("/studio/media/" + path.format(id=finished[1].id))
    assert answer.status_code == 404


def test_no_endpoint_is_offered_to_programs(member):
    described = member.get("/gradio_api/info").json()
    assert described["named_endpoints"] == {} and described["unnamed_endpoints"] == {}
    config = member.get("/config").json()
    assert {dependency["api_visibility"] for dependency in config["dependencies"]} == {"private"}
    assert config["analytics_enabled"] is False and not config.get("footer_links")


def test_the_page_keeps_no_job_in_the_session(member):
    kinds = {component["type"] for component in member.get("/config").json()["components"]}
    assert "state" not in kinds and "browserstate" in kinds


def test_the_page_names_no_other_host(member):
    """Only gradio's meta tags and the examples in its descriptions of components hold addresses; nobody fetches them.
    (test_browser.py watches what the browser asks for.)"""
    page = re.sub(r"<meta[^>]*>|window.gradio_api_info = .*?</script>", "", member.get("/").text)
    config = member.get("/config").json()
    config["components"] = [{**part, "api_info": 0, "example_inputs": 0} for part in config["components"]]
    for text in (page, json.dumps(config)):
        found = re.findall(r"https?://[^\s\"'\\<>)]+", text)
        found = [url for url in found if not re.match(r"https?://(127\.0\.0\.1|www\.w3\.org)", url)]
        assert not [url for url in found if "sample_file" not in url]


def test_uploads_have_a_limit(member, finished):
    limit = finished[0].backend.config.upload_limit_mb * 2**20
    answer = member.post("/gradio_api/upload", files={"files": ("a.png", b"0" * (limit + 1))})
    assert answer.status_code == 413


def test_files_of_the_machine_are_not_readable(member, finished):
    for path in ("/etc/passwd", finished[0].backend.queue.folder / "queue.sqlite", server.__file__):
        assert member.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_handler_takes_uploads_only(guarded, member, finished, tmp_path):
    """What a client says of a file is believed only if the file lies among gradio's uploads."""
    _, page = guarded
    (index,) = [number for number, fn in page.fns.items() if fn.name == "picture_given"]
    uploaded = member.post("/gradio_api/upload", files={"files": ("a.png", b"no picture")}).json()[0]
    queue = finished[0].backend.queue.folder / "queue.sqlite"
    for path, is_upload in ((uploaded, True), ("/etc/passwd", False), (str(queue), False), (f"{uploaded}/../x", False)):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        data = [file if part.elem_id == "first-image" else part.value for part in page.fns[index].inputs]
        body = {"data": data, "fn_index": index, "session_hash": "abcdefghij"}
        answer = member.post("/gradio_api/run/predict", json=body)
        assert (answer.status_code == 200) == is_upload, path
        assert ("cannot be read" in answer.text) == is_upload


class Launched:
    """Stands for a page: remembers how it was to be launched."""

    share_token, server_name, server_port = "token", "127.0.0.1", 1

    def launch(self, **options):
        self.options = options
        return None, "http://127.0.0.1:1/", None


@pytest.mark.parametrize(
    "options, guarded",
    [
        ({}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.1.5"}, True),
        ({"share": True}, True),
    ],
)
def test_who_can_be_reached_asks_for_a_login(options, guarded, finished, monkeypatch):
    monkeypatch.setattr(networking, "setup_tunnel", lambda *_: "http://x.gradio.live")
    page, told = Launched(), []
    serve(page, finished[0].backend, ServeOptions(**options, say=told.append))
    logins = page.options["auth"]
    assert bool(logins) == guarded and page.options["share"] is False
    if guarded:
        assert len(logins[0][1]) >= 16 and logins[0][1] in told[0]
    assert ("https://x.gradio.live" in "".join(told)) == bool(options.get("share"))


def test_a_given_login_is_used_and_not_told(finished):
    page, told = Launched(), []
    serve(page, finished[0].backend, ServeOptions(host="0.0.0.0", auth=(LOGIN,), say=told.append))
    assert page.options["auth"] == [LOGIN] and "lovelace" not in "".join(told)


def test_a_failed_link_leaves_the_page(finished, monkeypatch):
    def fail(*_):
        raise RuntimeError("Could not get share link\nand more")

    monkeypatch.setattr(networking, "setup_tunnel", fail)
    page, told = Launched(), []
    assert serve(page, finished[0].backend, ServeOptions(share=True, auth=(LOGIN,), say=told.append))
    assert "No public link could be made (Could not get share link)" in told[-1]


def test_logins_from_a_file(tmp_path):
    path = tmp_path / "logins"
    path.write_text("ada:love:lace\n\n 李:密码\n")
    assert read_logins(ServeOptions(auth_file=path)) == [("ada", "love:lace"), ("李", "密码")]
    path.write_text("ada\n")
    with pytest.raises(InputError, match="USER:PASS"):
        read_logins(ServeOptions(auth_file=path))
    with pytest.raises(InputError, match="no usable login"):
        read_logins(ServeOptions(auth_file=tmp_path / "absent"))
    for words in ("", ":", "ada:", ":x"):
        with pytest.raises(InputError):
            parse_login(words)
