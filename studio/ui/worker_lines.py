"""Which device makes what: a line per worker, where there are several."""

import time
from collections.abc import Sequence

from studio.service.workers import WorkerView
from studio.ui.markup import sentence, text
from studio.ui.strings import say

PROMPT_LETTERS = 40


def worker_lines(workers: Sequence[WorkerView], language: str) -> str:
    """Device, job, steps, seconds per step, since when; "" for a single worker, of which the stage tells all."""
    if len(workers) < 2:
        return ""
    lines = "".join(f"<li><b>{text(one.name)}</b> {text(_doing(one, language))}</li>" for one in workers)
    return f'<ul class="workers">{lines}</ul>'


def _doing(worker: WorkerView, language: str) -> str:
    if worker.trouble:
        return sentence(worker.trouble, language)
    if (job := worker.job) is None:
        return say("status.idle", language)
    words = " ".join(job.settings.prompt.split())
    parts = [words if len(words) <= PROMPT_LETTERS else words[: PROMPT_LETTERS - 1] + "…"]
    if (progress := job.progress) and progress.step and progress.phase == "denoise":
        parts.append(f"{progress.step}/{progress.steps}")
        parts.append(say("worker.pace", language, seconds=f"{progress.seconds / progress.step:.1f}"))
    if job.started:
        parts.append(say("worker.since", language, time=time.strftime("%H:%M", time.localtime(job.started))))
    return " · ".join(parts)
