"""HiFT, the vocoder of Step-Audio-TTS-3B: a mel spectrogram in, a waveform at 22,050 Hz out, 256 samples per frame.

A predictor gives the fundamental frequency of every frame; harmonics of it, with noise, are the source; convolutions
shape the source's short-time spectrum by the mel, and an inverse STFT makes the wave (CosyVoice; HiFTNet). It computes
in float32. Attribute names are the keys of the public file, weight normalisation included.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.vocoder_config import Section

CHUNK = 512  # mel frames decoded at once; one constant for every card, so that a wave keeps its bits
CONTEXT = 16  # mel frames around a chunk that are seen too; a frame reaches 13 (tests/models/test_hift.py)
MAGNITUDE_LIMIT = 100.0
SNAKE_EPS = 1e-9


@dataclass(frozen=True)
class HiFTParams:
    """The architecture. Sizes are those of CosyVoice-300M, whose vocoder has the file size of Step-Audio-TTS-3B's."""

    mel_channels: int = 80
    channels: int = 512  # before the first upsampling; each halves them
    f0_channels: int = 512
    harmonics: int = 9  # the fundamental included
    sample_rate: int = 22050
    sine_level: float = 0.1
    noise_level: float = 0.003  # where voiced; a third of sine_level where not
    voiced_above: float = 10.0  # Hz
    upsample_rates: tuple[int, ...] = (8, 8)
    upsample_kernels: tuple[int, ...] = (16, 16)
    n_fft: int = 16
    hop: int = 4
    kernels: tuple[int, ...] = (3, 7, 11)
    source_kernels: tuple[int, ...] = (7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)  # of every resblock
    slope: float = 0.1
    limit: float = 0.99  # of samples

    def __post_init__(self) -> None:
        if not len(self.upsample_rates) == len(self.upsample_kernels) == len(self.source_kernels):
            raise ValueError("upsample_rates, upsample_kernel_sizes and source_resblock_kernel_sizes differ in length")
        if self.channels % 2 ** len(self.upsample_rates):
            raise ValueError(f"base_channels {self.channels} cannot be halved {len(self.upsample_rates)} times")
        if any((kernel - rate) % 2 for kernel, rate in zip(self.upsample_kernels, self.upsample_rates, strict=True)):
            raise ValueError("upsample_kernel_sizes and upsample_rates differ by an odd number")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "HiFTParams":
        """From models.vocoder_config.read_vocoder_config. ValueError for what this class does not compute."""
        hift = Section(dict(config), "hift", "HiFTGenerator")
        predictor = hift.section("f0_predictor", "ConvRNNF0Predictor")
        predictor.fixed(num_class=1)
        stft = hift.section("istft_params")
        mel_channels = hift.take("in_channels")
        predictor.fixed(in_channels=mel_channels)
        kernels, source_kernels = hift.numbers("resblock_kernel_sizes"), hift.numbers("source_resblock_kernel_sizes")
        dilations = [1, 3, 5]
        hift.fixed(resblock_dilation_sizes=[dilations] * len(kernels))
        hift.fixed(source_resblock_dilation_sizes=[dilations] * len(source_kernels))
        params = cls(
            mel_channels=mel_channels,
            channels=hift.take("base_channels"),
            f0_channels=predictor.take("cond_channels"),
            harmonics=hift.take("nb_harmonics") + 1,
            sample_rate=hift.take("sampling_rate"),
            sine_level=hift.number("nsf_alpha"),
            noise_level=hift.number("nsf_sigma"),
            voiced_above=hift.number("nsf_voiced_threshold"),
            upsample_rates=hift.numbers("upsample_rates"),
            upsample_kernels=hift.numbers("upsample_kernel_sizes"),
            n_fft=stft.take("n_fft"),
            hop=stft.take("hop_len"),
            kernels=kernels,
            source_kernels=source_kernels,
            dilations=tuple(dilations),
            slope=hift.number("lrelu_slope"),
            limit=hift.number("audio_limit"),
        )
        for section in (predictor, stft, hift):
            section.end()
        return params

    @property
    def frame_samples(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_rates) * self.hop


@dataclass(frozen=True)
class SourceNoise:
    """What chance decides in a source: phase (1, harmonics, 1) in -pi..pi, noise (1, harmonics, samples) normal."""

    phase: Tensor
    noise: Tensor


