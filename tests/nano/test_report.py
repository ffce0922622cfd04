"""The judge's report: its tables say what was counted, its gates compare clip by clip, its picture has every row."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from models.quantized import Int8Linear
from models.vae import VAE, VAEParams
from studio.nano.checkpoint import NanoSizes
from studio.nano.evaluate import Tally, difference
from studio.nano.gates import int8_denoiser
from studio.nano.grid import CAMERAS, PROMPTS, make_grid
from studio.nano.model import Denoiser, SampleSettings, text_alone
from studio.nano.report import gates_table, marks_table, report
from studio.nano.train_denoiser import new_denoiser
from studio.nano.world import WORLDS

SIZES = NanoSizes(heads=1, head_dim=32, layers=1, latent_channels=4, llm_width=32, llm_layers=1, llm_heads=2,
                  llm_groups=1, llm_ffn=32, clip_width=32, clip_layers=1, clip_heads=2)  # fmt: skip
LEVELS = {"ch": 16, "ch_mult": [1, 1, 1, 1]}
VAE_CONFIG = {
    "version": 2,
    "z_channels": 4,
    "num_res_blocks": 1,
    "norm_groups": 4,
    "encoder": LEVELS,
    "decoder": LEVELS,
}
FAST = SampleSettings(infer_steps=1, height=32, width=32)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Denoiser, Denoiser, VAE]:
    folder = tmp_path_factory.mktemp("nano")
    both = new_denoiser(SIZES, folder, "cpu").eval()
    parts = {"transformer": text_alone(both.transformer, 5.0), "step_llm": both.step_llm, "clip": both.clip}
    torch.manual_seed(0)
    vae = VAE(VAEParams.from_config(VAE_CONFIG)).eval().requires_grad_(False)
    return Denoiser(parts, folder).eval(), both, vae


def tally(*clips: dict[str, bool]) -> Tally:
    return Tally(marks=list(clips))


def test_a_difference_is_paired_and_every_attribute_weighs_the_same() -> None:
    ours = tally({"colour": True, "shape": True}, {"colour": True}, {"colour": False}, {"colour": True})
    theirs = tally({"colour": True, "shape": False}, {"colour": False}, {"colour": False}, {"colour": False})
    told = difference([ours], [theirs])
    assert told["points"] == 75.0 and told["judgements"] == 5  # colour +50, shape +100
    # The spread is colour's alone: half of the standard error of (0, 1, 0, 1).
    assert told["interval"] == pytest.approx([75 - 1.96 * 12.5, 75 + 1.96 * 12.5], abs=0.06)
    assert difference([ours], [ours]) == {"points": 0.0, "interval": [0.0, 0.0], "judgements": 5}


def test_the_report_counts_every_way_and_its_tables_say_it(networks: tuple) -> None:
    alone, both, vae = networks
    told = json.loads(json.dumps(report(alone, both, alone, vae, WORLDS["small"], 3, FAST)))
    assert set(told["gates"]) == {"int8", "few", "turbo"}
    assert (
        told["gates"]["turbo"]["settings"]["cfg_scale"] == 1.0 and told["gates"]["few"]["settings"]["infer_steps"] == 10
    )
    assert told["chinese_above_english"]["judgements"] == 2 * sum(
        marks["n"] for marks in told["text"]["zh"].values() if isinstance(marks, dict)
    )
    assert told["truth"]["colour"]["share"] == 1.0
    marks = marks_table(told)
    assert "100 % (44-100, n=3)" in marks and marks.count("\n") == 9
    assert {len(line.split("|")) for line in marks.splitlines()} == {9}  # the same number of cells in every row
    ways = gates_table(told).splitlines()
    assert [line.split("|")[1].strip() for line in ways[2:]] == [
        "bf16, 1 steps", "int8, 1 steps", "10 steps, not distilled", "Turbo, 10 steps"
    ]  # fmt: skip
    without = report(alone, both, None, vae, WORLDS["small"], 2, FAST)
    assert set(without["gates"]) == {"int8", "few"} and "Turbo" not in gates_table(without)


def test_int8_is_a_copy_with_int8_layers(networks: tuple) -> None:
    alone = networks[0]
    before = {name: value.clone() for name, value in alone.state_dict().items()}
    copied = int8_denoiser(alone)
    assert sum(isinstance(layer, Int8Linear) for layer in copied.modules()) > 8
    assert not any(isinstance(layer, Int8Linear) for layer in alone.modules())
    for name, value in alone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_picture_has_a_row_for_every_prompt_move_and_score(networks: tuple, tmp_path: Path) -> None:
    alone, both, vae = networks
    settings = dataclasses.replace(FAST, height=32, width=32)
    picture = make_grid(alone, both, vae, settings, None)
    assert picture.height == 12 + (len(PROMPTS) + len(CAMERAS)) * (48 + 22 + 12)
    assert picture.width == 12 + 2 * (5 * 48 + 12)
