"""Three named endpoints for users of gradio_client: submit, status and cancel. Everything else of the page has no name.

The calls go through gradio's own queue, which the page does not use: the gate lets calls of these three pass alone.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.errors import StudioError
from studio.messages import message
from studio.queue.job import Job, key
from studio.service.backend import Backend
from studio.service.submit import submit
from studio.settings import GenerationSettings
from studio.ui.calls import SESSION, is_int, is_text, read_call

NAMES = ("submit", "status", "cancel")
KEYS = {"data", "fn_index", "session_hash"}
LONGEST = 10_000  # characters of a prompt
MOST = 2**63
Call = Callable[[bytes], str | None]


class ClientApi:
    """What the endpoints do. Their names, parameters and docstrings are what `Client.view_api` shows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self) -> None:
        """Add them to the page that is being built."""
        for function in (self.submit, self.status, self.cancel):
            gr.api(function, api_name=function.__name__, queue=True, concurrency_limit=4)

    def submit(
        self,
        prompt: str,
        model: str = "nano",
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        infer_steps: int | None = None,
        seed: int | None = None,
    ) -> str:
        """Queue a video; returns its id. What is left out is the model's own, the speed is exact; /v1/videos has every
        setting."""
        asked = GenerationSettings(
            model, prompt, num_frames=num_frames, height=height, width=width, infer_steps=infer_steps, seed=seed
        )
        try:
            return submit(self._backend, asked).id
        except StudioError as error:
            raise gr.Error(str(error)) from None

    def status(self, id: str) -> dict[str, Any]:
        """What became of a video: id, status, step, steps, seconds_left, and file or error."""
        return _told(self._job(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """Stop a video; what is there of it is kept, and it can be resumed on the page. Returns its status."""
        self._job(id)
        self._backend.queue.cancel(id)
        return _told(self._job(id))

    def _job(self, id: str) -> Job:
        job = self._backend.queue.get(key(id))
        if job is None:
            raise gr.Error(message("video_absent", {"value": id[:80]}))
        return job


def _told(job: Job) -> dict[str, Any]:
    progress, failed = job.progress, job.error
    return {
        "id": job.id,
        "status": str(job.state),
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "seconds_left": progress.seconds_left if progress else None,
        "file": job.result_path.name if job.result_path else None,
        "error": failed.text if failed else None,
    }


def client_check(page: gr.Blocks) -> Call:
    """The check for a call that goes through gradio's queue: why it is none of the three, None for a sound one."""
    counts = {index: len(function.inputs) for index, function in page.fns.items() if function.api_name in NAMES}

    def check(body: bytes) -> str | None:
        call = read_call(body, KEYS)
        if isinstance(call, str):
            return call
        index, values, session = call.get("fn_index"), call.get("data"), call.get("session_hash")
        if not is_int(index) or index not in counts:
            return "there is no such endpoint"
        if not isinstance(values, list) or len(values) != counts[index] or not all(map(_is_plain, values)):
            return "it has other values"
        return None if isinstance(session, str) and SESSION.fullmatch(session) else "the session is none"

    return check


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST and is_text(value)
    return value is None or (is_int(value) and abs(value) < MOST)
