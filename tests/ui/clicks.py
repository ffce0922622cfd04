"""What handlers are given when something is clicked, and jobs to click on."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from studio.events import Finished
from studio.settings import GenerationSettings
from studio.ui import form
from studio.ui.labels import merge
from tests.ui.fake_backend import paint

EVIL = "<img src=x onerror=alert(1)>"


def picture(width=60, height=90, kind="PNG", mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, (width, height), "teal" if mode == "RGB" else 0).save(buffer, kind, **options)
    return buffer.getvalue()


def picture_file(folder: Path, width=400, height=640, name="") -> Path:
    """A picture of many colours whose name is as a stranger might choose it."""
    path = folder / f"{name or EVIL.replace('/', '')}.png"
    Image.fromarray(paint(1, height, width, 5)[0]).save(path)
    return path


def upload(page, data):
    """What a drop zone holds once gradio has taken `data` in; calls.py checks the path before a handler sees it."""
    if data is None:
        return None
    return str(page.create.uploads.keep(data, "file"))


def filled(page, model="nano", prompt="a paper boat", image=None, language="en", **changes):
    """The input of a handler of the form, as if typed."""
    create = page.create
    values = form.fill(GenerationSettings(model, prompt), page.backend.models[model]) | changes
    data = {create.fields[name]: value for name, value in values.items()}
    return data | {
        create.picture_size: "60x90" if image else "",
        create.first_image: upload(page, image),
        create.language: language,
        create.preset: "",
        create.record: "",
        create.chat.written: "",
        page.stage.focus: "",
        page.stage.queue.editing: "",
    }


def give(page, text, image=None, language="en"):
    """What is shown once a file was given to the form, and its settings were taken where the form asked."""
    data = filled(page, image=image, language=language)
    data[page.create.restore] = upload(page, text if isinstance(text, bytes) else json.dumps(text).encode())
    given = page.events.settings_given(data)
    if not given[page.create.pending]:
        return given
    assert not set(given) & set(page.create.fields.values()), "the form is as it was until the answer"
    answer = page.events.settings_answered(data | given, SimpleNamespace(id="apply"))
    assert answer[page.create.pending] == answer[page.create.differs] == ""
    return merge(given, answer)


def in_gallery(page, chosen, kind="all", start="0", language="en", words="", sort=""):
    """The input of a handler of the gallery, and of the Sound tab with no clip in it."""
    tab = page.gallery
    found = {tab.search: words, tab.sort: sort, tab.start: start, page.sound.clip: "", page.sound.job: ""}
    return {tab.chosen: chosen, tab.filter: kind, tab.language: language, **found}


def message(page, updates):
    return updates[page.create.message]


def submit(page, **changes):
    settings = replace(GenerationSettings("nano", "a paper boat", seed=5), **changes)
    return page.backend.queue.submit(settings.resolve(page.backend.models[settings.model]))


def finish(page, job, folder):
    path = folder / "made.mp4"
    path.write_bytes(b"video")
    page.backend.queue.claim()
    page.backend.queue.record(job.id, Finished(str(path), job.settings.seed, {}, 0, 0))
    return path
