"""Nobody comes in without the login, nothing is served but results by id, and nothing leaves the machine."""

import json
import os
import re
import socket
import sys

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio import networking

from studio.audio.synthesis import RATE
from studio.errors import InputError, StudioError
from studio.service.drafts import make_draft
from studio.service.sound import take_sound
from studio.ui import phone, server
from studio.ui.server import ServeOptions, accounts, open_tunnel, parse_login, read_logins, served_hosts
from tests.audio.clips import tone, write_sound
from tests.ui.serving import ACCOUNT, LOGIN, finished_backend, member_of, serving

ASKED: list[str] = []  # hosts that this process looked up or connected to


def note_hosts(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        ASKED.append(str(address[0] if isinstance(address, tuple) else address))


sys.addaudithook(note_hosts)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finished_backend(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def guarded(finished):
    """The page behind a login."""
    with serving(finished[0], auth=(LOGIN,)) as served:
        yield served


@pytest.fixture(scope="module")
def member(guarded):
    with member_of(guarded) as client:
        yield client


def raw(served, *lines):
    """The answer's status to request lines that a client library would tidy up first."""
    with socket.create_connection((served.host, served.port)) as sock:
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return int(sock.recv(4096).split(b" ")[1])


def test_a_stranger_finds_the_login_page_alone(guarded):
    with httpx.Client(base_url=guarded.url) as stranger:
        page = stranger.get("/", follow_redirects=True)
        assert str(page.url).endswith("/login") and "first-image" not in page.text and "prompt" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        wrong = stranger.post("/login", data={**ACCOUNT, "password": "x"})
        assert wrong.status_code == 401 and 'value="ada"' in wrong.text and "lovelace" not in wrong.text
        evil = stranger.get("/login?language=%22%3E%3Cscript%3E").text
        assert "<script>" not in evil.replace(f"<script>{server.login_page.SCRIPT}</script>", "")
        chinese = stranger.get("/login", headers={"Accept-Language": "zh-CN"}).text
        assert 'lang="zh"' in chinese and "密码显示在启动本程序的终端里。" in chinese


def test_a_typed_name_is_shown_as_text(guarded):
    typed = {"user": '"><script>alert(1)</script>{{7*7}}', "password": "x"}
    page = httpx.post(f"{guarded.url}/login", data=typed).text
    assert "<script>alert" not in page and "&quot;&gt;&lt;script&gt;alert(1)" in page


def test_no_spelling_of_a_path_passes_the_gate(guarded):
    targets = ["//config", "/assets/../config", "/assets%2f..%2fconfig", "/assets/..%2f..%2f..%2fserver.py", "/CONFIG",
               "/studio/media/../../etc/passwd", "/config/", "/login/../config", "http://x/config", "*", "/login%00",
               "/gradio_api/run/predict/", "/?/../config", "/%2e%2e/config", "/login;/../config"]  # fmt: skip
    found = {target: raw(guarded, f"GET {target} HTTP/1.1", f"Host: {guarded.url[7:]}") for target in targets}
    assert {target: status for target, status in found.items() if status not in (303, 400, 401, 403, 404)} == {}
    assert [target for target, status in found.items() if status == 303] == ["/?/../config"]
    hosts = ["", "Host:", "Host: rebind.example", f"Host: {guarded.url[7:]}\r\nHost: rebind.example"]
    assert {raw(guarded, "GET /login HTTP/1.1", *([host] if host else [])) for host in hosts} <= {400, 403}


def test_results_are_served_by_id(member, finished):
    job = finished[1]
    video = member.get(f"/studio/media/{job.id}/result")
    assert video.headers["content-type"] == "video/mp4" and video.content[4:8] == b"ftyp"
    assert "sandbox; frame-ancestors 'none'" in video.headers["content-security-policy"]
    part = member.get(f"/studio/media/{job.id}/result", headers={"Range": "bytes=0-9"})
    assert part.status_code == 206 and len(part.content) == 10
    assert member.get(f"/studio/media/{job.id}/poster").content[:2] == b"\xff\xd8"
    assert member.get(f"/studio/media/{job.id}/preview").content[:4] == b"RIFF"
    assert "attachment" in member.get(f"/studio/media/{job.id}/download").headers["content-disposition"]
    paths = ("x/result", "{id}/settings", "{id}/../../queue.sqlite", "..%2f..%2fetc/result", "{id}/%2e%2e", "{id}/")
    found = {path: member.get("/studio/media/" + path.format(id=job.id)).status_code for path in paths}
    assert set(found.values()) == {404}, found


def test_three_endpoints_are_offered_to_programs_and_no_job_lies_in_the_session(guarded):
    config = guarded.page.config
    offered = [each["api_name"] for each in config["dependencies"] if each["api_visibility"] != "private"]
    assert offered == ["submit", "status", "cancel"]
    assert config["analytics_enabled"] is False and not config.get("footer_links")
    kinds = {component["type"] for component in config["components"]}
    assert "state" not in kinds and "browserstate" in kinds


def test_the_page_names_no_other_host(member):
    """Only gradio's meta tags and the examples in its descriptions of components hold addresses; nobody fetches them.
    (test_browser.py watches what the browser asks for.)"""
    page = re.sub(r"<meta[^>]*>|window.gradio_api_info = .*?</script>", "", member.get("/").text)
    config = json.loads(re.search(r"window.gradio_config = (\{.*?\});?</script>", page, re.DOTALL)[1])
    config["components"] = [{**part, "api_info": 0, "example_inputs": 0} for part in config["components"]]
    page = re.sub(r"window.gradio_config = .*?</script>", "", page, flags=re.DOTALL)
    for text in (page, json.dumps(config)):
        found = re.findall(r"https?://[^\s\"'\\<>)]+", text)
        found = [url for url in found if not re.match(r"https?://(127\.0\.0\.1|www\.w3\.org)", url)]
        assert not [url for url in found if "sample_file" not in url]


def test_the_page_begins_with_our_script_and_is_small_on_the_wire(member):
    """frames.js must come before gradio's modules, which keep the function that it replaces."""
    page = member.get("/", headers={"Accept-Encoding": "gzip"})
    plain = member.get("/", headers={"Accept-Encoding": "identity"})
    script = server.theme.script("frames.js")
    assert page.text == plain.text and 0 < page.text.index(script) < page.text.index('<script type="module"')
    assert plain.headers["content-length"] == str(len(plain.content))
    assert int(page.headers["content-length"]) < 0.2 * len(plain.content)
    assert member.head("/").status_code == 200


def test_uploads_have_a_limit_and_lie_in_one_folder(member, guarded):
    answer = member.post("/gradio_api/upload", files={"files": ("../../../a.png", b"0" * 1000)})
    assert guarded.uploads.contains(answer.json()[0]) and guarded.uploads.read(answer.json()[0]) == b"0" * 1000
    too_large = b"0" * (guarded.uploads.file_bytes + 1)
    assert member.post("/gradio_api/upload", files={"files": ("a.png", too_large)}).status_code == 413
    many = [("files", (f"{number}.png", b"0" * 2**19)) for number in range(2 + guarded.uploads.request_limit // 2**19)]
    assert member.post("/gradio_api/upload", files=many).status_code == 413, "many small ones are one large one"
    assert guarded.uploads.reserve(guarded.uploads._quota), "nothing is still counted as running"
    guarded.uploads.release(guarded.uploads._quota)


def broken_uploads():
    """(body, content type) of uploads that no browser sends."""
    kind, name = "multipart/form-data; boundary=b", b'Content-Disposition: form-data; name="files"; filename="'
    heads = [name + b'\0\xff.png"', name + b'../../../x"', name + b'/"', name + b'.."', name + b"x" * 5000 + b'"', b"",
             b"X: y", name + b'"', name.replace(b'name="files"; ', b"") + b'a"', name.partition(b"; file")[0],
             name + b'a"\r\nA: ' + b"x" * 9000]  # fmt: skip
    yield from ((b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n", kind) for head in heads)
    yield from ((b"--b\r\n" + name + b'a"\r\n\r\ncut', kind), (b"\0" * 1000, kind), (b"--c\r\n", kind), (b"", kind))
    yield from (
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary="),
        (b"x", "text/plain"),
        (b"x", ""),
    )
    many = b"".join(name + b'%d"\r\n\r\nx\r\n--b\r\n' % number for number in range(1500))
    yield from ((b"--b\r\n" + many, kind), (b"--b\r\n" + name + b'a"\r\n\r\nx\r\n--b--', kind + "; charset=utf-99"))


def test_what_no_browser_sends_is_a_clean_answer(member, guarded, capfd):
    paths = ["/?page=x", "/?deep_link=../x", "/?deep_link=%00", "/gradio_api/upload_progress?upload_id=" + "x" * 5000,
             "/gradio_api/upload_progress", "/assets/" + "x" * 5000, "/static/" + "a/" * 500, "/assets/%00",
             "/studio/media/%00/x", "/theme.css?v=%00"]  # fmt: skip
    found = {path[:60]: member.get(path).status_code for path in paths}
    for number, (body, kind) in enumerate(broken_uploads()):
        answer = member.post("/gradio_api/upload", content=body, headers={"Content-Type": kind})
        found[f"upload {number}"] = answer.status_code
        if answer.status_code == 200:
            assert all(guarded.uploads.contains(path) for path in answer.json())
    assert {name: status for name, status in found.items() if status not in (200, 400, 404, 413, 422)} == {}
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_upload_tells_its_progress(member):
    """gradio's page follows its upload by a stream of events, with the cookie alone."""
    member.post("/gradio_api/upload?upload_id=abc", files={"files": ("a.png", b"0" * 1000)})
    answer = member.get("/gradio_api/upload_progress?upload_id=abc")
    assert answer.status_code == 200 and '"done"' in answer.text


def test_who_can_be_reached_asks_for_a_login():
    alone = [("127.0.0.1", {}), ("localhost", {}), ("::1", {})]
    reached = [("0.0.0.0", {}), ("::", {}), ("192.168.1.5", {}), ("studio", {}), ("127.0.0.1", {"share": True}),
               ("127.0.0.1", {"allowed_hosts": ("studio.lan",)})]  # fmt: skip
    for host, options in alone + reached:
        told = []
        made = accounts(host, ServeOptions(**options, say=told.append))
        assert bool(made) == bool(told) == ((host, options) in reached), (host, options)
        assert not made or (made[0][0] == server.USER and len(made[0][1]) >= 16 and made[0][1] in told[0])
        given = accounts(host, ServeOptions(**options, auth=(LOGIN,), say=told.append))
        assert given == [LOGIN] and len(told) == len(made), "a given login is used and not told"


def test_a_shared_page_is_served_as_https_to_who_comes_in(finished, monkeypatch):
    monkeypatch.setattr(networking, "setup_tunnel", lambda *_: "http://x.gradio.live")
    told = []
    with (
        serving(finished[0], host="0.0.0.0", share=True, say=told.append) as served,
        httpx.Client(base_url=served.url) as client,
    ):
        assert served.public_url == "https://x.gradio.live" and served.public_url in told[-1]
        assert client.get("/").status_code == 303, "this machine asks for the login too"
        account, public = {"user": server.USER, "password": told[0].split()[-1]}, {"Host": "x.gradio.live"}
        (cookie,) = client.post("/login", data=account, headers=public).headers.get_list("set-cookie")
        assert cookie.startswith("__Host-studio=") and "; Secure" in cookie and "SameSite=lax" in cookie
        session = {**public, "Cookie": cookie.partition(";")[0]}
        assert '"root":"https://x.gradio.live"' in client.get("/", headers=session).text
        assert client.get("/studio/alive", headers={**session, "Origin": "https://x.gradio.live"}).status_code == 200
        for origin in ("http://x.gradio.live", "https://y.gradio.live", served.url):
            assert client.get("/studio/alive", headers={**session, "Origin": origin}).status_code == 403
        assert client.get("/login", headers={"Host": "y.gradio.live"}).status_code == 403


def test_a_failed_link_leaves_the_page(monkeypatch):
    def fail(*_):
        raise RuntimeError("Could not get share link\nand more")

    monkeypatch.setattr(networking, "setup_tunnel", fail)
    told, hosts = [], served_hosts("127.0.0.1")
    assert open_tunnel("127.0.0.1", 1, hosts, ServeOptions(say=told.append)) is None
    assert told == ["No public link could be made (Could not get share link). The page itself runs on."]


def test_a_taken_port_and_a_bad_name_are_sentences(finished, guarded):
    with pytest.raises(StudioError, match="cannot be used"):
        server.serve(finished[0].backend, ServeOptions(port=guarded.port))
    for name in ("*.lan", "a b", "ftp://x"):
        with pytest.raises(InputError, match="--allowed-host"):
            served_hosts("127.0.0.1", (name,))


def test_what_a_page_that_listens_is_served_under():
    hosts = served_hosts("0.0.0.0", ("studio.lan", "https://studio.example"))
    mine = socket.gethostname().lower()
    names = {"127.0.0.1:1": "http://127.0.0.1:1", mine: f"http://{mine}", "studio.lan": "http://studio.lan",
             "studio.example": "https://studio.example", "0.0.0.0": None, "rebind.example": None}  # fmt: skip
    assert {name: hosts.origin(name) for name in names} == names
    assert served_hosts("127.0.0.1").origin(mine) is None, "alone, this machine needs no other name"
    assert served_hosts("fd00::5").origin("[fd00::5]:7860") == "http://[fd00::5]:7860"


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


def test_nobody_is_told_that_the_program_runs(guarded):
    """After pages were built, opened and used: this process asked for itself alone, whatever the environment says."""
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and os.environ["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True")
    assert gr.Blocks().analytics_enabled is False
    # To ELSEWHERE, an address of no machine, a UDP socket is connected to learn this one's own: nothing is sent.
    mine = {"127.0.0.1", "localhost", "0.0.0.0", "::1", "None", phone.ELSEWHERE[0]}
    assert {host for host in ASKED if host not in mine and not host.startswith("/")} == set()


def test_sound_files_of_any_rate_and_number_of_channels_come_in_through_the_page(member, guarded, finished, tmp_path):
    """Uploaded as a browser does it, then taken as a layer and heard in a draft; what is no sound gets its sentence."""
    fake, job = finished
    kinds = {f"r{rate}.{kind}": ["-ar", str(rate)] for rate, kind in ((8000, "mp3"), (11025, "wav"), (192000, "wav"))}
    kinds |= {f"c{count}.wav": ["-ac", str(count)] for count in (1, 3, 6, 8)}  # mono to 7.1
    wrong = []
    for name, words in kinds.items():
        data = write_sound(tmp_path / name, tone(0.5), *words).read_bytes()
        (path,) = member.post("/gradio_api/upload", files={"files": (name, data)}).json()
        taken, seconds = take_sound(fake.backend, guarded.uploads, path)
        layer = {"sound": taken, "start": 0, "end": 0.4}
        key, _ = make_draft(
            fake.backend, guarded.uploads, job.id, {"version": 1, "lines": [], "layers": [layer]}, {taken: path}
        )
        answer = member.get(f"/studio/media/{key}/draft")
        heard = np.frombuffer(answer.content[44:], "<i2")[::2] / 32768
        loudest = int(np.abs(np.fft.rfft(heard[: RATE // 4])).argmax()) * 4
        if abs(seconds - 0.5) > 0.06 or answer.headers["content-type"] != "audio/wav" or abs(loudest - 440) > 4:
            wrong.append(f"{name}: {seconds:.3f} s, {answer.status_code}, {loudest} Hz")
    assert not wrong, "\n".join(wrong)
    (path,) = member.post("/gradio_api/upload", files={"files": ("a.mp3", b"no sound")}).json()
    with pytest.raises(InputError, match="cannot be used as sound"):
        take_sound(fake.backend, guarded.uploads, path)
    assert member.get(f"/studio/media/{'0' * 32}/draft").status_code == 404
    with httpx.Client(base_url=guarded.url) as stranger:
        assert stranger.get(f"/studio/media/{key}/draft").status_code in (303, 401), "drafts too are behind the login"
