"""The pipeline's access to a network on the device: the loops over blocks and over frames."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median, mode
from time import monotonic
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from models.geometry import CHUNK_FRAMES, CHUNK_LATENTS
from models.layers import Rope, TextKV
from models.transformer import TOKEN_CHUNK, Transformer, TransformerParams
from models.vae import VAE
from models.vae_convs import Keep
from studio.errors import Cancelled, DoesNotFit
from studio.memory.networks import StreamedNetwork
from studio.memory.plan import ComponentPlan, Plan
from studio.memory.texts import Condition

Result = TypeVar("Result")
# Runs work(plan) under the current plan; after an out-of-memory error again under a smaller one.
Retry = Callable[[Callable[[Plan], Result]], Result]


class TokenShare(Protocol):
    """This device's part of a video's tokens, and the way to the others'."""

    @property
    def part(self) -> slice:
        """The tokens of this device."""

    @property
    def chunk(self) -> int:
        """Tokens that go through a matrix product at once."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (1, n of this device, heads, d) -> attention among the tokens of all (1, n, heads, d)."""

    @property
    def settle(self) -> Callable[[], None]:
        """Waits until the device has computed what it was given, or raises where another device is lost."""


class TransformerSession:
    """The video transformer for one video, loaded as the plan says."""

    def __init__(
        self,
        load: Callable[[ComponentPlan], StreamedNetwork],
        device: torch.device,
        retry: Retry,
        params: TransformerParams,
    ) -> None:
        """load: loads the transformer, whose sizes are params, as a plan says, and returns it."""
        self._load, self._device, self._retry = load, device, retry
        self.latent_channels, self.takes_image = params.in_channels, params.takes_image
        self._timed: list[tuple[int, float]] = []
        # On the device, once per video: contexts of texts that are not kept, the first image, the rotary tables.
        self._contexts: list[tuple[Condition, Tensor]] = []
        self._image: tuple[Tensor, Tensor] | None = None
        self._rope: Rope | None = None
        self._share: TokenShare | None = None

    def divide(self, share: TokenShare) -> None:
        """Compute this device's tokens alone from here on."""
        self._share = share

    @property
    def timing(self) -> tuple[int, float] | None:
        """(conditions, median seconds) of the commonest kind of step under the current plan, the first step apart.

        None before the second step.
        """
        steps = self._timed[1:]
        if not steps:
            return None
        commonest = mode(conditions for conditions, _ in steps)
        return commonest, median(seconds for conditions, seconds in steps if conditions == commonest)

    def velocities(
        self,
        latents: Tensor,
        time: float,
        conditions: Sequence[Condition],
        *,
        image_latents: Tensor | None = None,
        motion_score: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        last: bool = False,
    ) -> list[Tensor]:
        """One velocity (1, f, c, h, w) float32 per condition, on the device of `latents` (1, f, c, h, w).

        time: 0 (noise) to 1 (video). last: no step follows, so no block is prefetched for one. Each block is loaded
        once and computes all conditions; from RAM nothing is copied within the pass but latents that lie there. Raises
        Cancelled between blocks, StudioError where a weight file cannot be read or memory runs out under the smallest
        plan.

        After `divide` each velocity is that of this device's tokens, (1, n, c), and an out-of-memory error ends the
        work: a step that is repeated here would not be repeated elsewhere.
        """
        attempts = 0

        def step(plan: Plan) -> list[Tensor]:
            nonlocal attempts
            attempts += 1
            share = self._share
            if share is not None and attempts > 1:
                raise DoesNotFit("rank_memory", device=self._device)
            network = self._load(plan.transformer)
            body = cast(Transformer, network.body)
            given, moment = latents.to(self._device), torch.full((1,), time, dtype=torch.float32, device=self._device)
            contexts, kept = self._texts(network, plan.transformer, conditions, cancelled)
            hiddens = body.embed_video(
                given,
                moment,
                contexts,
                self._rope_of(body, given),
                image_latents=self._image_on_device(image_latents),
                motion_score=motion_score,
            )
            chunk = TOKEN_CHUNK
            if share is not None:
                hiddens, chunk = [hidden.part(share.part, share.attend) for hidden in hiddens], share.chunk
            for index, block in network.blocks(last=last):
                if cancelled():
                    raise Cancelled
                block(*hiddens, texts=None if kept is None else [text[index] for text in kept], token_chunk=chunk)
            head = body.head if share is None else body.token_velocity
            computed = [head(hidden, token_chunk=chunk) for hidden in hiddens]
            if share is not None:
                share.settle()
            return [velocity.to(latents.device, torch.float32) for velocity in computed]

        began = monotonic()
        with torch.no_grad():
            velocities = self._retry(step)
        timed = attempts == 1 and self._share is None  # plans are timed with all tokens
        self._timed = [*self._timed, (len(conditions), monotonic() - began)] if timed else []
        return velocities

    def _texts(
        self,
        network: StreamedNetwork,
        plan: ComponentPlan,
        conditions: Sequence[Condition],
        cancelled: Callable[[], bool],
    ) -> tuple[list[Tensor | None], list[list[TextKV]] | None]:
        """The contexts of the texts, or their keys and values by block where the plan keeps those."""
        body = cast(Transformer, network.body)
        if network.texts is None or plan.texts is None:
            return [self._context(body, condition) for condition in conditions], None
        network.texts.keep(conditions, body, plan.texts.source, cancelled=cancelled)
        return [None] * len(conditions), network.texts.blocks(conditions)

    def _context(self, body: Transformer, condition: Condition) -> Tensor:
        """The context (1, l, D) of a text, on the device."""
        for known, context in self._contexts:
            if known is condition:
                return context
        embeds = condition.prompt_embeds.to(self._device), condition.clip_embeds.to(self._device)
        self._contexts.append((condition, body.embed_text(*embeds)))
        return self._contexts[-1][1]

    def _image_on_device(self, image_latents: Tensor | None) -> Tensor | None:
        if image_latents is None:
            return None
        if self._image is None or self._image[0] is not image_latents:
            self._image = image_latents, image_latents.to(self._device)
        return self._image[1]

    def _rope_of(self, body: Transformer, latents: Tensor) -> Rope:
        if self._rope is None:
            self._rope = body.rope(latents)
        return self._rope