class NormedConv(nn.Module):
    """A convolution whose weight is stored as direction and length: weight_v * (weight_g / its norm per row).

    The keys of the old torch.nn.utils.weight_norm. The product is made anew for each use: 20 million numbers a wave.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, *, dilation: int = 1):
        super().__init__()
        self.dilation = dilation
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight_g = nn.Parameter(torch.ones(channels, 1, 1))
        self.weight_v = nn.Parameter(torch.zeros(channels, in_channels, kernel))

    @property
    def weight(self) -> Tensor:
        """(rows, columns, kernel)"""
        norm = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
        return self.weight_v * (self.weight_g / norm)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c2, n)"""
        padding = self.dilation * (self.weight_v.shape[2] - 1) // 2
        return F.conv1d(x, self.weight, self.bias, padding=padding, dilation=self.dilation)


class NormedUpsampling(NormedConv):
    """The transposed convolution, (b, c, n) -> (b, c2, n * rate); its weight's rows are input channels."""

    def __init__(self, in_channels: int, channels: int, kernel: int, rate: int):
        super().__init__(channels, in_channels, kernel)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c2, n * rate), float32."""
        padding = (self.weight_v.shape[2] - self.rate) // 2
        return F.conv_transpose1d(x, self.weight, self.bias, stride=self.rate, padding=padding)


class Snake(nn.Module):
    """x + sin(a x)^2 / a, one a per channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, n), float32."""
        alpha = self.alpha[:, None]
        return x + (x * alpha).sin().square() / (alpha + SNAKE_EPS)


class SnakeBlock(nn.Module):
    """Pairs of convolutions, the first of each dilated, each pair with a shortcut."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(NormedConv(channels, channels, kernel, dilation=dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(NormedConv(channels, channels, kernel) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, n), float32."""
        pairs = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for snake1, conv1, snake2, conv2 in pairs:
            x = x + conv2(snake2(conv1(snake1(x))))
        return x


class F0Predictor(nn.Module):
    """mel (b, c, n) -> fundamental frequency (b, n) in Hz, 0 or more."""

    def __init__(self, mel_channels: int, channels: int):
        super().__init__()
        widths = (mel_channels, *[channels] * 5)
        layers = [(NormedConv(a, b, 3), nn.ELU()) for a, b in zip(widths, widths[1:], strict=False)]
        self.condnet = nn.Sequential(*(part for pair in layers for part in pair))
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """mel (b, c, n) -> (b, n) in Hz, float32."""
        return self.classifier(self.condnet(mel).transpose(1, 2)).squeeze(-1).abs()


