"""One page, and one browser, for a whole file of tests: building them takes longer than a test."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
import pytest

from studio.ui.page import Page
from tests.ui.fake_backend import FakeBackend
from tests.ui.serving import serving
from tests.ui.visitor import launched, visitors

ALL = ("nano", "nano-turbo", "step-video-t2v", "step-video-ti2v")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    fake = FakeBackend(tmp_path_factory.mktemp("page"), installed=ALL)
    with gr.Blocks():
        return fake, Page(fake.backend, fake.uploads)


@pytest.fixture
def page(built, tmp_path):
    built[0].start_over(tmp_path)
    return built[1]


@pytest.fixture
def fake(built, page):
    return built[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as made:
        yield made


@pytest.fixture
def visit(browser: Any, fake: FakeBackend) -> Iterator[Callable[..., Any]]:
    """Opens the page of the file's own `fake` for a new visitor."""
    with serving(fake) as served, visitors(browser, 90) as open_page:
        yield partial(open_page, served.url)
