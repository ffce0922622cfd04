"""The one who owns this machine's memory: brings networks on when their turn comes, lets them go, keeps the budgets.

    memory = MemoryManager(folders, RuntimeConfig(device, dtype, budgets))
    with memory.transformer(video) as transformer:
        velocities = transformer.velocities(latents, time, conditions)

A network stays where it is after its use, for the next job, until another one needs the room or `release` is called.
Out of memory is not the end: what ran is repeated with a smaller plan, with the same bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.checkpoint import build
from models.geometry import VideoShape
from studio.errors import Cancelled, DoesNotFit
from studio.memory import usage
from studio.memory.allocator import ON_DEVICE, Account, IntegrityError, Kind, Machine
from studio.memory.networks import StreamedNetwork, WholeNetwork
from studio.memory.oom import forget_frames, run_resiliently
from studio.memory.plan import Plan, RuntimeConfig, WeightMode
from studio.memory.planning.plan_cache import PlanCache
from studio.memory.planning.speeds import Speeds
from studio.memory.sessions import Condition, TransformerSession, VAESession
from studio.memory.streaming.backends import backend_for

__all__ = ["Condition", "MemoryManager", "MemoryUsage"]

STILL = VideoShape(1, 256, 256)  # stands for the video while text is encoded, which is the same for every video
NETWORK_OF = {
    "encode_text": "step_llm",
    "clip": "clip",
    "encode_image": "vae",
    "denoise": "transformer",
    "decode": "vae",
}
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryUsage:
    """Bytes. vram and ram are the whole process, now and at most since reset_peaks; the others this room's buffers."""

    vram_bytes: int
    ram_bytes: int
    vram_peak_bytes: int
    ram_peak_bytes: int
    resident_bytes: int
    slot_bytes: int
    scratch_bytes: int
    arena_bytes: int
    staging_bytes: int


