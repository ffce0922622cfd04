"""One broken model folder does not take the page away: it becomes that model's own sentence, and nano works on."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.commands.page import QUEUE_FOLDER, _backend
from studio.config import load_studio
from studio.errors import StudioError
from studio.pipeline.engine import EngineOptions
from studio.pipeline.estimate import Estimator
from studio.queue.jobs import JobQueue
from studio.queue.supervisor import Supervisor
from studio.service.downloads import Downloads
from studio.service.submit import submit
from studio.service.uploads import Uploads
from studio.settings import GenerationSettings
from studio.ui.page import Page
from tests.hostile.folder_cases import CASES
from tests.ui.clicks import filled

MODEL = "step-video-t2v"
NAMES = (  # a cut download, a pointer, sizes that are none, what is no file, what disagrees
    "step tokenizer: a Git-LFS pointer",
    "step tokenizer: empty",
    "clip tokenizer: no [UNK]",
    "transformer config: cut",
    "transformer has {'num_layers': 1000000000}",
    "vae has {'num_res_blocks': 1000000000}",
    "transformer weights: a link to nothing",
    "transformer weights: 1 TB of zeros",
    "vae config: a pipe",
    "clip config: /dev/zero",
    "a wider step_llm",
)

NO_DOWNLOADS = Downloads(lambda model, source: ["false"], lambda model: (0, 0))


@pytest.fixture(scope="module")
def page(model_dir: Path, measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a machine with a model folder that the tests may harm."""
    models, outputs = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("outputs")
    shutil.copytree(measured, outputs / ".cache")
    config, options = load_studio(model_dir=models, output_dir=outputs, ram_gb=4), EngineOptions("cpu")
    queue = JobQueue(outputs / QUEUE_FOLDER)
    supervisor = Supervisor(queue, {"local": ["false"]})
    assert supervisor._lock.acquire()  # owns the queue, starts no worker
    backend = _backend(config, "cpu", Estimator(config, options), queue, supervisor, NO_DOWNLOADS)
    with gr.Blocks():
        yield Page(backend, Uploads(outputs / "uploads", 2**20, 2**20))
    supervisor.stop()


def test_a_broken_model_is_told_in_its_card_and_plan_and_nano_works(page: Page, model_dir: Path) -> None:
    wrong = []
    target = page.backend.config.model_dir / MODEL
    cases = {case.name: case for case in CASES}
    for name in NAMES:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(model_dir / MODEL, target)
        cases[name].harm(target)
        shown = page.open("en", {"model": MODEL})
        menu = dict(shown[page.create.fields["model"]]["choices"])
        card = next((words for words, value in menu.items() if value == MODEL), "")
        plan = str(shown[page.create.plan])
        refused = _refusal(page)
        works = page.events.typed(filled(page, "nano"))[page.create.plan]
        if "its files cannot be used" not in card or str(target) not in plan or "good" not in str(works):
            wrong.append(f"{name}: {card!r}, {plan!r}, {works!r}")
        elif str(target) not in refused or page.backend.first_model().name != "nano":
            wrong.append(f"{name}: {refused!r}, {page.backend.first_model().name}")
    assert not wrong, "\n".join(wrong)
    shutil.rmtree(target)
    shutil.copytree(model_dir / MODEL, target)
    assert page.backend.defects() == {} and page.backend.first_model().name == MODEL, "mended files are noticed"


def _refusal(page: Page) -> str:
    asked: dict[str, Any] = {"num_frames": 17, "height": 64, "width": 96}
    try:
        submit(page.backend, GenerationSettings(MODEL, "a red ball", **asked))
    except StudioError as error:
        return str(error)
    return ""
