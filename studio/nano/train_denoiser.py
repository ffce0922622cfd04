"""Stage "denoiser": the transformer and both text towers learn the world's clips by flow matching.

As the paper defines it: x_t = (1 - t) noise + t data, velocity = data - noise. Text is dropped to the empty string for
guidance; the first image is dropped so that one TI2V network serves text alone too. Clips are rendered and encoded
once and kept on disk as latents.
"""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.vae import VAE
from studio.nano.captions import LANGUAGES, caption
from studio.nano.checkpoint import NanoSizes, build, nano_vocabulary
from studio.nano.dtype import training_dtype
from studio.nano.model import Denoiser
from studio.nano.render import render
from studio.nano.train import Loop, LoopSettings, step_generator
from studio.nano.vocabulary import read_vocabulary
from studio.nano.world import WORLDS, Scene, draw_scene

LATENT_SEED = 50_000_000  # first scene of the cached clips; held-out scenes are far below
SHARD = 250
DEFAULT_MOTION = 5.0
# (frames, height, width, share of the clips and of the draws): what nano is for, and that other shapes exist.
SHAPES = ((17, 64, 64, 0.7), (17, 64, 96, 0.1), (17, 96, 64, 0.1), (34, 64, 64, 0.1))


@dataclass(frozen=True)
class DenoiserSettings:
    """What the denoiser sees.

    Without a first image, half of the draws have motion_score 5 whatever the clip's is: text alone is served at 5 for
    ever (`text_alone`), and must move the camera all the same. Beside an image the score is always the clip's own.
    """

    loop: LoopSettings
    world: str = "small"
    clips: int = 2500  # over all shapes
    shapes: tuple[tuple[int, int, int, float], ...] = SHAPES
    batch: int = 48
    groups: int = 2  # a batch is made of; the captions of a group are of one length
    wordings: int = 4  # per clip and language
    text_dropout: float = 0.12
    image_dropout: float = 0.55
    motion_dropout: float = 0.5
    camera_share: float = 0.6  # of the clips move the camera: more than the world's, for they are harder to learn
    time_mean: float = -0.4  # of the logit of t; below 0: more often near noise, where the scene is decided
    time_deviation: float = 1.2


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips: latents (n, 3, c, h, w) float16, motion_score (n,), and the scenes they show."""

    latents: Tensor
    motion_score: Tensor
    scenes: list[Scene]


def encode_clips(vae: VAE, settings: DenoiserSettings, folder: Path) -> list[LatentClips]:
    """The cached clips of a run, shape by shape, rendered and encoded where their files are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    sets, seed = [], LATENT_SEED
    world = replace(WORLDS[settings.world], camera_share=settings.camera_share)
    for frames, height, width, share in settings.shapes:
        scenes = [draw_scene(seed + i, world) for i in range(round(settings.clips * share))]
        seed += len(scenes)
        name = f"{settings.world}-{frames}x{height}x{width}"
        shards = [_shard(vae, scenes[i : i + SHARD], folder / f"{name}-{i:06d}.pt", (frames, height, width))
                  for i in range(0, len(scenes), SHARD)]  # fmt: skip
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
    torch.save(shard, file)
    return shard


def new_denoiser(sizes: NanoSizes, folder: Path, device: torch.device | str, seed: int = 0) -> Denoiser:
    """A denoiser with random weights, for the tokenizers in `folder`, which are made where there are none."""
    if not (folder / "hunyuan_clip").is_dir():
        nano_vocabulary(sizes).save(folder)
    vocabulary = read_vocabulary(folder)
    configs = sizes.configs(vocabulary, use_additional_conditions=True)
    return Denoiser(build({k: v for k, v in configs.items() if k != "vae"}, seed), folder).to(device)


def train_denoiser(settings: DenoiserSettings, sizes: NanoSizes, vae: VAE, folder: Path) -> Denoiser:
    """Train, or continue to train, the denoiser whose state is in `folder`."""
    device = next(vae.parameters()).device
    sets = encode_clips(vae, settings, folder / "latents")
    denoiser = new_denoiser(sizes, folder / "tokenizers", device)
    loop = Loop(denoiser, settings.loop, folder / "denoiser.pt")
    loop.resume()
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
    """One step's mean squared error of the velocity, over a few groups, each of one shape and one length of caption.

    The networks compute in `training_dtype`, with weights rounded from the optimiser's float32.
    """
    dice, draw = random.Random(step), step_generator(2, step)
    halves = rounded(denoiser)
    count = settings.batch // settings.groups
    parts = []
    with fastest_attention(denoiser.device):
        for clips, pool in dice.choices(sets, [shape[-1] for shape in settings.shapes], k=settings.groups):
            drawn = pool.draw(count, settings.text_dropout, dice)
            parts.append(_group_errors(denoiser, halves, clips, drawn, settings, draw))
    errors, seen, time = (torch.cat(values) for values in zip(*parts, strict=True))
    told = {
        "text": errors[~seen].mean().item(),
        "image": errors[seen].mean().item(),
        "early": errors[time < 0.4].mean().item(),
    }
    return errors.mean(), told


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
    motion = clips.motion_score[rows].clone()
    motion[~seen & (torch.rand(count, generator=draw) < settings.motion_dropout)] = DEFAULT_MOTION
    mixed = noise + time[:, None, None, None, None] * (data - noise)
    given = (mixed.to(device), time.to(device), image.to(device), motion.to(device))
    velocity = functional_call(denoiser, halves, (texts, *given))
    errors = (velocity - (data - noise).to(device)).square().mean((1, 2, 3, 4))
    return errors, seen.to(device), time.to(device)
