"""Waveforms (1, samples) float32 in -1..1 -> the flow's mel, and other sample rates.

What librosa and torchaudio compute with the settings that Step-Audio-TTS-3B uses, in plain PyTorch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.vocoder_config import Section

RESAMPLE_WIDTH, RESAMPLE_ROLLOFF = 6, 0.99  # zero crossings of the sinc; cutoff against the lower Nyquist frequency


@dataclass(frozen=True)
class MelParams:
    """The mel spectrogram that flow and vocoder speak."""

    sample_rate: int = 22050
    n_fft: int = 1024
    window: int = 1024
    hop: int = 256
    channels: int = 80
    low: float = 0.0  # Hz
    high: float = 8000.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "MelParams":
        """From models.vocoder_config.read_vocoder_config. ValueError for what this class does not compute."""
        section = Section(dict(config), "feat_extractor", "mel_spectrogram")
        section.fixed(center=False)
        params = cls(
            sample_rate=section.take("sampling_rate"),
            n_fft=section.take("n_fft"),
            window=section.take("win_size"),
            hop=section.take("hop_size"),
            channels=section.take("num_mels"),
            low=section.number("fmin"),
            high=section.number("fmax"),
        )
        section.end()
        return params


def mel_spectrogram(wave: Tensor, params: MelParams) -> Tensor:
    """(1, samples) -> natural logarithm of mel magnitudes (1, channels, samples // hop)."""
    margin = (params.n_fft - params.hop) // 2
    if wave.shape[1] <= margin:
        raise ValueError(f"A mel spectrogram needs more than {margin} samples; there are {wave.shape[1]}.")
    padded = F.pad(wave[:, None], (margin, margin), mode="reflect")[:, 0]
    window = torch.hann_window(params.window, device=wave.device)
    bins = torch.stft(padded, params.n_fft, params.hop, params.window, window, center=False, return_complex=True)
    magnitude = (torch.view_as_real(bins).square().sum(-1) + 1e-9).sqrt()
    filters = slaney_filters(params.sample_rate, params.n_fft, params.channels, params.low, params.high)
    return (filters.to(wave.device) @ magnitude).clamp(min=1e-5).log()


def slaney_filters(sample_rate: int, n_fft: int, channels: int, low: float, high: float) -> Tensor:
    """(channels, n_fft / 2 + 1) float32: triangles of equal area, centres evenly on Slaney's mel scale.

    That scale is linear (200/3 Hz a step) below 1000 Hz and logarithmic above, 27 steps to a factor of 6.4.
    """
    step, knee, growth = 200 / 3, 1000.0, math.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < knee else knee / step + math.log(hertz / knee) / growth

    mels = torch.linspace(to_mel(low), to_mel(high), channels + 2, dtype=torch.float64)
    corners = torch.where(mels < knee / step, mels * step, knee * ((mels - knee / step) * growth).exp())
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    return (_triangles(corners, bins) * (2 / (corners[2:] - corners[:-2]))[:, None]).float()


def _triangles(corners: Tensor, points: Tensor) -> Tensor:
    """(n + 2,) corners -> (n, points): each triangle rises from a corner to 1 at the next and falls to the third."""
    left, centre, right = (corners[i : len(corners) - 2 + i, None] for i in range(3))
    rising, falling = (points - left) / (centre - left), (right - points) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def resample(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """(1, samples) at `rate` -> (1, ceil(samples * new_rate / rate)), by a sinc in a Hann window, 6 crossings wide."""
    if rate < 1 or new_rate < 1:
        raise ValueError(f"Sample rates are positive, not {rate} and {new_rate}.")
    if rate == new_rate:
        return wave
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    cutoff = min(old, new) * RESAMPLE_ROLLOFF
    width = math.ceil(RESAMPLE_WIDTH * old / cutoff)
    places = torch.arange(-width, width + old, dtype=torch.float64) / old
    time = (torch.arange(0, -new, -1, dtype=torch.float64)[:, None] / new + places) * cutoff
    time = time.clamp(-RESAMPLE_WIDTH, RESAMPLE_WIDTH)
    window = torch.cos(time * (math.pi / RESAMPLE_WIDTH / 2)).square()
    kernels = (torch.sinc(time) * window * (cutoff / old)).float()[:, None].to(wave.device)
    samples = F.conv1d(F.pad(wave[:, None], (width, width + old)), kernels, stride=old)
    return samples.transpose(1, 2).flatten(1)[:, : -(-wave.shape[1] * new // old)]
