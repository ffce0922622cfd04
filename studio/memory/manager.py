"""Loads and offloads networks so that VRAM and RAM stay within their budgets.

    memory = MemoryManager(folders, RuntimeConfig(device, dtype, budgets))
    with memory.transformer(video) as transformer:
        velocities = transformer.velocities(latents, time, conditions)

A network stays on the device after its use, for the next job, until another network needs the memory or `release` is
called. After an out-of-memory error the operation is retried with a smaller plan; results are bit-identical.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from models.checkpoint import build
from models.geometry import VideoShape
from models.step_llm import StepLLM
from models.transformer import Transformer
from models.vae import VAE
from studio.errors import Cancelled, DoesNotFit
from studio.memory import usage
from studio.memory.allocator import ON_DEVICE, Allocator, BufferKind, IntegrityError, Machine
from studio.memory.networks import ResidentNetwork, StreamedNetwork
from studio.memory.oom import clear_frames, retry_on_oom
from studio.memory.plan import Budgets, ComponentPlan, Plan, RuntimeConfig, WeightMode
from studio.memory.planning import timing
from studio.memory.planning.plan_cache import PlanCache, SizeCache
from studio.memory.planning.speeds import Speeds
from studio.memory.sessions import TransformerSession, VAESession
from studio.memory.shared_ram import Lead, SharedRam
from studio.memory.streaming.backends import device_backend
from studio.memory.texts import Condition

__all__ = ["Condition", "MemoryManager", "MemoryUsage"]

STILL = VideoShape(1, 256, 256)  # the video of plans that encode text: any video would give the same
NETWORK_OF = {
    "encode_text": "step_llm",
    "clip": "clip",
    "encode_image": "vae",
    "texts": "transformer",
    "denoise": "transformer",
    "decode": "vae",
}
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryUsage:
    """Bytes. vram and ram: of the whole process, now and at most since reset_peaks. The others: buffers by kind.

    alloc_retries: how often PyTorch's allocator had to give memory back first, since reset_peaks; each time is slow.
    """

    vram_bytes: int
    ram_bytes: int
    vram_peak_bytes: int
    ram_peak_bytes: int
    resident_bytes: int
    slot_bytes: int
    scratch_bytes: int
    text_bytes: int
    pinned_bytes: int
    staging_bytes: int
    alloc_retries: int


class MemoryManager:
    """One instance per process and device. Only `usage` is thread-safe."""

    def __init__(self, parts: Mapping[str, Path], config: RuntimeConfig, *, machine: Machine | None = None) -> None:
        """parts: component -> checkpoint folder; where config.weights is int8, the folders of the int8 files for
        transformer and Step-LLM. Files are opened when they are needed.
        """
        device = config.device
        self._parts, self._device, self._dtype = parts, device, config.dtype
        self._plans = PlanCache(SizeCache(parts, config.dtype), config)
        self._int8_compute = {"transformer"} if config.weights is WeightMode.INT8_COMPUTE else set()
        self._allocator = Allocator(machine or Machine(device))
        self._backend = device_backend(device)
        self.budgets, self._shares = config.budgets, config.sharing is not None
        self._one_copy = SharedRam(config.sharing)
        self._streamed: dict[str, StreamedNetwork] = {}
        self._resident: dict[str, ResidentNetwork] = {}
        # Called when a plan was stepped down, with a code of studio.messages and its values.
        self.notify: Callable[..., None] = lambda code, **values: None
        self._retries_before = usage.alloc_retries(device)
        usage.cap_vram(device, config.budgets.vram_bytes)
        usage.limit_heap_gaps()

    @property
    def speeds(self) -> Speeds:
        """The speeds that plans are timed with; each finished job corrects them."""
        return self._plans.speeds

    @property
    def latent_channels(self) -> int:
        """c of the latents (1, f, c, h, w), as the VAE's config says."""
        return self._plans.request(STILL).sizes.architecture.vae.z_channels

    @property
    def dtype(self) -> torch.dtype:
        """In which transformer, Step-LLM and VAE compute."""
        return self._dtype

    @property
    def attention_heads(self) -> int:
        """Heads of the transformer's self-attention."""
        return self._plans.request(STILL).sizes.architecture.transformer.heads

    def plan(self, video: VideoShape) -> Plan:
        """The current plan for a video. Its `fits` says whether it keeps the budgets."""
        return self._plans.plan(video)

    def require(self, video: VideoShape) -> None:
        """Raise DoesNotFit, with the changes that would fit, where no plan keeps the budgets."""
        self._plans.fitting_plan(video)

    def ram_room(self, video: VideoShape) -> int:
        """Bytes of the RAM budget that the plan for a video leaves."""
        return self._plans.request(video).budgets.ram_bytes - self._plans.plan(video).ram_peak_bytes

    def decode_seconds(self, video: VideoShape) -> float:
        """About how long the VAE takes to be read and to decode a video."""
        request = self._plans.request(video)
        return request.sizes.vae_bytes / self.speeds.disk_gbps / 1e9 + timing.decode_seconds(
            request.sizes, video, self.speeds
        )

    def set_plan(self, plan: Plan) -> None:
        """Use this plan for its video, in place of the planner's, until `release`."""
        self._plans.set_plan(plan)

    def lead(self, video: VideoShape, others: Sequence[Budgets]) -> Lead:
        """Of several processes that share a video, the first: what all of them follow. others: their budgets, which are
        kept too. Raises DoesNotFit, StudioError for bad files.
        """
        for budgets in others:
            self._plans.limit(budgets)
        plan = self._plans.fitting_plan(video)
        self._transformer(plan.transformer)
        return Lead(plan, self._one_copy.place)

    def follow(self, lead: Lead) -> None:
        """Of several processes, the others: use the first one's plan for its video, and its copy of weights in RAM."""
        if self._one_copy.follow(lead):
            self._release("transformer")
        self._plans.set_plan(lead.plan)

    def step_llm(self, texts: Sequence[Tensor], *, cancelled: Callable[[], bool] = lambda: False) -> list[Tensor]:
        """Token ids (1, l) without padding per text -> hidden states (1, l, d) per text, on the CPU.

        Each layer is loaded once and computes all texts. Step-LLM is released at the end. Raises Cancelled between
        layers.
        """

        def encode(plan: Plan) -> list[Tensor]:
            network = self._network("step_llm")
            network.set_plan(plan.step_llm)
            body = cast(StepLLM, network.body)
            states = [body.embed(ids.to(self._device)) for ids in texts]
            for _, layer in network.blocks(last=True):
                if cancelled():
                    raise Cancelled
                states = [layer(state) for state in states]
            return [state.cpu() for state in states]

        with self._phase("encode_text", STILL), torch.no_grad():
            try:
                return self._retry("encode_text", STILL, encode)
            finally:
                self._release("step_llm")

    def clip(self, texts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """(input_ids (1, 77), attention_mask (1, 77)) per text -> (1, 77, d) float32 per text, on the CPU.

        CLIP is released at the end.
        """

        def encode(_: Plan) -> list[Tensor]:
            clip = self._load("clip", torch.float32)
            return [clip(ids.to(self._device), mask.to(self._device)).cpu() for ids, mask in texts]

        with self._phase("clip", STILL), torch.no_grad():
            try:
                return self._retry("clip", STILL, encode)
            finally:
                self._release("clip")

    def keep_texts(
        self, video: VideoShape, texts: Sequence[Condition], *, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Compute the cross-attention's keys and values of these texts, where the video's plan keeps them.

        Texts that are kept already are not computed again; without this call the first step does it. Raises Cancelled
        between blocks, StudioError, DoesNotFit.
        """

        attempts = 0

        def keep(plan: Plan) -> None:
            nonlocal attempts
            attempts += 1
            if (planned := plan.transformer.texts) is None:
                return
            network = self._transformer(plan.transformer)
            if attempts > 1:
                network.offload()  # blocks of the job before
            body = cast(Transformer, network.load_body())
            if network.texts is not None:
                network.texts.keep(texts, body, planned.source, cancelled=cancelled)

        if self._plans.fitting_plan(video).transformer.texts is not None:
            with self._phase("texts", video), torch.no_grad():
                self._retry("texts", video, keep)

    @contextmanager
    def transformer(self, video: VideoShape) -> Iterator[TransformerSession]:
        """The video transformer for one video; it stays on the device. DoesNotFit where no plan keeps the budgets."""
        self._plans.fitting_plan(video)
        with self._phase("denoise", video):
            retry = partial(self._retry, "denoise", video)
            session = TransformerSession(self._loaded_transformer, self._device, retry, self._plans.transformer)
            yield session
            if session.timing is not None:
                self._plans.calibrate(video, *session.timing)

    @contextmanager
    def vae(self, video: VideoShape) -> Iterator[VAESession]:
        """The VAE for one video; released at the end."""
        with self._phase("decode", video):
            try:
                yield VAESession(
                    lambda: cast(VAE, self._load("vae", self._dtype)),
                    self._device,
                    self._dtype,
                    partial(self._retry, "decode", video),
                )
            finally:
                self._release("vae")

    def usage(self) -> MemoryUsage:
        """Memory in use now."""
        allocated = self._allocator.allocated
        return MemoryUsage(
            vram_bytes=usage.process_vram(self._device),
            ram_bytes=usage.process_ram(),
            vram_peak_bytes=usage.peak_vram(self._device),
            ram_peak_bytes=usage.peak_ram(),
            resident_bytes=allocated(BufferKind.RESIDENT),
            slot_bytes=allocated(BufferKind.SLOTS),
            scratch_bytes=allocated(BufferKind.SCRATCH),
            text_bytes=allocated(BufferKind.TEXTS),
            pinned_bytes=allocated(BufferKind.PINNED),
            staging_bytes=allocated(BufferKind.STAGING),
            alloc_retries=usage.alloc_retries(self._device) - self._retries_before,
        )

    def reset_peaks(self) -> None:
        """Restart the measurement of peaks and retries."""
        usage.reset_peaks(self._device)
        self._retries_before = usage.alloc_retries(self._device)

    def check_integrity(self) -> None:
        """Raise IntegrityError where the networks, the allocator and the existing storages differ by a single byte."""
        self._allocator.check()
        parts = [network.buffer_bytes() for network in self._streamed.values()]
        parts += [{BufferKind.RESIDENT: network.nbytes} for network in self._resident.values()]
        for kind in BufferKind:
            held, counted = sum(part.get(kind, 0) for part in parts), self._allocator.allocated(kind)
            if held != counted:
                raise IntegrityError(f"{kind}: networks hold {held:,} bytes, {counted:,} are counted")

    def release(self) -> None:
        """Release all networks, their files and the plans. The manager may be used again."""
        for name in (*self._resident, *self._streamed):
            self._release(name)
        self._plans.clear()
        usage.release_cached_memory(self._device)
        self.check_integrity()

    def _network(self, name: str, *, keeps_texts: bool = False) -> StreamedNetwork:
        if name not in self._streamed:
            module, files = build(self._parts[name], name)
            self._streamed[name] = StreamedNetwork(
                module,
                files,
                self._dtype,
                self._allocator,
                self._backend,
                int8_compute=name in self._int8_compute,
                keeps_texts=keeps_texts,
                arena=self._one_copy.open() if name == "transformer" else None,
            )
        return self._streamed[name]

    def _transformer(self, plan: ComponentPlan) -> StreamedNetwork:
        """The transformer with the kind of blocks that a plan wants."""
        keeps = plan.texts is not None
        if "transformer" in self._streamed and (self._streamed["transformer"].texts is not None) != keeps:
            self._release("transformer")
        return self._network("transformer", keeps_texts=keeps)

    def _loaded_transformer(self, plan: ComponentPlan) -> StreamedNetwork:
        network = self._transformer(plan)
        network.set_plan(plan)
        return network

    def _load(self, name: str, dtype: torch.dtype) -> nn.Module:
        if name not in self._resident:
            module, files = build(self._parts[name], name)
            self._resident[name] = ResidentNetwork(module.to(dtype), files, self._allocator)
        return self._resident[name].module

    def _release(self, name: str) -> None:
        if name in self._resident:
            self._resident.pop(name).release()
        if name in self._streamed:
            self._streamed.pop(name).release()
            if name == "transformer":
                self._one_copy.close()

    @contextmanager
    def _phase(self, phase: str, video: VideoShape) -> Iterator[None]:
        """Offload the other networks where memory is short; release this network after an error; check the counts."""
        name = NETWORK_OF[phase]
        if name in self._streamed and not self._streamed[name].files_are_current():
            self._release(name)
        own = self._streamed[name].buffer_bytes() if name in self._streamed else {}
        others = sum(self._allocator.allocated(kind) - own.get(kind, 0) for kind in ON_DEVICE)
        if others and others + self._plans.phase_bytes(video, phase) > self._plans.device_limit:
            self._offload_others(name)
        try:
            yield
        except BaseException as error:
            clear_frames(error)
            if not isinstance(error, Cancelled):
                self._release(name)
            raise
        finally:
            if name in self._streamed:
                self._streamed[name].release_staging()  # there may be no next step; others have that RAM
            self.check_integrity()

    def _offload_others(self, name: str) -> bool:
        """Offload all networks but this one; whether that released any device memory."""
        before = self._allocator.allocated(*ON_DEVICE)
        for other, network in self._streamed.items():
            if other != name:
                network.offload()
        return self._allocator.allocated(*ON_DEVICE) < before

    def _retry(self, phase: str, video: VideoShape, work: Callable[[Plan], Result]) -> Result:
        """work(plan) under the video's plan. After an out-of-memory error the other networks are offloaded, then the
        plan steps down; under the smallest plan the work is repeated once, then DoesNotFit is raised.
        """
        tried_again = False

        def step_down(message: str) -> None:
            nonlocal tried_again
            offloaded = self._offload_others(NETWORK_OF[phase])
            usage.release_cached_memory(self._device)
            if offloaded:
                return
            if self._shares and (phase == "denoise" or (phase == "texts" and self._one_copy.follows)):
                raise DoesNotFit("rank_memory", device=self._device)  # the others would go on under another plan
            if (smaller := self._plans.step_down(video, phase)) is not None:
                if phase == "decode":
                    self.notify("decode_smaller")
                else:
                    self.notify("plan_smaller", **_sizes(smaller))
            elif tried_again:
                raise DoesNotFit("out_of_memory", said=message.partition("\n")[0] or "out of memory")
            else:
                tried_again = True
                self.notify("memory_again")

        return retry_on_oom(lambda: work(self._plans.fitting_plan(video)), step_down)


def _sizes(plan: Plan) -> dict[str, int]:
    """The sizes that a step down makes smaller, for the notice."""
    return {
        "resident": len(plan.transformer.resident),
        "slots": plan.transformer.slots,
        "llm_slots": plan.step_llm.slots,
    }
