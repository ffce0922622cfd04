"""The vocoder: every recorded intermediate, chance from the seed alone, chunks against the whole, the public sizes."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from models import hift as module
from models.hift import CHUNK, CONTEXT, HiFT, HiFTParams, SourceNoise, source_noise
from tests.golden.audio.rule import PARITY, fill, golden, normal
from tests.golden.rule import relative_error

CONFIG, FRAMES = PARITY["hift"]["config"], PARITY["hift"]["frames"]
PARAMS = HiFTParams(
    mel_channels=CONFIG["in_channels"], channels=CONFIG["base_channels"], f0_channels=CONFIG["cond_channels"]
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def hift():
    return fill(HiFT(PARAMS), PARITY["hift"]["keys"])


def _mel(frames=FRAMES):
    return 0.5 * normal("mel", (1, 16, frames))


def _chance():
    phase = normal("phase", (1, 9, 1)).clamp(-1, 1) * math.pi
    return SourceNoise(phase, normal("noise", (1, 9, FRAMES * 256)))


def _f0():
    f0 = 80 + 170 * normal("f0", (1, FRAMES)).abs()
    f0[:, [0, 1, 15, 16, 17]] = 0
    f0[:, 9] = 9.5
    return f0


@torch.no_grad()
def test_every_recorded_tensor_is_reproduced(hift):
    recorded, mel, f0 = golden("hift"), _mel(), _f0()
    source, own = hift.source(f0, _chance()), hift.source(hift.f0(mel), _chance())
    replaced = source.clone()
    replaced[:, :, :1000] = 0.1 * normal("cache_source", (1, 1, 1000))
    spectrum = hift.spectrum(source)
    magnitude, phase = hift.shape(mel, spectrum)
    loud = (2.5 * normal("istft.log_magnitude", (1, 9, 65))).exp()
    found = {
        "f0": f0,
        "f0_predicted": hift.f0(mel),
        "source": source,
        "source_stft": spectrum,
        "magnitude": magnitude,
        "phase": phase,
        "wave": hift.decode(mel, source),
        "source_own_f0": own,
        "wave_own_f0": hift(mel, _chance()),
        "wave_forward_cache_source": hift.decode(mel, replaced),
        "istft_wave": hift.inverse(loud, normal("istft.phase", (1, 9, 65))),
        "window": hift._window(mel),
        "folded.conv_pre.weight": hift.conv_pre.weight,
        "folded.ups.0.weight": hift.ups[0].weight,
    }
    for name, tensor in found.items():
        assert relative_error(tensor, recorded[name]) <= 1e-5, name
    assert set(found) == set(recorded)
    assert (loud > 100).any()  # or the limit would not be seen


@torch.no_grad()
def test_the_source_stays_in_phase_for_half_a_minute(hift):
    """At 220.5 Hz a period has 100 samples: the last second is the first one, but for the rounding of 6,600 turns."""
    frames = 30 * 22050 // 256
    chance = SourceNoise(torch.zeros(1, 9, 1), torch.zeros(1, 9, frames * 256))
    source = hift.source(torch.full((1, frames), 220.5), chance)
    first, last = source[:, :, :20000], source[:, :, 640000:660000]
    assert relative_error(last, first) <= 1e-2 and first.std() > 1e-3


@torch.no_grad()
def test_seeds_decide(hift):
    waves = [hift(_mel(), source_noise(torch.Generator().manual_seed(seed), PARAMS, FRAMES, CPU)) for seed in (1, 1, 2)]
    assert torch.equal(waves[0], waves[1]) and not torch.equal(waves[0], waves[2])
    assert waves[0].shape == (1, FRAMES * 256) and waves[0].abs().max() <= 0.99


def test_chance_is_normal_noise_and_phases_of_all_turns():
    drawn = source_noise(torch.Generator().manual_seed(0), PARAMS, 40, CPU)
    assert drawn.noise.shape == (1, 9, 40 * 256) and drawn.phase.shape == (1, 9, 1)
    assert drawn.noise.std() == pytest.approx(1, abs=0.02) and abs(drawn.noise.mean()) <= 0.02
    assert drawn.phase.abs().max() <= math.pi and drawn.phase.min() < 0 < drawn.phase.max()


@torch.no_grad()
def test_an_unvoiced_source_is_noise_alone(hift):
    """At f0 up to 10 Hz the harmonics are silent; the first harmonic has no random phase above it."""
    chance = _chance()
    silent = SourceNoise(chance.phase, torch.zeros_like(chance.noise))
    level = hift.m_source["l_linear"].bias.tanh()
    assert torch.allclose(hift.source(torch.full((1, FRAMES), 10.0), silent), level)
    assert not torch.allclose(hift.source(torch.full((1, FRAMES), 10.5), silent), level)
    turned = SourceNoise(torch.cat((torch.ones(1, 1, 1), chance.phase[:, 1:]), dim=1), silent.noise)
    assert torch.equal(hift.source(_f0(), turned), hift.source(_f0(), silent))


def _spread(hift, change, frames=80):
    """Columns (from the first to the last) that `change` of mel and spectrum alters, in mel frames from frame 40."""
    mel, spectrum = normal("spread.mel", (1, 16, frames)), 0.1 * normal("spread.spectrum", (1, 18, frames * 64 + 1))
    before = hift._convolve(mel, spectrum)
    change(mel, spectrum)
    changed = torch.nonzero((hift._convolve(mel, spectrum) != before).any(1)[0])[:, 0]
    return 40 - int(changed[0]) / 64, int(changed[-1]) / 64 - 40


@torch.no_grad()
def test_a_frame_reaches_no_further_than_the_context(hift):
    """Proves CONTEXT: what one mel frame, or one column of the source, changes in the wave's spectrum."""
    reach = (
        *_spread(hift, lambda mel, _: mel[:, :, 40].add_(1)),
        *_spread(hift, lambda _, s: s[:, :, 40 * 64].add_(1)),
    )
    assert 12 < max(reach) <= CONTEXT - 1


