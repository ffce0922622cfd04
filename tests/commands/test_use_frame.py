"""The player's button that makes a frame the first image, in headless Chromium with the real worker and nano:
with which pixels the next video begins, and what the page says of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.media import png_bytes, read_frame
from studio.queue.job import Job, JobState
from studio.queue.jobs import HELD
from studio.queue.verbs import saved_latents
from tests.commands.real_studio import WAIT, Studio, browser, generate, plays
from tests.commands.test_day import SMALL, bring, day, ended, visit

pytestmark = pytest.mark.browser
FRAME = 7  # of 17, counted from 1: in the middle of a chunk
AT_ONCE = "#frame-bar .waits, .crop img"
__all__ = ["browser", "day", "visit"]


def use(page: Any, said: str) -> None:
    """Go to the frame in the player and use it; the page then says `said`."""
    page.wait_for_function("document.querySelector('#stage video')?.readyState > 1")
    page.fill("#stage .player input[type=range]", str(FRAME - 1))
    page.wait_for_selector(f"#stage .player output:text-is('{FRAME} / 17')")
    page.click("#stage [data-do=frame]")
    page.wait_for_selector(AT_ONCE)
    page.wait_for_selector(f"#message .alert.good:has-text('Frame {FRAME}'):has-text('{said}')")
    page.wait_for_selector(".crop img")
    assert page.locator("#frame-bar .waits").count() == 0, "what was waited for is there"


def begins_with(day: Studio, page: Any) -> bytes:
    """The first image of the job that the form asks for, as the queue keeps it; the job never runs."""
    day.queue.set_option(HELD, "1")
    job = generate(day, page)
    picture = (job.folder / "first_image").read_bytes()
    page.wait_for_selector(f"#stage .stage.queued[data-job='{job.id}']")
    page.click("#stop:not([disabled])")
    ended(day, job, JobState.CANCELLED)
    day.queue.set_option(HELD, "")
    return picture


def decoded(day: Studio, job: Job, path: Path) -> bytes:
    """The frame as `decode --frame` writes it from the job's latents, in a process of its own."""
    latents = saved_latents(job)
    assert latents is not None, "latents of whole videos are kept"
    process = day.run("decode", latents, "--frame", FRAME, "--output", path)
    told, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, told
    return path.read_bytes()


def test_a_frame_is_the_decoded_one_bit_for_bit_and_else_the_mp4s_and_the_page_says_which(
    day: Studio, visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit()
    bring(page, SMALL, tmp_path)
    clip = ended(day, generate(day, page), JobState.FINISHED)
    plays(page, clip)
    use(page, "exactly as it was decoded")
    exact = begins_with(day, page)
    assert exact == decoded(day, clip, tmp_path / "frame.png")

    latents = saved_latents(clip)
    assert latents is not None and clip.result_path is not None
    latents.unlink()
    page.click("#remove-picture")
    page.wait_for_selector(".crop img", state="detached")
    page.click(f"#latest .card[data-id='{clip.id}']")
    plays(page, clip)
    use(page, "taken from the mp4")
    shown = read_frame(clip.result_path, FRAME - 1)
    assert begins_with(day, page) == png_bytes(shown)
    (tmp_path / "exact.png").write_bytes(exact)
    difference = np.abs(np.asarray(shown).astype(int) - np.asarray(Image.open(tmp_path / "exact.png")))
    assert 0 < difference.mean() < 10, "the same frame, compressed"
