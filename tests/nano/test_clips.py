"""Clips for the judge come out of the studio's own recipe, from any folder laid out as assets/nano is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.nano import clips
from studio.nano.clips import NanoFolder, to_frames
from studio.settings import ResolvedSettings

SMALL = {"height": 64, "width": 64, "infer_steps": 1}


@pytest.fixture
def folder(nano_root: Path, outputs: Path) -> NanoFolder:
    return NanoFolder(nano_root / "assets/nano", outputs.parent, "cpu")


def test_a_clip_is_what_the_studio_makes_of_a_request(folder: NanoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ResolvedSettings] = []
    make = clips.generate_frames

    def noted(settings: ResolvedSettings, *given: object) -> np.ndarray:
        asked.append(settings)
        return make(settings, *given)

    monkeypatch.setattr(clips, "generate_frames", noted)
    with folder.open("nano", overrides=SMALL) as maker:
        first = maker.make("a red circle", 3, motion_score=9.0)
        assert first.shape == (17, 64, 64, 3) and first.dtype == np.uint8
        assert np.array_equal(maker.make("a red circle", 3, motion_score=9.0), first)
        assert not np.array_equal(maker.make("a red circle", 4, motion_score=9.0), first)
        assert maker.computed["infer_steps"] == 1 and maker.computed["dtype"] == "float32"
    assert asked[0].seed == 3 and asked[0].motion_score == 9.0
    image = Image.fromarray(first[0])
    with folder.open("nano", with_image=True, overrides=SMALL) as maker:
        maker.make("a red circle", 3, motion_score=9.0, image=image, camera_move="left")
    assert asked[-1].motion_score == 9.0 and asked[-1].camera_move == "left" and asked[-1].cfg_scale == 3.0


def test_int8_weights_are_made_in_the_work_folder(folder: NanoFolder) -> None:
    before = sorted(folder.checkpoint.rglob("*"))
    with folder.open("nano", int8=True, overrides=SMALL) as maker:
        assert maker.computed["quantize"] == "int8"
        assert maker.make("a red circle", 3, motion_score=9.0).shape == (17, 64, 64, 3)
    assert sorted(folder.checkpoint.rglob("*")) == before
    assert not folder.has("nano-turbo") and folder.has("nano")


def test_the_vae_alone(folder: NanoFolder) -> None:
    video = torch.rand(1, 17, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with folder.open("nano") as maker:
        frames, decibels = maker.through_vae(video)
    assert frames.shape == (17, 64, 64, 3) and 5 < decibels < 40


def test_frames_are_rounded_as_the_pipeline_does_it() -> None:
    video = torch.tensor([-1.0, 0.0, 0.999, 2.0]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    assert to_frames(video)[0, :, 0, 0, 0].tolist() == [0, 127, 254, 255]
