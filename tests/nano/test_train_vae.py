"""The VAE's training: windows are parts of pictures, a narrower network begins as part of a wider one."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.vae import VAE, VAEParams
from studio.nano import train_vae
from studio.nano.render import render
from studio.nano.train import LoopSettings, step_generator
from studio.nano.train_denoiser import LatentClips
from studio.nano.train_vae import Phase, VAESettings, load_trained_vae, polish_decoder, start_from
from studio.nano.world import WORLDS, draw_scene
from tests.tiny import TINY

ROUGH = (Phase(0.0, (32, 48), 16, 16, 2), Phase(0.5, (32, 48), 32, 48, 1))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict:
    config = dataclasses.replace(TINY, narrow_decoder=True, vae_channels=16).vae_config()
    monkeypatch.setattr(train_vae, "VAE_CONFIG", config)
    return config


def test_a_window_is_a_part_of_the_picture() -> None:
    scene = draw_scene(3, WORLDS["full"])
    whole = render([scene], 3, 48, 64)
    part = render([scene], 3, 48, 64, window=(8, 16, 24, 32))
    assert torch.equal(part.video, whole.video[..., 8:32, 16:48])
    assert torch.equal(part.masks, whole.masks[..., 8:32, 16:48])
    assert torch.equal(part.flow, whole.flow[..., 8:32, 16:48])


def test_windows_lie_in_the_picture_and_show_the_object() -> None:
    phase, seen = Phase(0.0, (64, 96), 32, 32, 1), 0
    for seed in range(20):
        scene = draw_scene(seed, WORLDS["small"])
        top, left, height, width = train_vae._window(scene, phase, step_generator(0, seed), aimed=True)
        assert 0 <= top <= 32 and 0 <= left <= 64 and (height, width) == (32, 32)
        seen += bool(render([scene], 17, 64, 96, window=(top, left, height, width)).masks.any())
    assert seen == 20


def test_a_narrow_decoder_begins_with_every_second_channel(small: dict) -> None:
    wide = VAE(VAEParams.from_config({**small, "decoder": small["encoder"]})).state_dict()
    narrow = VAE(VAEParams.from_config(small))
    narrow.load_state_dict(start_from(wide))
    begun = narrow.state_dict()
    same = [name for name, value in begun.items() if name in wide and value.shape == wide[name].shape]
    assert all(torch.equal(begun[name], wide[name]) for name in same)
    assert all(name in same for name in begun if name.startswith("encoder."))
    last = "decoder.conv_out.weight"
    assert begun[last].shape[1] * 2 == wide[last].shape[1]
    assert torch.equal(begun[last], 2 * wide[last][:, ::2])
    shortcut = begun["decoder.up.0.block.0.nin_shortcut.conv.weight"][..., 0, 0, 0]
    assert torch.equal(shortcut, torch.eye(16)[::2])


def test_it_trains_through_its_phases_and_the_decoder_goes_on_alone(small: dict, tmp_path: Path) -> None:
    settings = VAESettings(LoopSettings(2, warmup=1, average=0.5, log_every=1), phases=ROUGH, small_share=0.5)
    vae = train_vae.train_vae(settings, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "vae.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all(row["psnr"] > 0 for row in rows)
    used = load_trained_vae(tmp_path)
    average = torch.load(tmp_path / "vae.pt", weights_only=True)["average"]
    assert all(torch.equal(value, average[name]) for name, value in used.state_dict().items())
    scenes = [draw_scene(1, WORLDS["small"])]
    with torch.no_grad():
        latents = vae.encode_moments(render(scenes, 17, 32, 48).video).chunk(2, dim=2)[0].half()
    clips, drawn = LatentClips(latents, torch.tensor([4.0]), scenes), []

    def redraw(given: LatentClips, row: int, draw: torch.Generator) -> Tensor:
        drawn.append(row)
        return given.latents[row : row + 1].float()

    settings = dataclasses.replace(settings, loop=dataclasses.replace(settings.loop, steps=6))
    polished = polish_decoder(settings, [clips], tmp_path, redraw)
    assert 0 < len(drawn) < 6
    assert all(
        torch.equal(value, used.state_dict()[f"encoder.{name}"])
        for name, value in polished.encoder.state_dict().items()
    )
    last = "decoder.conv_out.weight"
    assert not torch.equal(load_trained_vae(tmp_path).state_dict()[last], used.state_dict()[last])


def test_outlines_weigh_most() -> None:
    scene = dataclasses.replace(draw_scene(0, WORLDS["small"]), camera="")
    clip = render([scene], 2, 64, 64)
    weights = train_vae._weights(clip, VAESettings(LoopSettings(1), focus=1.0, edge=4.0))[0, 0, 0]
    assert set(weights.unique().tolist()) == {1.0, 2.0, 5.0, 6.0}
    inside = clip.masks[0, 0, 0]
    assert (weights[inside] >= 2).all() and (weights[~inside] != 2).all()
