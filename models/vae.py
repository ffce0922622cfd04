"""The video VAE of Step-Video (version 2): 17 frames <-> 3 latent frames, 16 x 16 pixels <-> one latent position.

A clip is coded in chunks of 17 frames, each alone; after decoding the two frames at a seam are blended. Inside a chunk
everything is causal in time: latent frame 0 codes the first frame alone, and decodes to it alone. `VAE.decode_chunks`
makes use of it: after the middle part, which is small, it upsamples a few frames at a time. That needs a fraction of
the memory and gives the same values.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.config_values import fixed, layer_count, product, whole, wholes
from models.geometry import CHUNK_FRAMES, CHUNK_LATENTS, PIXELS_PER_LATENT, is_frame_count, is_latent_count
from models.vae_convs import TAPS, CausalConv, ConvCache, Inner, Keep, Sized, conv, windows
from models.vae_layers import (
    CausalUpsample,
    FrameDownsample,
    FrameNorm,
    FrameUpsample,
    Mid,
    ResBlock,
    average,
    fold,
    repeat,
    unfold,
)

LEVELS = 4
TIME_LEVELS = (2, 3)  # the encoder halves time before these levels, the decoder doubles it after them
DROPPED = 3  # the decoder doubles the first frame twice; three of its four copies are dropped
SEAM = 0.6  # the share of its own that a frame beside a seam keeps, as officially


@dataclass(frozen=True)
class VAEParams:
    """Architecture. The defaults are the public vae_v2.safetensors, which comes without a config."""

    z_channels: int = 64
    encoder_widths: tuple[int, ...] = (128, 256, 512, 512)  # channels per level, full size first
    decoder_widths: tuple[int, ...] = (128, 256, 512, 512)
    encoder_base: int = 32  # channels of the encoder's first convolution
    res_blocks: int = 2  # per level of the encoder; the decoder has one more
    norm_groups: int = 32

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "VAEParams":
        """From a vae/config.json; what it leaves out has the public size. ValueError for sizes that cannot be built."""
        fixed(config, {"version": 2})
        sizes: dict[str, Any] = {}
        if "z_channels" in config:
            sizes["z_channels"] = whole(config, "z_channels")
        if "norm_groups" in config:
            sizes["norm_groups"] = whole(config, "norm_groups")
        if "num_res_blocks" in config:
            sizes["res_blocks"] = layer_count(config, "num_res_blocks")
        for name in ("encoder", "decoder"):
            if name in config:
                part = config[name]
                if not isinstance(part, Mapping):
                    raise ValueError(f"its {name} is no object")
                base = whole(part, "ch")
                factors = wholes(part, "ch_mult", LEVELS)
                sizes[f"{name}_widths"] = tuple(product(base, factor, "ch times ch_mult") for factor in factors)
                if name == "encoder":
                    sizes["encoder_base"] = base
        return cls(**sizes)

    def __post_init__(self) -> None:
        """ValueError for sizes that do not divide."""
        if len(self.encoder_widths) != LEVELS or len(self.decoder_widths) != LEVELS:
            raise ValueError(f"The VAE has {LEVELS} levels; ch_mult needs as many numbers.")
        for width in (self.encoder_base, *self.encoder_widths, *self.decoder_widths):
            if self.norm_groups < 1 or width % self.norm_groups:
                raise ValueError(f"The VAE's {width} channels do not divide into {self.norm_groups} norm groups.")
        for width in (self.encoder_widths[-1], self.decoder_widths[-1]):
            if 8 * width % self.folded_width:
                raise ValueError(
                    f"The VAE's deepest level has {width} channels; {self.z_channels} latent channels "
                    f"need a multiple of {4 * self.z_channels}."
                )

    @property
    def folded_width(self) -> int:
        """Channels at the latents' size: 4 per latent channel, times 8 for two pixels in time, height and width."""
        return 4 * self.z_channels * 8


