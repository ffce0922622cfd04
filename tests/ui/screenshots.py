"""Makes README's pictures of the page from the program itself, with nano: python -m tests.ui.screenshots

Nothing is staged: the videos shown are what nano makes of the prompts, the plan is this machine's.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from studio.config import load_examples
from tests.ui.moving_picture import SIZE, film, save_film
from tests.ui.test_browser import choose_nano
from tests.ui.visitor import CHROMIUM, DESKTOP, FLAGS, PHONE, free_port

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "assets" / "screenshots"
MAX_BYTES = 400_000


def main() -> None:
    """Start the program on an empty output folder; film the first video, make three more, take both pictures."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "app.py"), "--output-dir", folder, "--port", str(port)]
        program = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                page = browser.new_page(viewport=SIZE, locale="en-US", color_scheme="light", reduced_motion="reduce")
                page.goto(f"http://127.0.0.1:{port}")
                page.wait_for_selector("#model label")
                choose_nano(page)
                page.wait_for_timeout(3000)  # thumbnails
                save_film(film(page), FOLDER / "making.webp")
                page = browser.new_page(viewport=DESKTOP, locale="en-US", color_scheme="light")
                page.goto(f"http://127.0.0.1:{port}")
                make_videos(page)
                save(page, "desktop-light")
                phone = browser.new_page(
                    viewport=PHONE, locale="zh-CN", color_scheme="dark", device_scale_factor=2, has_touch=True
                )
                phone.goto(f"http://127.0.0.1:{port}")
                phone.wait_for_selector(".stage.finished video")
                save(phone, "phone-dark")
                browser.close()
        finally:
            program.terminate()
            program.wait(60)


def wait_for(port: int) -> None:
    """Until the page answers."""
    for _ in range(240):
        try:
            httpx.get(f"http://127.0.0.1:{port}")
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise TimeoutError("the page did not start")


def make_videos(page: Page) -> None:
    """Three of the page's examples, the last from a picture."""
    page.wait_for_selector("#model label")
    choose_nano(page)
    for key in ("green-ball-falls", "blue-square-up", "picture-steady"):
        page.click(f'#examples [data-id="{key}"]')
        page.wait_for_function(
            "(words) => document.querySelector('#prompt textarea').value === words",
            arg=load_examples()[key].prompt["en"],
        )
        before = page.locator(".strip .card").count()
        page.click("#generate")
        page.wait_for_function(f"document.querySelectorAll('.strip .card').length > {before}")
        page.wait_for_selector(".stage.finished video", timeout=600_000)
    page.wait_for_timeout(2500)
    page.evaluate("scrollTo(0, 0)")


def save(page: Page, name: str) -> None:
    """One picture of what the window shows, in a palette where it would be too large otherwise."""
    page.wait_for_timeout(1500)
    data = page.screenshot()
    if len(data) > MAX_BYTES:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").quantize(200).save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(data)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
