"""The video transformer of Step-Video T2V, T2V-Turbo and TI2V: noisy latents and text in, velocity out.

Attribute names are the keys of the public checkpoints. `embed`, the blocks and `head` can be called alone, so that a
caller can hold one block at a time on the device; `Transformer.forward` is the same three steps in a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.config_values import epsilon, fixed, flag, layer_count, product, whole, wholes
from models.kernels.modulated_norm import modulate, modulated_norm
from models.layers import (
    AdaLayerNormSingle,
    CrossAttention,
    FeedForward,
    Outputs,
    Projection,
    SelfAttention,
    TextKV,
    accumulate,
    accumulate_product,
    collect,
)
from models.rope import Rope, rope_split, rope_tables

# Tokens that go through a projection or a feed-forward at once where no gradient is computed. One constant for every
# plan and card: matrix products of another size may round differently, and a resumed video must keep its bits.
TOKEN_CHUNK = 4096
# q, k, v (b, n, heads, d) of a Hidden's tokens -> (b, n, heads, d).
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
BLOCK_NORM_EPS = 1e-5  # norm1 and norm2; the config's norm_eps serves the others
QK_NORM_EPS = 1e-6


@dataclass(frozen=True)
class TransformerParams:
    """The architecture. The defaults are public T2V and Turbo; TI2V has both flags set."""

    heads: int = 48
    head_dim: int = 128
    layers: int = 48
    in_channels: int = 64  # of the noisy latents alone
    out_channels: int = 64
    llm_width: int = 6144
    clip_width: int = 1024
    norm_eps: float = 1e-6
    takes_image: bool = False  # the first image's latents enter as further channels
    takes_motion_score: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TransformerParams":
        """From a public transformer/config.json. ValueError for an architecture that this class does not compute."""
        fixed(config, {"patch_size": 1, "norm_type": "ada_norm_single", "norm_elementwise_affine": False})
        llm_width, clip_width = wholes(config, "caption_channels", 2)
        conditions = flag(config, "use_additional_conditions")
        params = cls(
            heads=whole(config, "num_attention_heads"),
            head_dim=whole(config, "attention_head_dim"),
            layers=layer_count(config, "num_layers"),
            in_channels=whole(config, "in_channels"),
            out_channels=whole(config, "out_channels"),
            llm_width=llm_width,
            clip_width=clip_width,
            norm_eps=epsilon(config, "norm_eps"),
            takes_image=conditions,
            takes_motion_score=conditions,
        )
        product(params.heads, params.head_dim, "the width, num_attention_heads times attention_head_dim,")
        rope_split(params.head_dim)  # ValueError unless 8 divides it
        return params

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.heads * self.head_dim


@dataclass
class Hidden:
    """What passes through the blocks. They update `tokens`, in place where no gradient is computed.

    Everything has the weights' dtype, but for `rope`. n: all f*h*w tokens, or those of one device of several.
    """

    tokens: Tensor  # (b, n, D) in the order frame, row, column
    timestep_emb: Tensor  # (b, D)
    modulation: Tensor  # (b, 6, D): shift, scale, gate of attention, then of the feed-forward
    context: Tensor | None  # (b, l, D): CLIP's 77 positions, padding included, then the LLM's; None: see Block.forward
    rope: Rope  # cos, sin (n, 1, head_dim) float32; equal for all conditions of one video
    grid: tuple[int, int, int]  # f, h, w
    context_lengths: tuple[int, ...] | None = None  # valid positions of each sample's context; None: all
    attend: Attend = attention  # self-attention among all tokens of the video

    def part(self, tokens: slice, attend: Attend) -> "Hidden":
        """Some of the tokens, for a device that shares them with others; attend: what computes among all of them."""
        cos, sin = self.rope
        own = self.tokens[:, tokens].clone()
        return replace(self, tokens=own, rope=(cos[tokens], sin[tokens]), attend=attend)


class Block(nn.Module):
    """One transformer block; it can be built alone."""

    def __init__(self, params: TransformerParams):
        super().__init__()
        width, heads, head_dim = params.width, params.heads, params.head_dim
        self.scale_shift_table = scale_shift_table(6, width)
        self.norm1 = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)
        self.attn1 = SelfAttention(heads, head_dim, QK_NORM_EPS)
        self.attn2 = CrossAttention(heads, head_dim, QK_NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)
        self.ff = FeedForward(width)

    def forward(self, *hiddens: Hidden, texts: Sequence[TextKV] | None = None, token_chunk: int = TOKEN_CHUNK) -> None:
        """Updates the tokens (b, n, D) of every Hidden, layer by layer: an int8 weight is dequantised once for all.

        texts: keys and values of each Hidden's context in this block, as `CrossAttention.kv` gives them; None: they are
        computed here. Full-size tensors beside the tokens: q, k, v and the result of attention of one Hidden;
        everything else has `token_chunk` tokens. ValueError where there is neither a context nor its keys and values.
        """
        for hidden in hiddens:
            self._attend_self(hidden, token_chunk)
        if texts is None:
            contexts = [hidden.context for hidden in hiddens if hidden.context is not None]
            if len(contexts) < len(hiddens):
                raise ValueError("A block needs the context of every Hidden, or its keys and values.")
            texts = [self.attn2.kv(context) for context in contexts]
        for hidden, text in zip(hiddens, texts, strict=True):
            self._attend_text(hidden, text, token_chunk)
        for hidden in hiddens:
            self._feed_forward(hidden, token_chunk)

    def _modulation(self, hidden: Hidden) -> tuple[Tensor, ...]:
        """Shift, scale, gate of attention, then of the feed-forward: each (b, 1, D)."""
        return (self.scale_shift_table + hidden.modulation)[:, :, None].unbind(1)

    def _attend_self(self, hidden: Hidden, token_chunk: int) -> None:
        shift, scale, gate, *_ = self._modulation(hidden)
        cos, sin = hidden.rope

        def qkv(part: slice, out: Outputs | None) -> Outputs:
            normed = modulated_norm(self.norm1, hidden.tokens[:, part], shift, scale)
            return self.attn1.qkv(normed, (cos[part], sin[part]), out)

        head_dim = hidden.tokens.shape[-1] // self.attn1.heads
        mixed = hidden.attend(*collect(qkv, hidden.tokens, [(self.attn1.heads, head_dim)] * 3, token_chunk)).flatten(2)
        hidden.tokens = accumulate(hidden.tokens, gate, lambda part: self.attn1.wo(mixed[:, part]), token_chunk)

    def _attend_text(self, hidden: Hidden, text: TextKV, token_chunk: int) -> None:
        k, v = text

        def mix(part: slice) -> Tensor:  # officially without norm and gate
            return self.attn2.mix(hidden.tokens[:, part], k, v, hidden.context_lengths)

        hidden.tokens = accumulate_product(hidden.tokens, mix, self.attn2.wo, token_chunk)

    def _feed_forward(self, hidden: Hidden, token_chunk: int) -> None:
        *_, shift, scale, gate = self._modulation(hidden)

        def feed_forward(part: slice) -> Tensor:
            return self.ff(modulated_norm(self.norm2, hidden.tokens[:, part], shift, scale))

        hidden.tokens = accumulate(hidden.tokens, gate, feed_forward, token_chunk)


def scale_shift_table(rows: int, width: int) -> nn.Parameter:
    """(rows, width), added to a condition's modulation.

    Not by torch.randn, which on the meta device imports sympy: seconds.
    """
    table = nn.Parameter(torch.empty(rows, width))
    nn.init.trunc_normal_(table, std=width**-0.5)
    return table


class PatchEmbed(nn.Module):
    """The 1x1 convolution from latent channels to tokens, computed as a matrix product.

    The convolution itself would need a transposed copy of its output.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(b, f, c, h, w) -> (b, f*h*w, D); latents have the weights' dtype."""
        pixels = latents.permute(0, 1, 3, 4, 2).flatten(1, 3)
        return F.linear(pixels, self.proj.weight.flatten(1), self.proj.bias)