class _Level(nn.Module):
    """Residual blocks of one size, and the step to the next: under its public name, None at the last level."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, groups: int) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResBlock(a, b, groups) for a, b in zip(widths, widths[1:], strict=False))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None


class Encoder(nn.Module):
    """A chunk of frames -> mean and log-variance of its latents."""

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        self.params = params
        widths, groups = params.encoder_widths, params.norm_groups
        self.conv_in = conv(3, params.encoder_base)
        self.down = nn.ModuleList()
        for index, (before, width) in enumerate(zip((params.encoder_base, *widths), widths, strict=False)):
            level = _Level(before, width, params.res_blocks, groups)
            if index + 1 in TIME_LEVELS:
                level.downsample = Inner(conv(width, width, stride=2))
            elif index + 1 < LEVELS:
                level.downsample = FrameDownsample(width)
            self.down.append(level)
        self.mid = Mid(widths[-1], groups)
        self.norm_out = FrameNorm(groups, widths[-1])
        self.conv_patchify = Inner(conv(widths[-1], params.folded_width // 8))
        self.conv_out = conv(params.folded_width, 2 * params.z_channels)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, 17 or 1, 3, H, W) -> (b, 3 or 1, 2 * z_channels, H/16, W/16), in the weights' dtype, the mean first."""
        h = self.conv_in(frames)
        for level in _levels(self.down):
            for block in level.block:
                h = block(h)
            if level.downsample is not None:
                h = level.downsample(h)
        h = self.norm_out(self.mid(h), silu=True)
        h = fold(self.conv_patchify(h)) + average(fold(h), self.params.folded_width)
        return self.conv_out(h) + average(h, 2 * self.params.z_channels)


