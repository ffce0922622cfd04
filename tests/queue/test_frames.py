"""Wishes for single frames: asked for, taken by one worker, answered, withdrawn, removed when nobody comes back."""

import os
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.queue.frames import KEPT_SECONDS, MOST_WISHES, FrameDesk, FrameWish, WishState
from tests.queue.fake_clock import FakeClock

WISH = FrameWish(Path("/jobs/a/latents.safetensors"), 12, True)


def test_a_wish_is_answered_once_with_the_frame_or_with_the_reason(tmp_path: Path) -> None:
    desk, seen = FrameDesk(tmp_path), []
    assert not desk.waits() and not desk.serve(lambda wish: b"")
    id = desk.ask(WISH)
    assert desk.waits() and desk.state(id) is WishState.WAITING

    def make(wish: FrameWish) -> bytes:
        seen.append((wish, desk.state(id), FrameDesk(tmp_path).serve(make)))
        return b"a png"

    assert desk.serve(make) and seen == [(WISH, WishState.TAKEN, False)], "a second worker finds none"
    assert (desk.state(id), desk.picture(id), desk.waits()) == (WishState.DONE, b"a png", False)
    desk.withdraw(id)
    assert desk.state(id) is WishState.GONE and desk.picture(id) is None

    def refuse(wish: FrameWish) -> bytes:
        raise InputError("part_empty", first=12, last=12, frames=9)

    id = desk.ask(WISH)
    assert desk.serve(refuse) and desk.state(id) is WishState.FAILED
    assert (desk.failure(id).code, desk.failure(id).values["frames"]) == ("part_empty", 9)

    def withdrawn(wish: FrameWish) -> bytes:
        desk.withdraw(other)
        return b"too late"

    def broken(wish: FrameWish) -> bytes:
        raise RuntimeError("CUDA error")

    other = desk.ask(WISH)
    assert desk.serve(withdrawn) and desk.state(other) is WishState.GONE
    other = desk.ask(WISH)
    with pytest.raises(RuntimeError):
        desk.serve(broken)
    assert desk.state(other) is WishState.GONE, "whoever wished takes it from the mp4"
    for id in ("", "../x", "0" * 15, "a/b"):
        desk.withdraw(id)
        assert desk.state(id) is WishState.GONE and desk.picture(id) is None and desk.failure(id) is None


def test_wishes_are_few_and_go_when_nobody_comes_back(tmp_path: Path) -> None:
    clock = FakeClock()
    desk, ids = FrameDesk(tmp_path, clock), []
    for _ in range(MOST_WISHES):
        ids.append(desk.ask(WISH))
        os.utime(tmp_path / "frames" / f"{ids[-1]}.json", (clock.now(), clock.now()))
    assert len(set(ids)) == MOST_WISHES and desk.ask(WISH) == ""
    clock.sleep(KEPT_SECONDS + 1)
    assert desk.ask(WISH) and desk.state(ids[0]) is WishState.GONE
