"""The nano networks together, in batches, as training optimises them.

Videos are made by the studio's own recipe (studio/pipeline), nano's like any other model's; so are those that the judge
sees (studio/nano/clips.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from models.layers import sinusoid
from models.tokenizers import CLIP_TOKENS, ClipTokenizer, StepTokenizer
from models.transformer import Transformer


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
        self.transformer = cast(Transformer, modules["transformer"])
        self.step_llm, self.clip = modules["step_llm"], modules["clip"]
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