class Decoder(nn.Module):
    """A chunk of latents -> frames."""

    def __init__(self, params: VAEParams) -> None:
        super().__init__()
        self.params = params
        widths, groups = params.decoder_widths, params.norm_groups
        self.conv_in = conv(params.z_channels, params.folded_width)
        self.conv_unpatchify = Inner(conv(params.folded_width, 8 * widths[-1]))
        self.mid = Mid(widths[-1], groups)
        self.up = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[min(index + 1, LEVELS - 1)]
            level = _Level(before, width, params.res_blocks + 1, groups)
            if index in TIME_LEVELS:
                level.upsample = CausalUpsample(width, groups)
            elif index > 0:
                level.upsample = FrameUpsample(width)
            self.up.append(level)
        self.norm_out = FrameNorm(groups, widths[0])
        self.conv_out = CausalConv(widths[0], 3)

    def forward(self, latents: Tensor) -> Tensor:
        """(b, f, z, h, w) -> (b, 8(f-1)+1, 3, 16h, 16w), in the weights' dtype; all frames at once, differentiable."""
        low, middle, high = self._stages()
        frames = self._through(low, self._middle(latents))
        frames = self._through(middle, _doubled(frames))
        frames = self._through(high, _doubled(frames))
        return self._to_pixels(frames)[:, DROPPED:]

    def slices(self, latents: Tensor, keep: Keep) -> Iterator[Tensor]:
        """The frames of `forward` in order, (b, t_i, 3, 16h, 16w): two at every stage for SUMS, else one.

        Not differentiable.
        """
        low, middle, high = self._stages()
        clip, dropped, count = self._middle(latents), 0, 2 if keep is Keep.SUMS else 1
        cache = self._windows(clip, keep)
        for first in clip.split(count, dim=1):
            for second in _doubled(self._through(low, first, cache)).split(count, dim=1):
                for frames in _doubled(self._through(middle, second, cache)).split(count, dim=1):
                    frames = self._to_pixels(self._through(high, frames, cache), cache)
                    kept = frames[:, max(DROPPED - dropped, 0) :]
                    dropped += frames.shape[1] - kept.shape[1]
                    if kept.shape[1]:
                        yield kept

    def _windows(self, frames: Tensor, keep: Keep) -> ConvCache:
        """For frames of the middle part. Made at once and first: between the tensors of layers at work they would leave
        gaps, 0.5 GB of what a CUDA allocator reserves at 544x992 (tests/memory/planning/test_reserved.py)."""
        parts: list[Sized] = []
        height, width = frames.shape[3:]
        for level in reversed(_levels(self.up)):
            parts.append((level.block, height, width))
            if level.upsample is not None:
                height, width = 2 * height, 2 * width
                parts.append((level.upsample, height, width))
        return windows([*parts, (self.conv_out, height, width)], frames, keep)

    def _middle(self, latents: Tensor) -> Tensor:
        """(b, f, z, h, w) -> (b, 2f-1, c, 2h, 2w): the part whose attention sees the whole chunk."""
        h = self.conv_in(latents) + repeat(latents, self.params.folded_width)
        channels = self.params.decoder_widths[-1]
        return self.mid(unfold(self.conv_unpatchify(h)) + unfold(repeat(h, 8 * channels)))

    def _stages(self) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
        """The layers after the middle part in three stages; between them the number of frames is doubled."""
        full, half, quarter, eighth = _levels(self.up)
        middle = _present(eighth.upsample, *quarter.block)
        high = _present(quarter.upsample, *half.block, half.upsample, *full.block)
        return [*eighth.block], middle, high

    def _through(self, stage: list[nn.Module], frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        for layer in stage:  # one flat loop: a nested call would keep its arguments alive
            frames = layer(frames, cache)
        return frames

    def _to_pixels(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        return self.conv_out(self.norm_out(frames, silu=True, room=self.conv_out.room(cache)), cache)


def _levels(levels: nn.ModuleList) -> list[_Level]:
    return cast(list[_Level], list(levels))


def _present(*layers: nn.Module | None) -> list[nn.Module]:
    return [layer for layer in layers if layer is not None]


def _doubled(frames: Tensor) -> Tensor:
    return frames.repeat_interleave(2, dim=1)


class VAE(nn.Module):
    """Encoder and decoder under the names of the public file."""

    def __init__(self, params: VAEParams | None = None) -> None:
        super().__init__()
        self.params = params or VAEParams()
        self.encoder = Encoder(self.params)
        self.decoder = Decoder(self.params)

    def encode_moments(self, video: Tensor) -> Tensor:
        """video (b, t, 3, H, W) in -1..1, t = 1 or 17n -> (b, f, 2 * z_channels, H/16, W/16), f = 1 or 3n.

        Video has the weights' dtype, and so has the result: the first half of the channels is the mean, the second the
        log-variance, which the official code clamps to -30..20 before it samples. ValueError for other sizes.
        """
        t, height, width = video.shape[1], *video.shape[3:]
        if not is_frame_count(t) or height % PIXELS_PER_LATENT or width % PIXELS_PER_LATENT:
            raise ValueError(
                f"The VAE encodes 1 frame or a multiple of {CHUNK_FRAMES}, of sizes that are multiples of "
                f"{PIXELS_PER_LATENT}; not {t} frames of {height}x{width}."
            )
        return _by_chunk(video, min(t, CHUNK_FRAMES), self.encoder)

    def decode(self, latents: Tensor) -> Tensor:
        """latents (b, f, z, h, w), f = 1 or 3n -> (b, 1 or 17n, 3, 16h, 16w), about -1..1, in the weights' dtype.

        All frames at once; differentiable. ValueError for another number of latent frames.
        """
        frames = _by_chunk(latents, _chunk_latents(latents), self.decoder)
        pieces = list(frames.split(CHUNK_FRAMES, dim=1))
        for i in range(1, len(pieces)):
            front, back = _blend(pieces[i - 1][:, -1:], pieces[i][:, :1])
            pieces[i - 1] = torch.cat([pieces[i - 1][:, :-1], front], dim=1)
            pieces[i] = torch.cat([back, pieces[i][:, 1:]], dim=1)
        return torch.cat(pieces, dim=1)

    @torch.no_grad()
    def decode_chunks(
        self,
        latents: Tensor,
        *,
        keep: Keep = Keep.SUMS,
        elsewhere: Callable[[int], Tensor | None] = lambda chunk: None,
    ) -> Iterator[Tensor]:
        """latents (b, f, z, h, w) -> the frames of `decode` in order, in pieces (b, t_i, 3, 16h, 16w), t_i at most 2.

        The values are those of `decode` but for rounding; WINDOWS and SHARED give the same bits. One frame waits: the
        last frame of a chunk is final only after it is blended with the first frame of the next.

        elsewhere(chunk): the frames of a chunk (b, t, 3, 16h, 16w) as `Decoder.slices` has them, from another device;
        None: they are computed here.
        """
        waiting: Tensor | None = None
        for number, chunk in enumerate(latents.split(_chunk_latents(latents), dim=1)):
            at_seam = waiting is not None
            given = elsewhere(number)
            for piece in self.decoder.slices(chunk, keep) if given is None else given.split(1, dim=1):
                if waiting is not None and at_seam:
                    piece = torch.cat([*_blend(waiting, piece[:, :1]), piece[:, 1:]], dim=1)
                elif waiting is not None:
                    piece = torch.cat([waiting, piece], dim=1)
                at_seam = False
                if piece.shape[1] > 1:
                    yield piece[:, :-1]
                waiting = piece[:, -1:]
        if waiting is not None:
            yield waiting

    def peak_decode_bytes(self, height: int, width: int, dtype: torch.dtype, *, compact: bool = False) -> int:
        """Most bytes that `decode_chunks` holds at once for one video of height x width pixels, weights not counted.

        An estimate from sizes alone, any number of chunks, for WINDOWS, compact: for SHARED; SUMS take less than the
        first. It is the sum of what convolutions keep, of the
        small frames that wait on the way up, and of the widest layer at work. Convolution workspaces inside cuDNN
        or oneDNN are not in it.
        """
        widths = self.params.decoder_widths
        pixels = [(height >> level) * (width >> level) for level in range(LEVELS)]
        waiting = (2 * CHUNK_LATENTS + 1) * widths[3] * pixels[3] + 2 * widths[2] * pixels[2]
        owed = 2 * 3 * pixels[0]  # of the last convolution, which narrows
        windows, working = [0], 0  # a frame of each window
        for level, out in enumerate(widths):
            into = widths[min(level + 1, LEVELS - 1)]
            if out < into:
                owed += 2 * out * pixels[level]
            else:
                windows.append(into * pixels[level])
            windows += [out * pixels[level]] * (2 * self.params.res_blocks + 1)
            widest = max(2 * into, into + 2 * out, 2 * into + (2 * out if out < into else 0))
            working = max(working, widest * pixels[level])
            if level > 0:
                at_once = 3 if level in TIME_LEVELS else 2
                working = max(working, out * (pixels[level] + at_once * pixels[level - 1]))
            if level in TIME_LEVELS:
                windows += [out * pixels[level - 1]] * 2
        kept = (TAPS - 1) * sum(windows) + TAPS * max(windows) if compact else TAPS * sum(windows)
        pictures = 4 * 2 * 3 * pixels[0]
        return (owed + kept + waiting + working + pictures) * dtype.itemsize


def _chunk_latents(latents: Tensor) -> int:
    f = latents.shape[1]
    if not is_latent_count(f):
        raise ValueError(f"The VAE decodes 1 latent frame or a multiple of {CHUNK_LATENTS}, not {f}.")
    return min(f, CHUNK_LATENTS)


def _by_chunk(frames: Tensor, size: int, network: nn.Module) -> Tensor:
    """`network` of each chunk of `size` frames; chunks are independent, so they are computed as one batch."""
    chunks = frames.unflatten(1, (-1, size)).flatten(0, 1)
    return network(chunks).unflatten(0, (frames.shape[0], -1)).flatten(1, 2)


def _blend(front: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """The two frames at a seam, (b, 1, 3, H, W) each. The later one is blended first, as officially."""
    back = SEAM * back + (1 - SEAM) * front
    front = SEAM * front + (1 - SEAM) * back
    return front, back