class HostCopy:
    """A tensor and a flag on their way from the device to RAM; nobody waits for them until `wait`."""

    def __init__(self, frames: Tensor, flag: Tensor | None) -> None:
        """frames (t, ...); flag: one bool on the same device, None: True."""
        self.frames = len(frames)
        self._event: torch.cuda.Event | None = None
        self._flag = None if flag is None else self._begin(flag)
        self._frames = self._begin(frames)
        if frames.is_cuda:
            self._event = torch.cuda.Event(blocking=True)  # a thread that waits for it sleeps
            self._event.record(torch.cuda.current_stream(frames.device))

    @staticmethod
    def _begin(source: Tensor) -> Tensor:
        if not source.is_cuda:
            return source.cpu()
        # Only a copy into page-locked memory returns at once.
        return torch.empty(source.shape, dtype=source.dtype, pin_memory=True).copy_(source, non_blocking=True)

    def wait(self) -> tuple[Tensor, bool]:
        """The frames and the flag, on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._frames, self._flag is None or bool(self._flag)


class VAESession:
    """The VAE for one video, resident on the device."""

    def __init__(self, load: Callable[[], VAE], device: torch.device, dtype: torch.dtype, retry: Retry) -> None:
        """load: loads the VAE where it is not on the device, and returns it."""
        self._load, self._device, self._dtype, self._retry = load, device, dtype, retry

    def encode_image(self, image: Tensor) -> Tensor:
        """(1, 1, 3, H, W) in -1..1 -> the mean of its latent (1, 1, c, h, w), float32 on the CPU."""
        return self.encode_moments(image).chunk(2, dim=2)[0]

    def encode_moments(self, video: Tensor) -> Tensor:
        """(1, t, 3, H, W) in -1..1 -> means and log-variances (1, f, 2c, h, w), float32 on the CPU."""

        def encode(_: Plan) -> Tensor:
            return self._load().encode_moments(video.to(self._device, self._dtype)).float().cpu()

        with torch.no_grad():
            return self._retry(encode)

    def decode_chunks(
        self,
        latents: Tensor,
        convert: Callable[[Tensor], Tensor] = lambda frames: frames,
        refuse: Callable[[int], None] | None = None,
        elsewhere: Callable[[int], Tensor | None] = lambda chunk: None,
    ) -> Iterator[Tensor]:
        """latents (1, f, c, h, w) -> the frames in order, in pieces (t_i, 3, H, W) on the CPU, about -1..1.

        The device computes the next piece while the caller uses one. convert: runs on the device before the copy, for
        results (t_i, ...) that are smaller there. refuse(frame): called with the first frame (from 1) of a piece whose
        numbers are not all finite, before it is yielded; raises. elsewhere(chunk): a chunk's frames (1, t, 3, H, W) on
        the CPU as `decode_chunk` of another device has them; None: they are decoded here. After an out-of-memory error
        decoding resumes at the next frame with less memory, and asks for a chunk again.
        """
        latents, launched, yielded = latents.to(self._device, self._dtype), 0, 0
        pieces: Iterator[Tensor] | None = None

        def launch(plan: Plan) -> HostCopy | None:
            nonlocal pieces
            current, pieces = pieces or self._decode_from(latents, launched, self._keep(plan), elsewhere), None
            piece = next(current, None)
            copy = None
            if piece is not None:
                finite = torch.isfinite(piece).all() if refuse else None
                copy = HostCopy(convert(piece), finite)
            pieces = current  # only after success: a generator that raised has ended
            return copy

        waiting: HostCopy | None = None
        while True:
            following = self._retry(launch)
            launched += 0 if following is None else following.frames
            if waiting is not None:
                frames, finite = waiting.wait()
                if refuse and not finite:
                    refuse(yielded + 1)
                yielded += len(frames)
                yield frames
            if following is None:
                return
            waiting = following

    def decode_chunk(self, latents: Tensor, chunk: int) -> Tensor:
        """The frames (1, t, 3, H, W) of one chunk of latents (1, f, c, h, w), not blended with others', on the CPU."""
        count = min(latents.shape[1], CHUNK_LATENTS)
        given = latents[:, chunk * count : (chunk + 1) * count].to(self._device, self._dtype)

        def decode(plan: Plan) -> Tensor:
            return torch.cat(list(self._load().decoder.slices(given, self._keep(plan))), dim=1).cpu()

        with torch.no_grad():
            return self._retry(decode)

    def _keep(self, plan: Plan) -> Keep:
        if self._device.type == "cpu":
            return Keep.SUMS
        return Keep.SHARED if plan.compact_decode else Keep.WINDOWS

    def _decode_from(
        self, latents: Tensor, frame: int, keep: Keep, elsewhere: Callable[[int], Tensor | None]
    ) -> Iterator[Tensor]:
        """The frames from `frame` on. Decoding starts one chunk earlier, whose last frame is blended into the next."""
        first = max(frame // CHUNK_FRAMES - 1, 0)
        drop = frame - first * CHUNK_FRAMES

        def given(chunk: int) -> Tensor | None:
            frames = elsewhere(first + chunk)
            return None if frames is None else frames.to(self._device)

        rest = latents[:, first * CHUNK_LATENTS :]
        for piece in self._load().decode_chunks(rest, keep=keep, elsewhere=given):
            if drop < piece.shape[1]:
                yield piece[0, drop:]
            drop = max(drop - piece.shape[1], 0)
