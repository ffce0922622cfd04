"""Waveforms -> the features that a voice is made of: the flow's mel, filter banks of the code and speaker models.

What torchaudio, librosa and openai-whisper compute with the settings that Step-Audio-TTS-3B uses, in plain PyTorch.
All take waveforms (1, samples) float32 in -1..1 unless said otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.vocoder_config import Section

SPEECH_RATE = 16000  # of everything but the mel
KALDI_FRAME, KALDI_HOP, KALDI_FFT = 400, 160, 512  # 25 ms and 10 ms
KALDI_LOW = 20.0  # Hz
PREEMPHASIS = 0.97
INT16 = 32768.0
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


def kaldi_fbank(wave: Tensor, window: Tensor, channels: int = 80) -> Tensor:
    """(1, samples) at 16 kHz -> natural logarithm of mel energies (frames, channels); no dither.

    Frames of 25 ms, one every 10 ms, whole ones only; the mean of each is removed. `window`: povey() or hamming().
    """
    if wave.shape[1] < KALDI_FRAME:
        raise ValueError(f"A filter bank needs {KALDI_FRAME} samples at least; there are {wave.shape[1]}.")
    frames = wave[0].unfold(0, KALDI_FRAME, KALDI_HOP)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat((frames[:, :1], frames[:, :-1]), dim=1)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window.to(wave.device), KALDI_FFT).abs().square()
    energies = spectrum @ _kaldi_filters(channels).to(wave.device).T
    return energies.clamp(min=torch.finfo(torch.float32).eps).log()


def povey() -> Tensor:
    """Kaldi's own window (400,): a symmetric Hann window to the power of 0.85."""
    return torch.hann_window(KALDI_FRAME, periodic=False) ** 0.85


def hamming() -> Tensor:
    """The symmetric Hamming window (400,)."""
    return torch.hamming_window(KALDI_FRAME, periodic=False)


def _kaldi_filters(channels: int) -> Tensor:
    """(channels, 257) float32: triangles on the mel scale 1127 ln(1 + f / 700), the last FFT bin left out."""
    bins = torch.arange(KALDI_FFT // 2, dtype=torch.float64) * (SPEECH_RATE / KALDI_FFT)
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (KALDI_LOW, SPEECH_RATE / 2))
    corners = torch.linspace(low, high, channels + 2, dtype=torch.float64)
    return F.pad(_triangles(corners, 1127 * (1 + bins / 700).log()).float(), (0, 1))


def speaker_fbank(wave: Tensor) -> Tensor:
    """(1, samples) at 16 kHz -> (frames, 80), the mean over time removed: what the speaker model (CAM++) takes."""
    fbank = kaldi_fbank(wave, povey())
    return fbank - fbank.mean(dim=0, keepdim=True)


def linguistic_fbank(wave: Tensor) -> Tensor:
    """(1, samples) at 16 kHz -> (frames, 80): what Paraformer takes, before its stacking of frames.

    Officially with dither, noise that changes one code in twenty from run to run; here without.
    """
    return kaldi_fbank(wave * INT16, hamming())


def semantic_log_mel(wave: Tensor, channels: int = 128) -> Tensor:
    """(1, samples) at 16 kHz, at most 30 s -> (channels, samples // 160): Whisper's log-mel, of the S3 tokenizer.

    The range is that of the whole piece (80 dB below its loudest bin), so pieces cannot be joined.
    """
    n_fft, hop = 400, 160
    bins = torch.stft(wave[0], n_fft, hop, window=torch.hann_window(n_fft, device=wave.device), return_complex=True)
    filters = slaney_filters(SPEECH_RATE, n_fft, channels, 0.0, SPEECH_RATE / 2).to(wave.device)
    log = (filters @ bins[:, :-1].abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(log, log.max() - 8) + 4) / 4


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


def normalise_peak(wave: Tensor) -> Tensor:
    """Scaled to a peak of 0.999, by 100 at most."""
    return wave / wave.abs().max().clamp(min=0.01) * 0.999


def trim_silence(wave: Tensor, rate: int = SPEECH_RATE) -> Tensor:
    """(1, samples) without the silence at both ends but 0.05 s before and 0.22 s behind, made up of zeros if need be.

    Silence is what lies 20 dB below the loudest of the frames (512 samples, every 128). The rest is rounded up to whole
    steps of 240 samples. ValueError for no samples.
    """
    if not wave.shape[1]:
        raise ValueError("There is no sound to trim.")
    frame, hop, step, left, right = 512, 128, 240, int(0.05 * rate), int(0.22 * rate)
    frames = F.pad(wave[0], (frame // 2, frame // 2)).unfold(0, frame, hop)
    level = 20 * frames.square().mean(dim=1).sqrt().clamp(min=1e-5).log10()
    loud = torch.nonzero(level > level.max() - 20)[:, 0]
    first, last = int(loud[0]) * hop, min((int(loud[-1]) + 1) * hop, wave.shape[1])
    length = math.ceil((last - first) / step) * step + left + right
    begin = first - left
    trimmed = F.pad(wave, (max(-begin, 0), 0))[:, max(begin, 0) :][:, :length]
    return F.pad(trimmed, (0, length - trimmed.shape[1]))
