"""Stage "denoiser": the transformer and both text towers learn the world's clips by flow matching.

As the paper defines it: x_t = (1 - t) noise + t data, velocity = data - noise. Text is dropped to the empty string for
guidance; the first image is dropped so that one TI2V network serves text alone too. Clips are rendered and encoded
once and kept on disk as latents.
"""

import os
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.scheduler import FlowMatchScheduler
from models.vae import VAE
from studio.nano.captions import LANGUAGES, caption
from studio.nano.checkpoint import NanoSizes, build, nano_vocabulary
from studio.nano.dtype import training_dtype
from studio.nano.model import Denoiser
from studio.nano.render import render
from studio.nano.train import Loop, LoopSettings, step_generator, wait_while
from studio.nano.vocabulary import read_vocabulary
from studio.nano.world import WORLDS, Scene, draw_scene

LATENT_SEED = 50_000_000  # first scene of the cached clips; held-out scenes are far below
KIND_STRIDE = 1_000_000  # between the first scenes of two kinds
SHARD = 25


@dataclass(frozen=True)
class Kind:
    """Clips of one size: how many are encoded, and their share of the draws.

    hills: the camera always moves, or stands still by name, before hills, without which nobody sees that it does.
    """

    frames: int
    height: int
    width: int
    clips: int
    share: float
    hills: bool = False

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.frames}x{self.height}x{self.width}{'-hills' if self.hills else ''}"


KINDS = (
    Kind(17, 128, 224, 1000, 0.35),
    Kind(17, 128, 128, 200, 0.1),
    Kind(17, 224, 128, 150, 0.1),
    Kind(34, 128, 224, 100, 0.1),
    Kind(17, 128, 224, 500, 0.35, hills=True),
)
# How clips are redrawn for the decoder: as users' are, in fewer steps. The time of step 7 is 0.44.
REDRAW_STEPS, FIRST_REDRAWN, REDRAW_CFG, REDRAW_SHIFT = 10, 7, 3.0, 3.0


@dataclass(frozen=True)
class DenoiserSettings:
    """What the denoiser sees. A clip's own motion score is always told, with a first image and without."""

    loop: LoopSettings
    world: str = "small"
    kinds: tuple[Kind, ...] = KINDS
    batch: int = 16
    groups: int = 2  # a batch is made of; a group's clips are of one kind, and its captions of one length
    wordings: int = 4  # per clip and language
    text_dropout: float = 0.12
    image_dropout: float = 0.5
    camera_share: float = 0.6  # of the clips move the camera: more than the world's, for they are harder to learn
    still_share: float = 0.5  # of those show an object that stands still: the camera alone
    time_mean: float = -0.8  # of the logit of t; below 0: more often near noise, where the scene is decided
    time_deviation: float = 1.2

    def scene(self, seed: int, hills: bool = False) -> Scene:
        """The scene of a seed."""
        dice = random.Random(seed + LATENT_SEED)
        world = replace(WORLDS[self.world], camera_share=float(dice.random() < self.camera_share))
        if hills:
            world = replace(world, camera_share=1.0, near=("hills",))
        if world.camera_share and dice.random() < self.still_share:
            world = replace(world, motions=("still",))
        return draw_scene(seed, world)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips: latents (n, 3, c, h, w) float16, motion_score (n,), and the scenes they show."""

    latents: Tensor
    motion_score: Tensor
    scenes: list[Scene]


def encode_clips(vae: VAE, settings: DenoiserSettings, folder: Path) -> list[LatentClips]:
    """The cached clips of a run, kind by kind, rendered and encoded where their files are missing.

    Of each kind whole shards are made, so that a run with more clips keeps what there is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for number, kind in enumerate(settings.kinds):
        first = LATENT_SEED + number * KIND_STRIDE
        scenes = [settings.scene(first + i, kind.hills) for i in range(kind.clips)]
        shards = []
        for i in range(0, kind.clips, SHARD):
            wait_while(settings.loop.pause_file)
            file = folder / f"{settings.world}-{kind.name}-{i:06d}.pt"
            shards.append(_shard(vae, scenes[i : i + SHARD], file, (kind.frames, kind.height, kind.width)))
        latents, scores = (torch.cat([shard[part] for shard in shards]) for part in ("latents", "motion_score"))
        sets.append(LatentClips(latents, scores, scenes))
    return sets


