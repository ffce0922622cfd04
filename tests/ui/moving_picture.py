"""The moving picture of README: one video made on the page, from the first letter of its prompt to its last frame.

Every picture is a screenshot of the page while it happens. Only the time between them is another: the wait is shown
faster than it was, and the player is held at each frame while its picture is taken.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from studio.settings import FPS

SIZE = {"width": 980, "height": 640}
PROMPT = "The red square moves right."
LETTERS = 4  # typed between two pictures
WAIT_PICTURES = 14  # of the wait at most
TYPED_MS, WAIT_MS, FRAME_MS, HOLD_MS = 140, 220, 80, 1200
EVERY = 2  # of the video's frames that are taken: at FRAME_MS each the video has its own speed

HOLD = """seconds => {
    const video = document.querySelector('#stage video');
    video.playbackRate = 0;
    video.play();
    video.currentTime = seconds;
}"""


@dataclass(frozen=True)
class Shot:
    """A picture, and how long it is shown."""

    picture: Image.Image
    milliseconds: int


def film(page: Any) -> list[Shot]:
    """Make a video on a page that has just been opened, and watch."""
    shots = [Shot(shoot(page), 500)]
    for start in range(0, len(PROMPT), LETTERS):
        page.locator("#prompt textarea").press_sequentially(PROMPT[start : start + LETTERS])
        shots.append(Shot(shoot(page), TYPED_MS))
    page.wait_for_timeout(1500)  # what the form says of the prompt
    shots.append(Shot(shoot(page), 500))
    page.click("#generate")
    wait: list[Image.Image] = []
    while not page.is_visible(".stage.finished video"):
        picture = shoot(page)
        if not (wait and same(wait[-1], picture)):
            wait.append(picture)
    step = max(len(wait) / WAIT_PICTURES, 1.0)
    shots += [Shot(wait[int(index * step)], WAIT_MS) for index in range(min(WAIT_PICTURES, len(wait)))]
    played = frames(page)
    shots += [Shot(picture, FRAME_MS) for picture in (*played, *played)]
    shots.append(Shot(played[-1], HOLD_MS))
    return shots


def shoot(page: Any) -> Image.Image:
    """What the window shows."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


def frames(page: Any) -> list[Image.Image]:
    """The page at every second frame of the video that plays: held at each while its picture is taken."""
    page.wait_for_function("document.querySelector('#stage video')?.readyState > 1")
    taken = []
    last = int(page.get_attribute("#stage .player", "data-frames")) - 1  # not shown: a looping player begins anew there
    for number in range(0, last, EVERY):
        page.evaluate(HOLD, (number + 0.5) / FPS)
        page.wait_for_function("!document.querySelector('#stage video').seeking")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        taken.append(shoot(page))
    return taken


def save_film(shots: Sequence[Shot], path: Path) -> None:
    """A webp that loops, of a quality at which text stays sharp. What does not differ is shown longer, not twice."""
    kept: list[Image.Image] = []
    times: list[int] = []
    for shot in shots:
        if kept and same(kept[-1], shot.picture):
            times[-1] += shot.milliseconds
        else:
            kept.append(shot.picture)
            times.append(shot.milliseconds)
    options = {"duration": times, "loop": 0, "quality": 75, "method": 6}
    kept[0].save(path, "WEBP", save_all=True, append_images=kept[1:], **options)
