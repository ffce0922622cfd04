"""Stage "turbo": a student walks in one guided step what its teacher walks in several, so that few steps are enough.

The student starts as the teacher. For a clip on its way at one of the few times, the teacher takes `substeps` guided
Euler steps to the next of those times; the straight line between the two ends is the student's velocity. Guidance is
learned with it: Turbo runs at cfg_scale 1, with one pass per step. For text alone, as the public Turbo is, and without
a motion score: the teacher is told one that is usual for the caption's camera, and the student always the same.
"""

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from models.scheduler import FlowMatchScheduler
from studio.nano.model import Denoiser
from studio.nano.train import Loop, LoopSettings, step_generator
from studio.nano.train_denoiser import CaptionPool, LatentClips, fastest_attention, rounded

DEFAULT_MOTION = 5.0  # what the student is told, and what `text_alone` folds into it
USUAL_MOTION = {False: 5.0, True: 10.0}  # whether the camera moves -> what the teacher is told


@dataclass(frozen=True)
class TurboSettings:
    """The student's steps and the teacher's."""

    loop: LoopSettings
    steps: int = 10
    time_shift: float = 3.0
    substeps: int = 2
    cfg_scale: float = 3.0
    batch: int = 12


def train_turbo(
    settings: TurboSettings, teacher: Denoiser, clips: LatentClips, pool: CaptionPool, folder: Path
) -> Denoiser:
    """Train, or continue to train, the student whose state is in `folder`. Only its transformer learns."""
    student = copy.deepcopy(teacher).requires_grad_(False)
    student.transformer.requires_grad_(True)
    loop = Loop(student, settings.loop, folder / "turbo.pt")
    loop.resume()
    loop.run(lambda step: turbo_loss(student, teacher, clips, pool, settings, step))
    return student


def turbo_loss(
    student: Denoiser, teacher: Denoiser, clips: LatentClips, pool: CaptionPool, settings: TurboSettings, step: int
) -> tuple[Tensor, dict[str, float]]:
    """One step's mean squared distance of the student's velocity from the teacher's guided path."""
    dice, draw, device = random.Random(step), step_generator(4, step), teacher.device
    times = FlowMatchScheduler(settings.steps, settings.time_shift).times
    rows, texts = pool.draw(settings.batch, 0.0, dice)
    which = torch.randint(settings.steps, (settings.batch,), generator=draw)
    begin, end = times[which], times[which + 1]
    data = clips.latents[rows].float()
    noise = torch.randn(data.shape, generator=draw)
    mixed = (noise + _wide(begin) * (data - noise)).to(device)
    image = torch.zeros_like(mixed)
    usual = torch.tensor([USUAL_MOTION[clips.scenes[row].camera_class != "fixed"] for row in rows], device=device)
    told = torch.full_like(usual, DEFAULT_MOTION)
    with torch.no_grad(), fastest_attention(device):
        target = _guided_path(teacher, texts, mixed, (begin.to(device), end.to(device)), (image, usual), settings)
    with fastest_attention(device):
        velocity = functional_call(student, rounded(student), (texts, mixed, begin.to(device), image, told))
    return (velocity - target).square().mean(), {}


def _guided_path(
    teacher: Denoiser,
    texts: list[str],
    latents: Tensor,
    times: tuple[Tensor, Tensor],
    given: tuple[Tensor, Tensor],
    settings: TurboSettings,
) -> Tensor:
    """The mean velocity of the teacher's guided Euler steps from one time to the other."""
    halves, empty = rounded(teacher), [""] * len(texts)
    begin, end = times
    total = torch.zeros_like(latents)
    for i in range(settings.substeps):
        now = begin + (end - begin) * i / settings.substeps
        at = latents + total * _wide((end - begin) / settings.substeps)
        with_text = functional_call(teacher, halves, (texts, at, now, *given))
        without = functional_call(teacher, halves, (empty, at, now, *given))
        total = total + without + settings.cfg_scale * (with_text - without)
    return total / settings.substeps


def _wide(time: Tensor) -> Tensor:
    return time[:, None, None, None, None]