@torch.no_grad()
def _shard(vae: VAE, scenes: list[Scene], file: Path, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    if file.is_file():
        return torch.load(file, weights_only=True)
    device = next(vae.parameters()).device
    latents, scores = [], []
    for start in range(0, len(scenes), 10):
        clips = render(scenes[start : start + 10], *shape, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=training_dtype(str(device)) == torch.bfloat16):
            latents.append(vae.encode_moments(clips.video).chunk(2, dim=2)[0].half().cpu())
        scores.append(clips.motion_score.cpu())
    shard = {"latents": torch.cat(latents), "motion_score": torch.cat(scores)}
    torch.save(shard, part := file.with_suffix(".tmp"))
    os.replace(part, file)
    return shard


def new_denoiser(sizes: NanoSizes, folder: Path, device: torch.device | str, seed: int = 0) -> Denoiser:
    """A denoiser with random weights, for the tokenizers in `folder`, which are made where there are none."""
    if not (folder / "hunyuan_clip").is_dir():
        nano_vocabulary(sizes).save(folder)
    vocabulary = read_vocabulary(folder)
    configs = sizes.configs(vocabulary, use_additional_conditions=True)
    return Denoiser(build({k: v for k, v in configs.items() if k != "vae"}, seed), folder).to(device)


def train_denoiser(
    settings: DenoiserSettings, sizes: NanoSizes, vae: VAE, folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> Denoiser:  # fmt: skip
    """Train, or continue to train, the denoiser whose state is in `folder`; a new one begins with `start`."""
    device = next(vae.parameters()).device
    sets = encode_clips(vae, settings, folder / "latents")
    denoiser = new_denoiser(sizes, folder / "tokenizers", device)
    loop = Loop(denoiser, settings.loop, folder / "denoiser.pt")
    if not loop.resume() and start:
        loop.begin_with(start)
    pools = [CaptionPool(clips.scenes, denoiser, settings) for clips in sets]
    loop.run(lambda step: flow_loss(denoiser, list(zip(sets, pools, strict=True)), settings, step))
    return denoiser


class CaptionPool:
    """Tokenised captions of every clip, grouped by length: a batch of one length needs no mask and no padding."""

    def __init__(self, scenes: Sequence[Scene], denoiser: Denoiser, settings: DenoiserSettings) -> None:
        self.groups: dict[int, list[tuple[int, str]]] = {}
        for row, scene in enumerate(scenes):
            for wording in range(settings.wordings):
                for language in LANGUAGES:
                    text = caption(scene, language, row * settings.wordings + wording)
                    self.groups.setdefault(denoiser.count(text), []).append((row, text))
        self._lengths, self._shares = zip(*((key, len(group)) for key, group in self.groups.items()), strict=True)
        self._scenes = len(scenes)

    def draw(self, count: int, empty: float, dice: random.Random) -> tuple[list[int], list[str]]:
        """Rows and captions of one length, or, with probability `empty`, rows and no words at all."""
        if dice.random() < empty:
            return [dice.randrange(self._scenes) for _ in range(count)], [""] * count
        group = self.groups[dice.choices(self._lengths, self._shares)[0]]
        rows, texts = zip(*(dice.choice(group) for _ in range(count)), strict=True)
        return list(rows), list(texts)


def flow_loss(
    denoiser: Denoiser, sets: Sequence[tuple[LatentClips, CaptionPool]], settings: DenoiserSettings, step: int
) -> tuple[Tensor, dict[str, float]]:
    """One step's mean squared error of the velocity, over a few groups, each of one kind and one length of caption.

    The networks compute in `training_dtype`, with weights rounded from the optimiser's float32.
    """
    dice, draw = random.Random(step), step_generator(2, step)
    halves = rounded(denoiser)
    count = settings.batch // settings.groups
    parts = []
    with fastest_attention(denoiser.device):
        for clips, pool in dice.choices(sets, [kind.share for kind in settings.kinds], k=settings.groups):
            drawn = pool.draw(count, settings.text_dropout, dice)
            parts.append(_group_errors(denoiser, halves, clips, drawn, settings, draw))
    errors, seen, time = (torch.cat(values) for values in zip(*parts, strict=True))
    told = {
        "text": errors[~seen].mean().item(),
        "image": errors[seen].mean().item(),
        "early": errors[time < 0.4].mean().item(),
    }
    return errors.mean(), told


@torch.no_grad()
def redraw_clip(denoiser: Denoiser, clips: LatentClips, row: int, draw: torch.Generator) -> Tensor:
    """A clip's latents (1, f, c, h, w) with noise, then drawn to the end as for users: what a decoder is to expect.

    Noise leaves the scene as it is: the time is never below that of step FIRST_REDRAWN.
    """
    clean = clips.latents[row : row + 1].float()
    scheduler = FlowMatchScheduler(REDRAW_STEPS, REDRAW_SHIFT)
    begin = int(torch.randint(FIRST_REDRAWN, REDRAW_STEPS, (), generator=draw))
    latents = torch.lerp(torch.randn(clean.shape, generator=draw).to(clean), clean, float(scheduler.times[begin]))
    image = torch.zeros_like(clean)
    image[:, 0] = clean[:, 0]
    language = LANGUAGES[int(torch.randint(len(LANGUAGES), (), generator=draw))]
    text, empty = (denoiser.encode([words]) for words in (caption(clips.scenes[row], language, row), ""))
    motion = clips.motion_score[row : row + 1]
    for step in range(begin, REDRAW_STEPS):
        time = scheduler.times[step].expand(1)
        with_text, without = (denoiser.velocity(latents, time, texts, image, motion) for texts in (text, empty))
        latents = scheduler.step(without + REDRAW_CFG * (with_text - without), latents, step)
    return latents


def rounded(module: nn.Module) -> dict[str, Tensor]:
    """A network's weights in the dtype that trains fastest, for one differentiable call."""
    device = next(module.parameters()).device
    return {name: weight.to(training_dtype(str(device))) for name, weight in module.named_parameters()}


def fastest_attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU plain matrix products beat the flash kernel's backward at 48 tokens (0.52 s against 0.85 s a step)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _group_errors(
    denoiser: Denoiser,
    halves: dict[str, Tensor],
    clips: LatentClips,
    drawn: tuple[list[int], list[str]],
    settings: DenoiserSettings,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared error of each sample (b,), which of them saw a first image, and their times."""
    rows, texts = drawn
    device, count = denoiser.device, len(rows)
    data = clips.latents[rows].float()
    time = torch.sigmoid(settings.time_mean + settings.time_deviation * torch.randn(count, generator=draw))
    noise = torch.randn(data.shape, generator=draw)
    seen = torch.rand(count, generator=draw) >= settings.image_dropout
    image = torch.zeros_like(data)
    image[seen, 0] = data[seen, 0]
    motion = clips.motion_score[rows]
    mixed = noise + time[:, None, None, None, None] * (data - noise)
    given = (mixed.to(device), time.to(device), image.to(device), motion.to(device))
    velocity = functional_call(denoiser, halves, (texts, *given))
    errors = (velocity - (data - noise).to(device)).square().mean((1, 2, 3, 4))
    return errors, seen.to(device), time.to(device)