class Transformer(nn.Module):
    """The whole network. Weights and activations share one dtype; time, RoPE and norms are float32 inside.

    The public config says in_channels 64 for TI2V too; there the patch embedding takes 128, noise channels first.
    """

    def __init__(self, params: TransformerParams):
        super().__init__()
        self.params = params
        width = params.width
        self.pos_embed = PatchEmbed(params.in_channels * (1 + params.takes_image), width)
        self.adaln_single = AdaLayerNormSingle(width, motion_score=params.takes_motion_score)
        self.caption_norm = nn.LayerNorm(params.llm_width, eps=params.norm_eps, elementwise_affine=False)
        self.caption_projection = Projection(params.llm_width, width, nn.GELU(approximate="tanh"))
        self.clip_projection = nn.Linear(params.clip_width, width)
        self.transformer_blocks = nn.ModuleList(Block(params) for _ in range(params.layers))
        self.norm_out = nn.LayerNorm(width, eps=params.norm_eps, elementwise_affine=False)
        self.scale_shift_table = scale_shift_table(2, width)
        self.proj_out = nn.Linear(width, params.out_channels)

    def embed(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        clip_embeds: Tensor,
        *,
        image_latents: Tensor | None = None,
        motion_score: Tensor | float | None = None,
    ) -> Hidden:
        """Everything before the blocks.

        latents (b, f, c, h, w); timestep (b,) in 0..1, 0 = noise; prompt_embeds (b, l, llm_width), valid tokens only;
        clip_embeds (b, 77, clip_width), padding included. TI2V also needs image_latents (b, f, c, h, w), the first
        image's latents in frame 0 and zeros after it, and motion_score, a number or (b,). Any float dtypes; they are
        cast to the weights'. ValueError where TI2V's two inputs do not fit the architecture.
        """
        context = self.embed_text(prompt_embeds, clip_embeds)
        rope = self.rope(latents)
        return self.embed_video(
            latents, timestep, [context], rope, image_latents=image_latents, motion_score=motion_score
        )[0]

    def embed_text(self, prompt_embeds: Tensor, clip_embeds: Tensor) -> Tensor:
        """The context of the cross-attention (b, 77 + l, D) in the weights' dtype; inputs as for `embed`."""
        dtype = self.scale_shift_table.dtype
        prompt = self.caption_projection(self.caption_norm(prompt_embeds.to(dtype)))
        return torch.cat((self.clip_projection(clip_embeds.to(dtype)), prompt), dim=1)

    def rope(self, latents: Tensor) -> Rope:
        """The rotary tables of latents (b, f, c, h, w) of this size."""
        frames, _, height, width = latents.shape[1:]
        return rope_tables((frames, height, width), self.params.head_dim, latents.device)

    def embed_video(
        self,
        latents: Tensor,
        timestep: Tensor,
        contexts: Sequence[Tensor | None],
        rope: Rope,
        *,
        image_latents: Tensor | None = None,
        motion_score: Tensor | float | None = None,
    ) -> list[Hidden]:
        """One Hidden per context, which may be None: what they share is computed once. Inputs as for `embed`.

        Nothing is copied from RAM to the latents' device but what lies there as a tensor.
        """
        for name, given, wanted in (
            ("image_latents", image_latents, self.params.takes_image),
            ("motion_score", motion_score, self.params.takes_motion_score),
        ):
            if (given is not None) != wanted:
                raise ValueError(f"This transformer {'needs' if wanted else 'does not take'} {name}.")
        dtype, device = self.scale_shift_table.dtype, latents.device
        batch, frames, _, height, width = latents.shape
        if image_latents is not None:
            latents = torch.cat((latents, image_latents.to(latents)), dim=2)
        if isinstance(motion_score, Tensor):
            motion_score = motion_score.to(device, torch.float32).expand(batch)
        elif motion_score is not None:
            motion_score = torch.full((batch,), motion_score, dtype=torch.float32, device=device)
        timestep_emb, modulation = self.adaln_single(timestep, motion_score, dtype)
        first = Hidden(
            tokens=self.pos_embed(latents.to(dtype)),
            timestep_emb=timestep_emb,
            modulation=modulation,
            context=contexts[0],
            rope=rope,
            grid=(frames, height, width),
        )
        return [first, *(replace(first, tokens=first.tokens.clone(), context=each) for each in contexts[1:])]

    def head(self, hidden: Hidden, *, token_chunk: int = TOKEN_CHUNK) -> Tensor:
        """Everything after the blocks: hidden.tokens (b, n, D) -> velocity (b, f, c, h, w) in the weights' dtype."""
        return video_of_tokens(self.token_velocity(hidden, token_chunk=token_chunk), hidden.grid)

    def token_velocity(self, hidden: Hidden, *, token_chunk: int = TOKEN_CHUNK) -> Tensor:
        """As `head`, token by token: (b, n, c)."""
        shift, scale = (self.scale_shift_table + hidden.timestep_emb[:, None])[:, :, None].unbind(1)

        def velocity(part: slice, out: Outputs | None) -> Outputs:
            values = self.proj_out(modulate(self.norm_out(hidden.tokens[:, part]), shift, scale))
            return (values,) if out is None else (out[0].copy_(values),)

        (pixels,) = collect(velocity, hidden.tokens, [(self.proj_out.out_features,)], token_chunk)
        return pixels

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt_embeds: Tensor,
        clip_embeds: Tensor,
        prompt_mask: Tensor,
        image_latents: Tensor | None = None,
        motion_score: Tensor | float | None = None,
    ) -> Tensor:
        """The velocity (b, f, c, h, w) of a batch, in the weights' dtype; differentiable where gradients are enabled.

        Inputs as for `embed`, but prompt_embeds may be padded on the right: prompt_mask (b, 77 + l) is 1 over the valid
        prefix of CLIP's and the LLM's positions together, 0 after it. ValueError for a mask with holes.
        """
        hidden = self.embed(
            latents, timestep, prompt_embeds, clip_embeds, image_latents=image_latents, motion_score=motion_score
        )
        lengths = _prefix_lengths(prompt_mask)
        if hidden.context is not None:
            hidden.context = hidden.context[:, : max(lengths)]
        hidden.context_lengths = lengths if len(set(lengths)) > 1 else None
        for block in self.transformer_blocks:
            block(hidden)
        return self.head(hidden)


def video_of_tokens(pixels: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(b, f*h*w, c) in the order frame, row, column -> a view (b, f, c, h, w). grid: f, h, w."""
    return pixels.unflatten(1, grid).permute(0, 1, 4, 2, 3)


def _prefix_lengths(mask: Tensor) -> tuple[int, ...]:
    mask = mask.bool()
    lengths = mask.sum(dim=1)
    if not torch.equal(mask, torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]):
        raise ValueError("prompt_mask must be 1 over the first positions of each sample and 0 after them.")
    return tuple(lengths.tolist())
