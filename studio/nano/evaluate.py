"""A model's marks: held-out captions -> clips of the studio's own recipe -> the judge, per attribute and language.

Held-out scenes have seeds below every training seed; the seed of a scene is the seed of its clip. Both languages
describe the same scenes from the same noise, so their difference is the language's alone.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from models.geometry import VideoShape
from studio.nano.captions import LANGUAGES, caption
from studio.nano.clips import ClipMaker, StudioClips, to_frames
from studio.nano.judge import marks, psnr, read_clip, wilson
from studio.nano.render import Clips, render
from studio.nano.world import Scene, WorldSettings, draw_scene


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

    def first(self, count: int) -> "Tally":
        """The marks of the first clips alone."""
        return Tally(*(getattr(self, one.name)[:count] for one in dataclasses.fields(self)))

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


def judge_truth(world: WorldSettings, count: int, video: VideoShape) -> Tally:
    """The judge's marks on the world's own clips: what it gets wrong there is its own fault."""
    tally = Tally()
    for scene, clip in _rendered(world, count, video):
        tally.add(scene, to_frames(clip.video)[0], clip.motion_score.item(), world)
    return tally


def judge_vae(maker: StudioClips, world: WorldSettings, count: int) -> tuple[Tally, list[float]]:
    """Marks and PSNR of true clips that went through the VAE: the most that any denoiser could reach with it."""
    tally, quality = Tally(), []
    for scene, clip in _rendered(world, count, maker.settings.video_shape):
        frames, decibels = maker.through_vae(clip.video)
        tally.add(scene, frames, clip.motion_score.item(), world)
        quality.append(decibels)
    return tally, quality


def judge_model(maker: ClipMaker, world: WorldSettings, count: int, *, with_image: bool) -> dict[str, Tally]:
    """Language -> marks of what the model makes of held-out captions, from text alone or with the true first frame.

    Asked is the motion score of the true clip, where the network takes one.
    """
    tallies = {language: Tally() for language in LANGUAGES}
    for seed, (scene, clip) in enumerate(_rendered(world, count, maker.settings.video_shape)):
        first, score = to_frames(clip.video[:, :1])[0, 0], clip.motion_score.item()
        image = Image.fromarray(first) if with_image else None
        for language, tally in tallies.items():
            frames = maker.make(caption(scene, language, seed), seed, motion_score=score, image=image)
            tally.add(scene, frames, score, world)
            if with_image:
                tally.first_frame.append(psnr(frames[0], first))
    return tallies


def _rendered(world: WorldSettings, count: int, video: VideoShape) -> Iterator[tuple[Scene, Clips]]:
    """Held-out scenes with their true clips, each a batch of one."""
    for scene in held_out(world, count):
        yield scene, render([scene], video.frames, video.height, video.width)
