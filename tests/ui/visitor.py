"""Opening a program's page in a browser as a visitor, with an eye on what the page must never do."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def free_port() -> int:
    """A port that was free a moment ago, for a program that is told its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def launched() -> Iterator[Any]:
    """Gives a Chromium of a driver of its own; the test is skipped where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (CHROMIUM names another one)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@contextmanager
def visitors(browser: Any, seconds: float) -> Iterator[Callable[..., Any]]:
    """Gives open_page(url, ...): each call a new visitor, whose page waits `seconds` for what it is asked to find.

    At the end it asserts that no page asked another host, failed, or ran what a user wrote.
    """
    contexts, wrong = [], []

    def open_page(url: str, language: str = "en-US", dark: bool = False, size: dict[str, int] = DESKTOP) -> Any:
        light = "dark" if dark else "light"
        context = browser.new_context(viewport=size, locale=language, color_scheme=light, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * seconds)
        page.on("request", lambda asked: wrong.append(asked.url) if is_foreign(asked.url, url) else None)
        page.on("dialog", lambda dialog: wrong.append(f"script: {dialog.message}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.goto(url)
        page.wait_for_selector("#model label")
        page.wait_for_selector(".system")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == [], wrong


def until(page: Any, what: Callable[[], bool]) -> None:
    """Wait for what happens outside the page, a minute and a half at most; the page goes on meanwhile."""
    for _ in range(900):
        if what():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it never came to that")


def is_foreign(asked: str, url: str) -> bool:
    """Whether a request leaves the program at `url`."""
    return not asked.startswith((url, "data:", "blob:"))