class MemoryManager:
    """One per process and device. Not for concurrent use; `usage` alone may be asked from another thread."""

    def __init__(self, parts: Mapping[str, Path], config: RuntimeConfig, *, machine: Machine | None = None) -> None:
        """parts: component -> checkpoint folder, that of the int8 files for transformer and Step-LLM where
        config.weights asks for int8. Nothing is read before it is needed.
        """
        device = config.device
        self._parts, self._device, self._dtype = parts, device, config.dtype
        self._plans = PlanCache(parts, config)
        self._int8_compute = {"transformer"} if config.weights is WeightMode.INT8_COMPUTE else set()
        self._account = Account(machine or Machine(device))
        self._backend = backend_for(device)
        self._streamed: dict[str, StreamedNetwork] = {}
        self._whole: dict[str, WholeNetwork] = {}
        # Told when a plan was stepped down: a code of studio.errors and its values.
        self.notify: Callable[..., None] = lambda code, **values: None
        usage.cap_vram(device, config.budgets.vram_bytes)
        usage.keep_heap_tight()

    @property
    def speeds(self) -> Speeds:
        """What plans are timed with; corrected by every job that ran."""
        return self._plans.speeds

    def plan(self, video: VideoShape) -> Plan:
        """How this video would be made, stepped down already where memory once ran out for it; see `fits`."""
        return self._plans.plan(video)

    def require(self, video: VideoShape) -> None:
        """Raise DoesNotFit, with what would fit, where no plan keeps the budgets."""
        self._plans.fitting_plan(video)

    def set_plan(self, plan: Plan) -> None:
        """Make the plan's video this way, whatever the planner would choose; until `release`."""
        self._plans.set_plan(plan)

    def step_llm(self, texts: Sequence[Tensor], *, cancelled: Callable[[], bool] = lambda: False) -> list[Tensor]:
        """Token ids (1, l) each, valid ones alone -> (1, l, d) each, on the CPU. One load of a layer serves all texts.

        The language model is gone afterwards. Raises Cancelled between layers.
        """

        def encode(plan: Plan) -> list[Tensor]:
            network = self._network("step_llm")
            network.use(plan.step_llm)
            states = [network.body.embed(ids.to(self._device)) for ids in texts]
            for _, layer in network.blocks(last=True):
                if cancelled():
                    raise Cancelled
                states = [layer(state) for state in states]
            return [state.cpu() for state in states]

        with self._turn("encode_text", STILL), torch.no_grad():
            try:
                return self._resilient("encode_text", STILL, encode)
            finally:
                self._discard("step_llm")

    def clip(self, texts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """(input_ids (1, 77), attention_mask (1, 77)) each -> (1, 77, d) float32 each, on the CPU. Gone afterwards."""

        def encode(_: Plan) -> list[Tensor]:
            clip = self._bring_on("clip", torch.float32)
            return [clip(ids.to(self._device), mask.to(self._device)).cpu() for ids, mask in texts]

        with self._turn("clip", STILL), torch.no_grad():
            try:
                return self._resilient("clip", STILL, encode)
            finally:
                self._discard("clip")

    @contextmanager
    def transformer(self, video: VideoShape) -> Iterator[TransformerSession]:
        """The video transformer for one video. Raises DoesNotFit where no plan keeps the budgets."""
        self._plans.fitting_plan(video)
        with self._turn("denoise", video):
            session = TransformerSession(
                self._network("transformer"), self._device, partial(self._resilient, "denoise", video)
            )
            yield session
            if seconds := session.step_seconds:
                self._plans.calibrate(video, session.conditions, seconds)

    @contextmanager
    def vae(self, video: VideoShape) -> Iterator[VAESession]:
        """The VAE for one video; gone afterwards."""
        with self._turn("decode", video):
            try:
                yield VAESession(
                    partial(self._bring_on, "vae", self._dtype),
                    self._device,
                    self._dtype,
                    partial(self._resilient, "decode", video),
                )
            finally:
                self._discard("vae")

    def usage(self) -> MemoryUsage:
        """What is in use now."""
        held = self._account.held
        return MemoryUsage(
            vram_bytes=usage.process_vram(self._device),
            ram_bytes=usage.process_ram(),
            vram_peak_bytes=usage.peak_vram(self._device),
            ram_peak_bytes=usage.peak_ram(),
            resident_bytes=held(Kind.RESIDENT),
            slot_bytes=held(Kind.SLOTS),
            scratch_bytes=held(Kind.SCRATCH),
            arena_bytes=held(Kind.ARENAS),
            staging_bytes=held(Kind.STAGING),
        )

    def reset_peaks(self) -> None:
        """Begin to measure peaks anew."""
        usage.reset_peaks(self._device)

    def check_integrity(self) -> None:
        """Raise IntegrityError where structures, counts and what is alive disagree on a single byte."""
        self._account.check()
        parts = [network.held() for network in self._streamed.values()]
        parts += [{Kind.RESIDENT: network.nbytes} for network in self._whole.values()]
        for kind in Kind:
            structured, counted = sum(part.get(kind, 0) for part in parts), self._account.held(kind)
            if structured != counted:
                raise IntegrityError(f"{kind}: networks hold {structured:,} bytes, {counted:,} are counted")

    def release(self) -> None:
        """Give everything back, files and plans included; the manager may be used again."""
        for name in (*self._whole, *self._streamed):
            self._discard(name)
        self._plans.clear()
        usage.return_memory(self._device)
        self.check_integrity()

    def _network(self, name: str) -> StreamedNetwork:
        if name not in self._streamed:
            module, files = build(self._parts[name], name)
            self._streamed[name] = StreamedNetwork(
                module, files, self._dtype, self._account, self._backend, int8_compute=name in self._int8_compute
            )
        return self._streamed[name]

    def _bring_on(self, name: str, dtype: torch.dtype) -> nn.Module:
        if name not in self._whole:
            module, files = build(self._parts[name], name)
            self._whole[name] = WholeNetwork(module.to(dtype), files, self._account)
        return self._whole[name].module

    def _discard(self, name: str) -> None:
        for networks in (self._whole, self._streamed):
            if name in networks:
                networks.pop(name).close()

    @contextmanager
    def _turn(self, phase: str, video: VideoShape) -> Iterator[None]:
        """One network's turn: the others make room, after a failure it is gone, the books are checked at the end."""
        name = NETWORK_OF[phase]
        if name in self._streamed and not self._streamed[name].is_current():
            self._discard(name)  # the model's files were replaced since its last turn
        own = self._streamed[name].held() if name in self._streamed else {}
        others = sum(self._account.held(kind) - own.get(kind, 0) for kind in ON_DEVICE)
        if others and others + self._plans.phase_bytes(video, phase) > self._plans.device_limit:
            self._dismiss_others(name)
        try:
            yield
        except BaseException as error:
            forget_frames(error)
            if not isinstance(error, Cancelled):
                self._discard(name)
            raise
        finally:
            if name in self._streamed:
                self._streamed[name].settle()  # nothing is fetched for a step that may never come
            self.check_integrity()

    def _dismiss_others(self, name: str) -> bool:
        """Take off the device what other networks have there; whether there was anything."""
        before = self._account.held(*ON_DEVICE)
        for other, network in self._streamed.items():
            if other != name:
                network.let_go()
        return self._account.held(*ON_DEVICE) < before

    def _resilient(self, phase: str, video: VideoShape, work: Callable[[Plan], Result]) -> Result:
        tried_again = False

        def step_down(said: str) -> None:
            nonlocal tried_again
            dismissed = self._dismiss_others(NETWORK_OF[phase])
            usage.return_memory(self._device)
            if dismissed:
                return
            if (smaller := self._plans.step_down(video, phase)) is not None:
                self.notify("plan_smaller", **_sizes(smaller))
            elif tried_again:
                raise DoesNotFit("out_of_memory", said=said.partition("\n")[0] or "out of memory")
            else:
                tried_again = True
                self.notify("memory_again")

        return run_resiliently(lambda: work(self._plans.fitting_plan(video)), step_down)


def _sizes(plan: Plan) -> dict[str, int]:
    """What of a plan becomes smaller when memory runs out."""
    return {
        "resident": len(plan.transformer.resident),
        "slots": plan.transformer.slots,
        "llm_slots": plan.step_llm.slots,
        "slice_frames": plan.vae_slice_frames,
    }
