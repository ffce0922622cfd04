"""A model's marks: held-out captions -> clips -> the judge, per attribute and language, with intervals.

Held-out scenes have seeds below every training seed. Both languages describe the same scenes and start from the same
noise, so their difference is the language's alone.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from studio.nano.captions import LANGUAGES, caption
from studio.nano.dtype import training_dtype
from studio.nano.judge import marks, psnr, read_clip, wilson
from studio.nano.model import Denoiser, SampleSettings, image_latents, noise
from studio.nano.render import Clips, render
from studio.nano.world import Scene, WorldSettings, draw_scene

BATCH = 20


@dataclass
class Tally:
    """Marks of one way of asking, clip by clip. `asked` and `measured` are motion scores."""

    marks: list[dict[str, bool]] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    roughness: list[float] = field(default_factory=list)
    first_frame: list[float] = field(default_factory=list)

    def add(self, scene: Scene, frames: np.ndarray, asked: float, world: WorldSettings) -> None:
        """Judge one clip of uint8 frames (t, H, W, 3)."""
        reading = read_clip(frames, world)
        self.marks.append(marks(scene, reading))
        self.asked.append(asked)
        self.measured.append(reading.motion_score)
        self.roughness.append(reading.roughness)

    @property
    def right(self) -> Counter[str]:
        """Right answers per attribute."""
        return Counter(name for clip in self.marks for name, right in clip.items() if right)

    @property
    def total(self) -> Counter[str]:
        """Judgements per attribute."""
        return Counter(name for clip in self.marks for name in clip)

    def summary(self) -> dict[str, Any]:
        """Plain data: per attribute share, trials and 95 % interval; then the measures."""
        out: dict[str, Any] = {}
        right, total = self.right, self.total
        for name in sorted(total):
            low, high = wilson(right[name], total[name])
            share = round(right[name] / total[name], 3)
            out[name] = {"share": share, "n": total[name], "interval": [round(low, 3), round(high, 3)]}
        if len(set(self.asked)) > 2 and len(set(self.measured)) > 1:
            out["motion_spearman"] = round(float(spearmanr(self.asked, self.measured).statistic), 3)
        out["roughness"] = round(float(np.mean(self.roughness)), 4)
        if self.first_frame:
            out["first_frame_psnr"] = round(float(np.mean(self.first_frame)), 2)
        return out


def difference(ours: Sequence[Tally], theirs: Sequence[Tally]) -> dict[str, Any]:
    """How many points `ours` is above `theirs` on the same clips: the mean over attributes, paired, 95 % interval."""
    apart: dict[str, list[int]] = {}
    for a, b in zip(ours, theirs, strict=True):
        for mine, other in zip(a.marks, b.marks, strict=True):
            for name in mine:
                apart.setdefault(name, []).append(mine[name] - other[name])
    middle = float(np.mean([np.mean(values) for values in apart.values()]))
    spread = float(np.sqrt(sum(np.var(values) / len(values) for values in apart.values()))) / len(apart)
    points = [round(100 * value, 1) for value in (middle, middle - 1.96 * spread, middle + 1.96 * spread)]
    return {"points": points[0], "interval": points[1:], "judgements": sum(map(len, apart.values()))}


def held_out(world: WorldSettings, count: int) -> list[Scene]:
    """Scenes no training saw, of one object each, as the judge wants them."""
    alone = dataclasses.replace(world, pair_share=0.0)
    return [draw_scene(seed, alone) for seed in range(count)]


def judge_truth(world: WorldSettings, count: int, settings: SampleSettings) -> Tally:
    """The judge's marks on the world's own clips: what it gets wrong there is its own fault."""
    tally = Tally()
    for scenes in _batches(held_out(world, count)):
        clips = render(scenes, settings.num_frames, settings.height, settings.width)
        for scene, frames, score in zip(scenes, to_frames(clips.video), clips.motion_score.tolist(), strict=True):
            tally.add(scene, frames, score, world)
    return tally


@torch.no_grad()
def judge_vae(vae: nn.Module, world: WorldSettings, count: int, settings: SampleSettings) -> tuple[Tally, list[float]]:
    """Marks and PSNR of clips that went through the VAE: the most any denoiser could reach with it."""
    tally, quality = Tally(), []
    for scenes in _batches(held_out(world, count)):
        clips = _render_on(scenes, settings, vae)
        decoded = decode(vae, vae.encode_moments(clips.video).chunk(2, dim=2)[0])
        truth = to_frames(clips.video)
        for i, scene in enumerate(scenes):
            tally.add(scene, decoded[i], clips.motion_score[i].item(), world)
            quality.append(psnr(decoded[i], truth[i]))
    return tally, quality


@torch.no_grad()
def judge_model(denoiser: Denoiser, vae: nn.Module, world: WorldSettings, count: int, settings: SampleSettings,
                *, with_image: bool) -> dict[str, Tally]:  # fmt: skip
    """Language -> marks of what the model makes of held-out captions, from text alone or with the first frame."""
    tallies = {language: Tally() for language in LANGUAGES}
    channels = denoiser.transformer.params.in_channels
    scenes = held_out(world, count)
    for start in range(0, count, BATCH):
        batch = scenes[start : start + BATCH]
        clips = _render_on(batch, settings, vae)
        begin = noise(range(start, start + len(batch)), channels, settings).to(denoiser.device)
        image = image_latents(vae, clips.video[:, 0], begin.shape[1]) if with_image else torch.zeros_like(begin)
        for language in LANGUAGES:
            texts = [caption(scene, language, start + i) for i, scene in enumerate(batch)]
            latents = denoiser.sample(texts, begin, image, clips.motion_score, settings)
            _mark(tallies[language], batch, decode(vae, latents), clips, world, with_image)
    return tallies


def decode(vae: nn.Module, latents: Tensor) -> np.ndarray:
    """uint8 frames (b, t, H, W, 3), computed in the dtype that training uses on this device."""
    kind = latents.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=training_dtype(kind) == torch.bfloat16):
        return to_frames(vae.decode(latents))


def to_frames(video: Tensor) -> np.ndarray:
    """(b, t, 3, H, W) in -1..1 -> uint8 (b, t, H, W, 3)."""
    return ((video.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()


def _mark(tally: Tally, scenes: list[Scene], frames: np.ndarray, clips: Clips, world: WorldSettings,
          with_image: bool) -> None:  # fmt: skip
    truth = to_frames(clips.video[:, :1])
    for i, scene in enumerate(scenes):
        tally.add(scene, frames[i], clips.motion_score[i].item(), world)
        if with_image:
            tally.first_frame.append(psnr(frames[i, 0], truth[i, 0]))


def _render_on(scenes: list[Scene], settings: SampleSettings, vae: nn.Module) -> Clips:
    device = next(vae.parameters()).device
    return render(scenes, settings.num_frames, settings.height, settings.width, device)


def _batches(scenes: list[Scene]) -> Iterator[list[Scene]]:
    for start in range(0, len(scenes), BATCH):
        yield scenes[start : start + BATCH]
