"""The nano networks together, in batches: what training optimises and the judge runs.

The studio itself runs nano through studio/pipeline.py like any other model, one video at a time; here many captions go
through at once, with the same maths.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoint import load_clip, load_step_llm, load_transformer
from models.geometry import CHUNK_FRAMES, VideoShape
from models.layers import sinusoid
from models.scheduler import FlowMatchScheduler
from models.tokenizers import CLIP_TOKENS, ClipTokenizer, StepTokenizer
from models.transformer import Transformer


@dataclass(frozen=True)
class SampleSettings:
    """How to generate; the fields mean what they mean in GenerationSettings."""

    infer_steps: int = 20
    cfg_scale: float = 4.0
    time_shift: float = 3.0
    num_frames: int = CHUNK_FRAMES
    height: int = 64
    width: int = 64


@dataclass(frozen=True)
class Texts:
    """A batch of texts as the transformer takes them."""

    prompt: Tensor  # (b, l, llm width)
    clip: Tensor  # (b, 77, clip width)
    mask: Tensor  # (b, 77 + l), 1 over the valid prefix


class Denoiser(nn.Module):
    """Transformer and both text towers, trained as one."""

    def __init__(self, modules: Mapping[str, nn.Module], tokenizers: Path) -> None:
        super().__init__()
        self.transformer, self.step_llm, self.clip = (modules[name] for name in ("transformer", "step_llm", "clip"))
        self._step = StepTokenizer(tokenizers / "step_llm")
        self._clip = ClipTokenizer(tokenizers / "hunyuan_clip" / "tokenizer")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.scale_shift_table.device

    def count(self, text: str) -> int:
        """How many tokens the language model reads of a text."""
        return self._step.encode(text).valid

    def encode(self, texts: Sequence[str]) -> Texts:
        """Both towers' states of a batch of texts."""
        step = [self._step.encode(text) for text in texts]
        longest = max(tokens.valid for tokens in step)
        padded = [tokens.padded() for tokens in step]
        ids = torch.tensor([ids[:longest] for ids, _ in padded], device=self.device)
        mask = torch.tensor([mask[:longest] for _, mask in padded], device=self.device)
        clip_ids, clip_mask = (
            torch.tensor(values, device=self.device)
            for values in zip(*(self._clip.encode(text).padded() for text in texts), strict=True)
        )
        ones = torch.ones(len(texts), CLIP_TOKENS, dtype=mask.dtype, device=self.device)
        return Texts(self.step_llm(ids), self.clip(clip_ids, clip_mask), torch.cat((ones, mask), 1))

    def forward(
        self, texts: Sequence[str], latents: Tensor, time: Tensor, image: Tensor, motion_score: Tensor
    ) -> Tensor:
        """`velocity` from the words themselves: one differentiable call for training."""
        return self.velocity(latents, time, self.encode(texts), image, motion_score)

    def velocity(self, latents: Tensor, time: Tensor, texts: Texts, image: Tensor, motion_score: Tensor) -> Tensor:
        """Velocity (b, f, c, h, w) in float32 of latents at time (b,); image (b, f, c, h, w), zeros for none."""
        given: dict[str, Tensor] = {}
        if self.transformer.params.takes_image:
            given = {"image_latents": image, "motion_score": motion_score}
        return self.transformer(latents, time, texts.prompt, texts.clip, texts.mask, **given).float()

    @torch.no_grad()
    def sample(self, texts: Sequence[str], noise: Tensor, image: Tensor, motion_score: Tensor,
               settings: SampleSettings) -> Tensor:  # fmt: skip
        """Latents (b, f, c, h, w) from noise of that shape: Euler steps, guidance away from the empty text."""
        conditional, empty = self.encode(texts), self.encode([""] * len(texts))
        scheduler = FlowMatchScheduler(settings.infer_steps, settings.time_shift)
        latents = noise
        for i, time in enumerate(scheduler.times[:-1]):
            at = time.expand(len(texts)).to(latents.device)
            velocity = self.velocity(latents, at, conditional, image, motion_score)
            if settings.cfg_scale != 1:
                without = self.velocity(latents, at, empty, image, motion_score)
                velocity = without + settings.cfg_scale * (velocity - without)
            latents = scheduler.step(velocity, latents, i)
        return latents


@torch.no_grad()
def text_alone(transformer: Transformer, motion_score: float) -> Transformer:
    """The T2V network that a TI2V network is without an image and at one motion score: the same velocities.

    No image is zeros, so its channels of the patch embedding fall away; the score's embedding is a constant vector,
    which joins the bias it was added to.
    """
    params = dataclasses.replace(transformer.params, takes_image=False, takes_motion_score=False)
    weights = dict(transformer.state_dict())
    embedder = transformer.adaln_single.emb.motion_score_embedder
    score = torch.tensor([motion_score], device=transformer.scale_shift_table.device)
    weights["pos_embed.proj.weight"] = weights["pos_embed.proj.weight"][:, : params.in_channels]
    bias = "adaln_single.emb.timestep_embedder.linear_2.bias"
    weights[bias] = weights[bias] + embedder(sinusoid(score))[0]
    text_network = Transformer(params)
    text_network.load_state_dict({k: v for k, v in weights.items() if "motion_score_embedder" not in k})
    return text_network.eval()


def noise(seeds: Sequence[int], channels: int, settings: SampleSettings) -> Tensor:
    """One clip's noise per seed, (b, f, c, h, w): the same for a seed whatever batch it is in."""
    shape = VideoShape(settings.num_frames, settings.height, settings.width).latent_shape(channels)[1:]
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def image_latents(vae: nn.Module, first_frames: Tensor, frames: int) -> Tensor:
    """First frames (b, 3, H, W) in -1..1 -> what TI2V is given: their latents in frame 0 of `frames`, zeros after."""
    mean = vae.encode_moments(first_frames[:, None]).chunk(2, dim=2)[0].float()
    return torch.cat((mean, mean.new_zeros(mean.shape[0], frames - 1, *mean.shape[2:])), 1)


def load_denoiser(folder: Path, text_folder: Path, device: torch.device | str) -> Denoiser:
    """The denoiser of checkpoint folders (transformer; text towers), in float32."""
    modules = {
        "transformer": load_transformer(folder, torch.float32, device),
        "step_llm": load_step_llm(text_folder, torch.float32, device),
        "clip": load_clip(text_folder, torch.float32, device),
    }
    return Denoiser(modules, text_folder).eval()
