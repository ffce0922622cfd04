"""Nano checkpoints: seeded, loadable, finite, and their small tokenizers know their world."""

import pytest
import torch

from models.checkpoint import load_clip, load_step_llm, load_transformer, load_vae
from models.tokenizers import ClipTokenizer, StepTokenizer
from studio.config import load_camera_moves
from studio.nano.checkpoint import NanoSizes, build, nano_vocabulary, write_checkpoint
from studio.nano.vocabulary import read_vocabulary
from tests.tiny import TINY


@pytest.fixture
def nano(nano_root):
    return nano_root / "assets/nano"


def test_the_seed_decides_every_byte(nano, tmp_path):
    folder = write_checkpoint(tmp_path, TINY, seed=1, use_additional_conditions=True)
    files = {
        path.relative_to(nano / "ti2v"): path.read_bytes() for path in (nano / "ti2v").rglob("*") if path.is_file()
    }
    again = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == again and len(files) == 11


def test_components_do_not_depend_on_each_other():
    configs = TINY.configs(nano_vocabulary(TINY), use_additional_conditions=False)
    alone = build({"vae": configs["vae"]}, seed=5)["vae"].state_dict()
    together = build(configs, seed=5)["vae"].state_dict()
    assert all(torch.equal(alone[name], together[name]) for name in alone)


def test_every_camera_phrase_and_ascii_text_is_known(nano):
    step = StepTokenizer(nano / "ti2v" / "step_llm")
    clip = ClipTokenizer(nano / "ti2v" / "hunyuan_clip" / "tokenizer")
    assert len(step) == read_vocabulary(nano / "ti2v").step_size
    for move in load_camera_moves().values():
        phrase = step.encode(move.phrase).ids[1:-1]
        assert len(phrase) == 1 + len(move.phrase)  # one piece per character, after the leading blank
        assert 1 not in clip.encode(move.phrase).ids  # [UNK]
    assert 1 not in clip.encode("A zebra of 17 qwxyz, unheard of!").ids


def test_words_of_the_world_are_single_pieces(nano):
    step = StepTokenizer(nano / "ti2v" / "step_llm")
    for word in ("red", "circle", "checkered", "moves"):
        assert step.encode(word).valid == 3


def test_unknown_text_falls_back_to_bytes(nano):
    step = StepTokenizer(nano / "ti2v" / "step_llm")
    assert step.encode("鼹").valid == 2 + 1 + 3 and 0 not in step.encode("鼹").ids


@pytest.mark.parametrize("sizes", [TINY, pytest.param(NanoSizes(), marks=pytest.mark.slow)])
def test_random_weights_give_finite_outputs_of_ordinary_size(tmp_path, sizes):
    folder = write_checkpoint(tmp_path, sizes, seed=3, use_additional_conditions=True)
    torch.manual_seed(0)
    text, clip_ids = StepTokenizer(folder / "step_llm").encode("红色的球"), torch.zeros(1, 77, dtype=torch.int64)
    latents = torch.randn(1, 3, sizes.latent_channels, 4, 4)
    with torch.inference_mode():
        prompt = load_step_llm(folder)(torch.tensor([text.ids]))
        clip = load_clip(folder)(clip_ids, torch.ones_like(clip_ids))
        mask = torch.ones(1, 77 + text.valid)
        velocity = load_transformer(folder)(latents, torch.tensor([0.3]), prompt, clip, mask, latents * 0, 5.0)
        video = load_vae(folder).decode(latents)
    for output in (prompt, clip, velocity):
        assert 0.1 < output.std() < 3
    assert video.shape == (1, 17, 3, 64, 64)
    assert 0.02 < video.std() < 0.7 and video.abs().mean() < 0.9