class HiFT(nn.Module):
    """`f0`, `source` and `decode` in a row are `forward`: mel (1, c, n) float32 -> wave (1, samples) in -1..1."""

    def __init__(self, params: HiFTParams):
        super().__init__()
        self.params = params
        channels = [params.channels // 2**level for level in range(len(params.upsample_rates) + 1)]
        spectrum, bins = params.n_fft + 2, params.n_fft // 2 + 1
        self.m_source = nn.ModuleDict({"l_linear": nn.Linear(params.harmonics, 1)})
        self.conv_pre = NormedConv(params.mel_channels, channels[0], 7)
        self.ups, self.source_downs, self.source_resblocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for level, (rate, kernel) in enumerate(zip(params.upsample_rates, params.upsample_kernels, strict=True)):
            width = channels[level + 1]
            self.ups.append(NormedUpsampling(channels[level], width, kernel, rate))
            left = math.prod(params.upsample_rates[level + 1 :])  # by which the source's spectrum is finer than x here
            down = (2 * left, left, left // 2) if left > 1 else (1, 1, 0)
            self.source_downs.append(nn.Conv1d(spectrum, width, *down))
            self.source_resblocks.append(SnakeBlock(width, params.source_kernels[level], params.dilations))
            self.resblocks.extend(SnakeBlock(width, size, params.dilations) for size in params.kernels)
        self.conv_post = NormedConv(channels[-1], 2 * bins, 7)
        self.f0_predictor = F0Predictor(params.mel_channels, params.f0_channels)

    def f0(self, mel: Tensor) -> Tensor:
        """mel (1, c, n) -> fundamental frequency (1, n) in Hz."""
        return self.f0_predictor(mel)

    def source(self, f0: Tensor, chance: SourceNoise) -> Tensor:
        """f0 (1, n) in Hz -> source (1, 1, samples): harmonics where voiced, noise everywhere.

        The running sum of turns is float64, rounded to float32: what the official float32 sum gives on a CPU, and the
        same on every device.
        """
        params = self.params
        f0 = f0[:, None].repeat_interleave(params.frame_samples, dim=2)
        multiples = torch.arange(1, params.harmonics + 1, dtype=f0.dtype, device=f0.device)[:, None]
        turns = torch.cumsum(f0 * multiples / params.sample_rate, dim=2, dtype=torch.float64).float() % 1
        phase = chance.phase.clone()
        phase[:, 0] = 0
        sines = params.sine_level * torch.sin(2 * math.pi * turns + phase)
        voiced = (f0 > params.voiced_above).to(f0.dtype)
        level = voiced * params.noise_level + (1 - voiced) * params.sine_level / 3
        waves = sines * voiced + level * chance.noise
        return self.m_source["l_linear"](waves.transpose(1, 2)).transpose(1, 2).tanh()

    def spectrum(self, source: Tensor) -> Tensor:
        """source (1, 1, samples) -> its STFT (1, n_fft + 2, samples / hop + 1): real parts, then imaginary ones."""
        params, window = self.params, self._window(source)
        bins = torch.stft(source[:, 0], params.n_fft, params.hop, window=window, return_complex=True)
        return torch.cat((bins.real, bins.imag), dim=1)

    def shape(self, mel: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """mel (1, c, n) and the source's spectrum -> magnitude (unlimited) and phase of the wave's STFT.

        Frames go through in chunks with all that they depend on around them, so that memory stays bounded and the
        result is that of the whole.
        """
        columns, parts = self.params.frame_samples // self.params.hop, []
        frames = mel.shape[2]
        for start in range(0, frames, CHUNK):
            end = min(start + CHUNK, frames)
            first, last = max(start - CONTEXT, 0), min(end + CONTEXT, frames)
            x = self._convolve(mel[:, :, first:last], spectrum[:, :, first * columns : last * columns + 1])
            stop = (end - first) * columns + (end == frames)  # the whole has one column more than its frames
            parts.append(x[:, :, (start - first) * columns : stop])
        log_magnitude, angle = torch.cat(parts, dim=2).chunk(2, dim=1)
        return log_magnitude.exp(), angle.sin()

    def inverse(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Magnitude, limited here, and phase (1, n_fft / 2 + 1, columns) -> samples (1, hop * (columns - 1))."""
        params, window = self.params, self._window(magnitude)
        bins = torch.polar(magnitude.clamp(max=MAGNITUDE_LIMIT), phase)
        return torch.istft(bins, params.n_fft, params.hop, window=window)

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """mel (1, c, n) and source (1, 1, samples) -> wave (1, samples)."""
        wave = self.inverse(*self.shape(mel, self.spectrum(source)))
        return wave.clamp(-self.params.limit, self.params.limit)

    def forward(self, mel: Tensor, chance: SourceNoise) -> Tensor:
        """mel (1, c, n) float32 -> wave (1, samples) in -1..1, float32."""
        return self.decode(mel, self.source(self.f0(mel), chance))

    def _convolve(self, mel: Tensor, spectrum: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        per_level, last = len(self.params.kernels), len(self.ups) - 1
        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.params.slope))
            if level == last:  # the STFT has one column more than there are hops
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + self.source_resblocks[level](self.source_downs[level](spectrum))
            blocks = self.resblocks[level * per_level : (level + 1) * per_level]
            x = sum(block(x) for block in blocks) / per_level
        return self.conv_post(F.leaky_relu(x))  # with the default slope of .01, as officially

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.params.n_fft, dtype=torch.float32, device=like.device)


def source_noise(generator: torch.Generator, params: HiFTParams, frames: int, device: torch.device) -> SourceNoise:
    """What chance decides for so many mel frames, drawn on the CPU, so that a seed means the same on every device."""
    phase = (torch.rand(1, params.harmonics, 1, generator=generator) * 2 - 1) * math.pi
    noise = torch.randn(1, params.harmonics, frames * params.frame_samples, generator=generator)
    return SourceNoise(phase.to(device), noise.to(device))
