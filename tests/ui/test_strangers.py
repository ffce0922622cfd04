"""Other people's web pages in the same browser: what they try on a share link, on this machine, and by another name.

Names are mapped by Chromium itself; the share link has TLS in front, as gradio's tunnel. Each attack is first made by
the page itself, where it works: so that it does not fail for another reason than the one that is meant.
"""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest
from gradio import networking

from tests.ui.serving import ACCOUNT, LOGIN, finished_backend, serving
from tests.ui.visitor import CHROMIUM, FLAGS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("cryptography", reason="cryptography makes the certificate")
from tests.ui.tls_proxy import tls_proxy  # noqa: E402  (needs cryptography)

pytestmark = pytest.mark.browser

VICTIM, EVIL = "victim.gradio.live", "evil.gradio.live"
PAGE = "<!doctype html><title>evil</title><h1>A page of somebody else</h1>"
# Asks the page at `url` for whatever an attacker wants, in every way a page may ask. What could be read is returned.
ATTACK = """async ([url, call, media, leaves]) => {
    const include = { credentials: "include" };
    const read = async (path, options) => {
        const answer = await fetch(url + path, { ...include, ...options });
        return answer.type === "opaque" ? "opaque" : `${answer.status} ${(await answer.text()).slice(0, 4000)}`;
    };
    const file = () => {
        const form = new FormData();
        form.append("files", new Blob(["x".repeat(5000)]), "a.png");
        return form;
    };
    const json = { "Content-Type": "application/json" }, text = { "Content-Type": "text/plain" };
    const predict = "/gradio_api/run/predict", upload = "/gradio_api/upload";
    const tries = {
        page: read("/"), config: read("/config"), token: read("/gradio_api/token"), media: read(media),
        queue: read(predict, { method: "POST", headers: json, body: call }),
        "queue, simple": read(predict, { method: "POST", headers: text, body: call, mode: "no-cors" }),
        upload: read(upload, { method: "POST", body: file() }),
        "upload, simple": read(upload, { method: "POST", body: file(), mode: "no-cors" }),
        leave: leaves && read("/logout", { method: "POST", mode: "no-cors" }),
        picture: new Promise((done, fail) => {
            const image = new Image();
            image.onload = () => done(`read ${image.naturalWidth}`);
            image.onerror = fail;
            image.src = url + media;
        }),
    };
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: url + "/logout", target: "away" });
    const frame = document.createElement("iframe");
    Object.assign(frame, { name: "away", src: url + "/" });
    document.body.append(frame, form);
    await new Promise((done) => (frame.onload = done));
    if (leaves) form.submit();
    await Promise.race([new Promise((done) => (frame.onload = done)), new Promise((done) => setTimeout(done, 3000))]);
    const settled = await Promise.allSettled(Object.values(tries));
    return Object.keys(tries).map((name, at) => [name, settled[at].value || "refused"]);
}"""


@pytest.fixture(scope="module")
def driver():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (CHROMIUM names another one)")
    with playwright.sync_playwright() as made:
        yield made


@contextmanager
def chromium(driver, rules):
    """A browser with names of its own."""
    flags = [*FLAGS, f"--host-resolver-rules={rules}", "--ignore-certificate-errors"]
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
    try:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        yield page
    finally:
        browser.close()