@torch.no_grad()
def test_chunks_give_the_whole(hift, monkeypatch, subtests):
    """float64, so that only a wrong seam could show."""
    for chunk, frames in itertools.product([7, 24, 50], [1, 24, 61, 100]):
        with subtests.test(chunk=chunk, frames=frames):
            hift = fill(HiFT(PARAMS), PARITY["hift"]["keys"]).double()
            mel, spectrum = _mel(frames).double(), 0.1 * normal("stft", (1, 18, frames * 64 + 1)).double()
            whole = torch.cat(hift.shape(mel, spectrum), dim=1)
            assert frames <= CHUNK and whole.shape == (1, 18, frames * 64 + 1)
            monkeypatch.setattr(module, "CHUNK", chunk)
            assert relative_error(torch.cat(hift.shape(mel, spectrum), dim=1), whole) <= 1e-12


@torch.no_grad()
def test_too_little_context_would_show(hift, monkeypatch):
    mel, spectrum = _mel(61), 0.1 * normal("stft", (1, 18, 61 * 64 + 1))
    whole = torch.cat(hift.shape(mel, spectrum), dim=1)
    monkeypatch.setattr(module, "CHUNK", 20)
    monkeypatch.setattr(module, "CONTEXT", 4)
    assert relative_error(torch.cat(hift.shape(mel, spectrum), dim=1), whole) > 1e-5


def test_a_gain_of_a_row_scales_it(hift):
    """weight_g is the norm of a row, of input channels for a transposed convolution too."""
    for conv in (hift.conv_post, hift.ups[1]):
        norms = conv.weight.flatten(1).norm(dim=1)
        assert torch.allclose(norms, conv.weight_g.flatten().abs(), rtol=1e-5)


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        replace(PARAMS, upsample_rates=(8, 8, 2))
    with pytest.raises(ValueError, match="cannot be halved"):
        replace(PARAMS, channels=30)
    with pytest.raises(ValueError, match="odd number"):
        replace(PARAMS, upsample_kernels=(16, 15))


def test_public_sizes():
    """227 tensors; 81,904,323 bytes as a file with CosyVoice-300M's settings."""
    with torch.device("meta"):
        hift = HiFT(HiFTParams())
    assert len(hift.state_dict()) == 227 and sum(p.numel() for p in hift.parameters()) == 20_460_591
    assert sum(p.numel() for p in hift.f0_predictor.parameters()) == 3_274_241
    assert HiFTParams().frame_samples == 256
