"""Previews and saved latents beside the denoising loop: when, and what a full disk costs (nothing)."""

import pytest
import torch
from PIL import Image

from studio.config import load_models
from studio.errors import StudioError
from studio.filenames import LATENTS, PREVIEW
from studio.pipeline.latents_file import read_latents
from studio.pipeline.observers import PREVIEW_SECONDS, SAVE_SECONDS, LatentsSaver, PreviewWriter
from studio.pipeline.preview import LatentColours
from studio.pipeline.sampler import SamplerState, Step
from studio.settings import GenerationSettings

SETTINGS = GenerationSettings("nano", "x", num_frames=17, height=64, width=96, seed=1).resolve(load_models()["nano"])
LATENTS_SHAPE = (1, 3, 4, 4, 6)


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def step(number: int) -> Step:
    latents = torch.full(LATENTS_SHAPE, float(number))
    return Step(latents - 1, 0.5, torch.ones(LATENTS_SHAPE), SamplerState(latents, number))


def test_once_there_are_colours_three_steps_have_a_preview_each_then_one_every_two_seconds(tmp_path):
    clock, shown = Clock(), []
    known = LatentColours(torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(1)) - 0.5)
    colours = [known] * 8 + [None] * 3  # popped from the end: not there before step 4
    preview = PreviewWriter(
        tmp_path,
        colours.pop,
        shown.append,
        clock,
    )
    for number in range(1, 12):
        preview(step(number))
        clock.now += PREVIEW_SECONDS / 2
    assert [event.step for event in shown] == [4, 5, 6, 9]
    assert {event.path for event in shown} == {PREVIEW} and Image.open(tmp_path / PREVIEW).n_frames == 3


def test_a_preview_that_cannot_be_written_is_none(tmp_path):
    (tmp_path / PREVIEW).mkdir()
    shown = []
    PreviewWriter(tmp_path, lambda: LatentColours(torch.zeros(3, 5, 3)), shown.append)(step(1))
    assert shown == []


def test_latents_are_saved_now_and_then(tmp_path):
    clock = Clock()
    saver = LatentsSaver(tmp_path, SETTINGS, {"torch": "2"}, clock)
    saved = []
    for number in range(1, 6):
        saver(step(number))
        clock.now += SAVE_SECONDS / 2
        saved.append(read_latents(tmp_path / LATENTS).state.step if (tmp_path / LATENTS).exists() else 0)
    assert saved == [0, 0, 0, 4, 4]
    found = read_latents(tmp_path / LATENTS)
    assert torch.equal(found.state.latents, step(4).state.latents) and found.provenance == {"torch": "2"}


def test_a_save_that_fails_on_the_way_is_tried_again_and_the_last_one_is_an_error(tmp_path):
    clock = Clock()
    saver = LatentsSaver(tmp_path, SETTINGS, {}, clock)
    (tmp_path / LATENTS).mkdir()  # as a full disk: nothing can be put there
    clock.now += SAVE_SECONDS + 1
    saver(step(1))
    with pytest.raises(StudioError) as failure:
        saver.save(step(1).state)
    assert failure.value.code == "write_failed" and not list(tmp_path.glob("*.tmp"))
    (tmp_path / LATENTS).rmdir()
    clock.now += SAVE_SECONDS + 1
    saver(step(2))
    assert read_latents(tmp_path / LATENTS).state.step == 2