@contextmanager
def other_server():
    """Another program on this machine that serves a page; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def generate_call(served, prompt):
    """What the page sends when Generate is clicked."""
    (index,) = [number for number, fn in served.page.fns.items() if fn.name == "generate"]
    typed = {"model": "nano", "prompt": prompt, "size": "64x64", "language": "en"}
    data = [typed.get(part.elem_id) for part in served.page.fns[index].inputs]
    return json.dumps({"data": data, "fn_index": index, "session_hash": "abcdefghij"})


def attack(page, url, served, job, prompt="stolen"):
    """What could be read by each try made by the page that is open. A page that asks for itself does not log out."""
    given = [url, generate_call(served, prompt), f"/studio/media/{job.id}/poster", prompt == "stolen"]
    return dict(page.evaluate(ATTACK, given))


def left(fake, served):
    """What attacks leave: prompts in the queue, and uploaded files."""
    files = [path for path in served.uploads.folder.rglob("*") if path.is_file()]
    return sorted(job.settings.prompt for job in fake.backend.queue.list()), len(files)


HARMLESS = {"refused", "opaque"}


def test_a_page_beside_a_share_link_takes_nothing(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(networking, "setup_tunnel", lambda *_: f"https://{VICTIM}")
    fake, job = finished_backend(tmp_path)
    with (
        serving(fake, share=True, auth=(LOGIN,)) as served,
        tls_proxy(tmp_path, served.port, {EVIL: PAGE}) as tls,
        chromium(driver, f"MAP *.gradio.live 127.0.0.1:{tls}") as page,
    ):
        page.goto(f"https://{VICTIM}/")
        for name, value in ACCOUNT.items():
            page.fill(f"#{name}", value)
        page.click("button[type=submit]")
        page.wait_for_selector("#model label")
        (cookie,) = page.context.cookies()
        assert (cookie["sameSite"], cookie["httpOnly"], cookie["secure"]) == ("Lax", True, True)
        own = attack(page, f"https://{VICTIM}", served, job, "own")
        assert own["queue"].startswith("200") and own["upload"].startswith("200") and own["picture"].startswith("read")
        assert left(fake, served) == (["a boat", "own"], 1), "made by the page itself, the attack works"
        page.goto(f"https://{EVIL}/")
        found = attack(page, f"https://{VICTIM}", served, job)
        assert {name: text for name, text in found.items() if text not in HARMLESS} == {}
        assert left(fake, served) == (["a boat", "own"], 1)
        assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]
        page.set_content(f'<a href="https://{VICTIM}/">a link</a>')
        page.click("a")
        page.wait_for_selector("#generate")
        assert page.evaluate("fetch('studio/alive').then((answer) => answer.status)") == 200, "still logged in"


@pytest.mark.parametrize("stranger", ["http://evil.example:{port}", "http://localhost:{port}"])
def test_a_page_of_another_address_does_nothing_on_this_machine(driver, tmp_path, stranger):
    """The page as it is by default, without a login: for a site from the internet and for another local program."""
    fake, job = finished_backend(tmp_path)
    with (
        serving(fake) as served,
        other_server() as port,
        chromium(driver, "MAP *.example 127.0.0.1") as page,
    ):
        page.goto(stranger.format(port=port))
        for host in ("127.0.0.1", "localhost"):
            found = attack(page, f"http://{host}:{served.port}", served, job)
            assert {name: text for name, text in found.items() if text not in HARMLESS} == {}
        assert left(fake, served) == (["a boat"], 0)
        page.goto(served.url)
        page.wait_for_selector("#model label")
        assert attack(page, served.url, served, job, "own")["queue"].startswith("200")
        assert left(fake, served)[0] == ["a boat", "own"]


def test_another_name_of_this_machine_is_not_the_page(driver, tmp_path):
    """DNS rebinding: the browser believes to be at the attacker's site, whose name now means this machine."""
    fake, job = finished_backend(tmp_path)
    with serving(fake) as served, chromium(driver, "MAP rebind.example 127.0.0.1") as page:
        url = f"http://rebind.example:{served.port}"
        answer = page.goto(url)
        assert answer.status == 403 and "--allowed-host" in page.inner_text("body")
        found = attack(page, url, served, job)
        assert {name: text[:3] for name, text in found.items() if text not in HARMLESS} == dict.fromkeys(
            ("page", "config", "token", "media", "queue", "queue, simple", "upload", "upload, simple", "leave"), "403"
        )
        assert left(fake, served) == (["a boat"], 0)
