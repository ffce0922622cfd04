"""What the denoiser is conditioned on: encoded texts and the first image's latent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image

from models.geometry import VideoShape
from studio.media import image_array
from studio.memory.manager import Condition
from studio.memory.sessions import TransformerSession
from studio.pipeline.evaluation_plan import Node
from studio.pipeline.finite import check_finite
from studio.pipeline.run import Run
from studio.pipeline.sampler import Passes
from studio.prompt import ModelText, count, unread


@dataclass(frozen=True)
class Conditioning:
    """What every pass of the transformer is given besides latents and time.

    texts: the conditional one, then, where the plan is guided, the unconditional one. image_latents (1, f, c, h, w) or
    None: then a network that takes an image and serves text alone (`text_alone` in configs/models) is given zeros.
    motion_score: None for a network that takes none.
    """

    texts: list[Condition]
    image_latents: torch.Tensor | None
    motion_score: float | None

    def passes(
        self,
        transformer: TransformerSession,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        last: Node | None = None,
    ) -> Passes:
        """The passes of a node for the sampler. They raise Cancelled between blocks.

        last: the node after which nothing is computed, so that no block is prefetched for another pass.
        """
        image = self.image_latents

        def run_passes(latents: torch.Tensor, node: Node) -> list[torch.Tensor]:
            nonlocal image
            if image is None and transformer.takes_image:
                image = torch.zeros_like(latents)
            return transformer.velocities(
                latents,
                node.time,
                self.texts[: node.passes],
                image_latents=image,
                motion_score=self.motion_score,
                cancelled=cancelled,
                last=node is last,
            )

        return run_passes


def encode_text(run: Run, text: ModelText, *, guided: bool) -> list[Condition]:
    """The conditional text first, then, where any node of the plan is guided, the unconditional one."""
    _report_cut(run, text)
    cache, fingerprint = run.engine.embeddings, run.engine.text_fingerprint
    texts = [text.positive, text.negative] if guided else [text.positive]
    known = {words: tensors for words in texts if (tensors := cache.get(words, fingerprint)) is not None}
    if fresh := [words for words in dict.fromkeys(texts) if words not in known]:
        for words, tensors in zip(fresh, _run_encoders(run, fresh), strict=True):
            check_finite(tensors.values(), "encode_text")
            known[words] = tensors
            cache.put(words, fingerprint, tensors)
    return [Condition(**known[words]) for words in texts]


def _report_cut(run: Run, text: ModelText) -> None:
    """Tell the user where an encoder reads the text no further than into words of the user's own."""
    tails = unread(text.positive, run.engine.tokenizers)
    for cut in count(text.positive, run.engine.tokenizers):
        if len(tails.get(cut.encoder, "")) > text.added:
            run.notify("text_cut", encoder=cut.encoder, limit=cut.limit, cut=cut.cut)


def _run_encoders(run: Run, texts: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Each encoder is on the device once for all texts; step_llm reads the valid tokens only (it is causal)."""
    memory, tokenizers = run.engine.memory, run.engine.tokenizers
    llm_ids = [torch.tensor([tokenizers["step_llm"].encode(text).ids]) for text in texts]
    llm = memory.step_llm(llm_ids, cancelled=run.cancelled)
    run.check()
    padded = [tokenizers["clip"].encode(text).padded() for text in texts]
    clip = memory.clip([(torch.tensor([ids]), torch.tensor([mask])) for ids, mask in padded])
    for prompt_embeds, clip_embeds in zip(llm, clip, strict=True):
        yield {"prompt_embeds": prompt_embeds, "clip_embeds": clip_embeds}


def encode_image(run: Run, picture: Image.Image | None, video: VideoShape) -> torch.Tensor | None:
    """The picture's latent in frame 0 and zeros after it: (1, f, c, h, w). None without a picture.

    The latent is the posterior's mean, so the result is deterministic (the official server samples the posterior with
    an unseeded generator).
    """
    if picture is None:
        return None
    with run.engine.memory.vae(video) as vae:
        first = vae.encode_image(torch.from_numpy(image_array(picture))[None, None])
    check_finite([first], "encode_image")
    return torch.cat([first, first.new_zeros(1, video.latent_frames - 1, *first.shape[2:])], 1)
