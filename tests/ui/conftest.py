"""One page for a whole file of tests: building it takes longer than a test."""

import gradio as gr
import pytest

from studio.ui.page import Page
from tests.ui.fake_backend import FakeBackend

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
