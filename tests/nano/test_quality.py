"""The shipped nano still does what its card says (assets/nano/README.md)."""

import pytest
import torch

from models.checkpoint import load_vae
from studio.config import ROOT, load_models
from studio.nano.evaluate import Tally, judge_model, judge_vae
from studio.nano.model import Denoiser, SampleSettings, load_denoiser
from studio.nano.world import WORLDS

ASSETS = ROOT / "assets" / "nano"
COUNT = 20  # captions per language

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ASSETS / "t2v/vae").is_dir(), reason="the nano checkpoint is not in this copy"),
]


@pytest.fixture(scope="module")
def networks() -> tuple[Denoiser, Denoiser, torch.nn.Module]:
    alone, both = (load_denoiser(ASSETS / name, ASSETS / "t2v", "cpu") for name in ("t2v", "ti2v"))
    return alone, both, load_vae(ASSETS / "t2v", torch.float32)


@pytest.fixture(scope="module")
def settings() -> SampleSettings:
    """The defaults a user has."""
    defaults = load_models()["nano"].defaults
    names = ("infer_steps", "cfg_scale", "time_shift", "num_frames", "height", "width")
    return SampleSettings(**{name: defaults[name] for name in names})


def share(tallies: dict[str, Tally], name: str) -> float:
    return sum(tally.right[name] for tally in tallies.values()) / sum(tally.total[name] for tally in tallies.values())


def test_words_decide_colour_and_direction(networks: tuple, settings: SampleSettings) -> None:
    alone, _, vae = networks
    tallies = judge_model(alone, vae, WORLDS["small"], COUNT, settings, with_image=False)
    assert share(tallies, "colour") >= 0.9 and share(tallies, "direction") >= 0.9


def test_the_first_image_is_the_first_frame(networks: tuple, settings: SampleSettings) -> None:
    _, both, vae = networks
    tallies = judge_model(both, vae, WORLDS["small"], COUNT, settings, with_image=True)
    seen = [value for tally in tallies.values() for value in tally.first_frame]
    assert sum(seen) / len(seen) >= 25
    assert share(tallies, "colour") >= 0.9


def test_the_vae_shows_what_it_was_shown(networks: tuple, settings: SampleSettings) -> None:
    tally, quality = judge_vae(networks[-1], WORLDS["small"], COUNT, settings)
    assert sum(quality) / len(quality) >= 26
    assert share({"": tally}, "colour") >= 0.9
