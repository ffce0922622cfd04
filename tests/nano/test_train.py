"""Training: a step goes down, a resumed run is the run, a stage's data is what it says."""

import dataclasses
import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from studio.nano.checkpoint import NanoSizes
from studio.nano.model import Denoiser, text_alone
from studio.nano.train import Loop, LoopSettings, step_generator
from studio.nano.train_denoiser import CaptionPool, DenoiserSettings, Kind, LatentClips, flow_loss, new_denoiser
from studio.nano.train_turbo import TurboSettings, train_turbo
from studio.nano.world import WORLDS, draw_scene

TINY = NanoSizes(heads=1, head_dim=32, layers=1, latent_channels=4, llm_width=32, llm_layers=1, llm_heads=2,
                 llm_groups=1, llm_ffn=32, clip_width=32, clip_layers=1, clip_heads=2)  # fmt: skip
MUON = ("transformer_blocks",)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    new_denoiser(TINY, folder, "cpu")
    return folder


def flow_run(folder: Path, tokenizers: Path, steps: int, stop: int | None = None) -> Loop:
    """Train a tiny denoiser on made-up latents, to `stop` of `steps`."""
    scenes = [draw_scene(seed, WORLDS["small"]) for seed in range(12)]
    latents = torch.randn(12, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    clips = LatentClips(latents.half(), torch.full((12,), 4.0), scenes)
    loop_settings = LoopSettings(steps, learning_rate=3e-3, warmup=1, average=0.9, log_every=1, muon=MUON)
    settings = DenoiserSettings(
        loop_settings, kinds=(Kind(17, 32, 32, 12, 1.0),), batch=8, wordings=1, text_dropout=0.3
    )
    denoiser = new_denoiser(TINY, tokenizers, "cpu")
    pool = CaptionPool(scenes, denoiser, settings)
    loop = Loop(denoiser, loop_settings, folder / "denoiser.pt")
    loop.resume()

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        if step + 1 == stop:
            signal.raise_signal(signal.SIGTERM)
        return flow_loss(denoiser, [(clips, pool)], settings, step)

    loop.run(loss_of)
    return loop


def test_training_learns(tmp_path: Path, tokenizers: Path) -> None:
    flow_run(tmp_path, tokenizers, 30)
    rows = [json.loads(line) for line in (tmp_path / "denoiser.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 31))
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_run_that_was_stopped_and_resumed_is_the_run(tmp_path: Path, tokenizers: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = flow_run(tmp_path / "a", tokenizers, 6)
    assert flow_run(tmp_path / "b", tokenizers, 6, stop=3).step == 3
    resumed = flow_run(tmp_path / "b", tokenizers, 6)
    assert resumed.step == 6
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
        assert torch.equal(whole.average[name], resumed.average[name]), name


def test_turbo_learns_the_teachers_guided_steps(tmp_path: Path, tokenizers: Path) -> None:
    scenes = [draw_scene(seed, WORLDS["small"]) for seed in range(12)]
    latents = torch.randn(12, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    clips = LatentClips(latents.half(), torch.full((12,), 4.0), scenes)
    teacher = new_denoiser(TINY, tokenizers, "cpu").eval()
    loop = LoopSettings(25, learning_rate=3e-3, warmup=1, log_every=1)
    pool = CaptionPool(scenes, teacher, DenoiserSettings(loop, wordings=1))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = train_turbo(TurboSettings(loop, steps=4, batch=8), teacher, clips, pool, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "turbo.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert name.startswith("transformer.") or torch.equal(student.state_dict()[name], value), name


def test_a_loss_that_is_not_finite_stops_the_run_before_the_weights(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    loop = Loop(layer, LoopSettings(3), tmp_path / "layer.pt")
    with pytest.raises(RuntimeError, match="non-finite"):
        loop.run(lambda step: (layer(torch.full((1, 2), torch.nan)).sum(), {}))
    assert torch.equal(layer.weight, before)


def test_the_rate_warms_up_holds_and_falls() -> None:
    settings = LoopSettings(100, learning_rate=1.0, warmup=10, hold=0.5)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == [1.0] * 41
    assert all(a > b for a, b in zip(rates[51:], rates[52:], strict=False)) and rates[-1] < 0.06


def test_captions_of_a_group_have_one_length(tokenizers: Path) -> None:
    import random

    scenes = [draw_scene(seed, WORLDS["small"]) for seed in range(20)]
    denoiser = new_denoiser(TINY, tokenizers, "cpu")
    pool = CaptionPool(scenes, denoiser, DenoiserSettings(LoopSettings(1)))
    dice = random.Random(0)
    for _ in range(20):
        rows, texts = pool.draw(8, 0.2, dice)
        assert len({denoiser.count(text) for text in texts}) == 1
        assert all(scenes[row].things[0].shape for row in rows) and len(rows) == 8


def test_what_a_step_draws_belongs_to_its_number() -> None:
    first, again, other = (torch.randn(3, generator=step_generator(1, step)) for step in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_ti2v_network_without_an_image_is_a_t2v_network(tokenizers: Path) -> None:
    both = new_denoiser(TINY, tokenizers, "cpu").eval()
    alone = Denoiser({"transformer": text_alone(both.transformer, 5.0), "step_llm": both.step_llm, "clip": both.clip},
                     tokenizers)  # fmt: skip
    begin = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    texts, motion = both.encode(["a red circle", "一个球"]), torch.tensor([5.0, 5.0])
    given = (begin, torch.tensor([0.2, 0.7]), texts, torch.zeros_like(begin))
    with torch.no_grad():
        assert torch.allclose(both.velocity(*given, motion), alone.velocity(*given, motion), atol=1e-5)
        assert not torch.allclose(both.velocity(*given, 3 * motion), alone.velocity(*given, motion), atol=1e-5)


def test_training_waits_while_the_pause_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = tmp_path / "PAUSE"
    pause.touch()
    layer = nn.Linear(2, 2)
    loop = Loop(layer, LoopSettings(2, log_every=1, pause_file=pause), tmp_path / "layer.pt")

    def slept(seconds: float) -> None:
        assert loop.step == 0 and (tmp_path / "layer.pt").is_file(), "saved before it waits"
        pause.unlink()

    monkeypatch.setattr("studio.nano.train.time.sleep", slept)
    loop.run(lambda step: (layer(torch.ones(1, 2)).sum(), {}))
    rows = [json.loads(line) for line in (tmp_path / "layer.jsonl").read_text().splitlines()]
    assert ["paused" in row for row in rows] == [True, False, False] and loop.step == 2


def test_copies_are_kept_and_hold_the_average(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    loop = Loop(layer, LoopSettings(4, average=0.5, keep_every=2), tmp_path / "layer.pt")
    loop.run(lambda step: (layer(torch.ones(1, 2)).square().sum(), {}))
    assert sorted(path.name for path in tmp_path.glob("layer-*.pt")) == ["layer-000002.pt", "layer-000004.pt"]
    kept = torch.load(tmp_path / "layer-000004.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in loop.average.items())
    assert not torch.equal(kept["weight"], layer.weight)


def test_slow_weights_move_less_and_given_weights_are_where_it_begins(tmp_path: Path) -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    start = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    settings = LoopSettings(1, learning_rate=0.1, warmup=1, weight_decay=0.0, average=0.5, slow=(("a", 0.1),))
    loop = Loop(network, settings, tmp_path / "two.pt")
    loop.begin_with(start)
    assert all(torch.equal(value, start[name]) for name, value in loop.average.items())
    loop.run(lambda step: (network["b"](network["a"](torch.ones(1, 2))).sum(), {}))
    moved = {name: (value - 1).abs().max().item() for name, value in network.state_dict().items()}
    assert moved["a.weight"] == pytest.approx(0.01, rel=0.01) and moved["b.weight"] == pytest.approx(0.1, rel=0.01)


def test_a_moving_camera_often_shows_a_still_object() -> None:
    settings = DenoiserSettings(LoopSettings(1), camera_share=1.0, still_share=0.5)
    scenes = [settings.scene(seed) for seed in range(200)]
    assert all(scene.camera for scene in scenes)
    assert 80 <= sum(scene.things[0].motion == "still" for scene in scenes) <= 140
    without = dataclasses.replace(settings, camera_share=0.0)
    assert not any(without.scene(seed).camera for seed in range(20))
    hills = [without.scene(seed, hills=True) for seed in range(20)]
    assert all(scene.camera and scene.near == "hills" for scene in hills)
