"""The one who owns this machine's memory: brings networks on when their turn comes, lets them go, keeps the budgets.

    memory = MemoryManager(folders, device=..., dtype=..., budgets=..., offload="auto", quantize="none")
    with memory.transformer(video) as transformer:
        velocities = transformer.velocities(latents, time, conditions)

A network stays where it is after its use, for the next job, until another one needs the room or `release` is called.
Out of memory is not the end: what ran is repeated with a smaller plan, with the same bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from models.checkpoint import build
from studio.errors import Cancelled, DoesNotFit
from studio.memory import budget
from studio.memory.account import Account, IntegrityError, Kind, Machine
from studio.memory.backends import backend_for
from studio.memory.ladder import forget_frames, run_resiliently
from studio.memory.networks import StreamedNetwork, WholeNetwork
from studio.memory.plan import GB, Budgets, Plan, VideoShape
from studio.memory.provisional import make_plan, step_down
from studio.memory.sessions import Condition, TransformerSession, VAESession

__all__ = ["Condition", "MemoryManager", "MemoryUsage", "VideoShape"]

STILL = VideoShape(1, 256, 256)  # stands for "no video yet" when text is encoded
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

    def __init__(
        self,
        parts: Mapping[str, Path],
        *,
        device: torch.device,
        dtype: torch.dtype,
        budgets: Budgets,
        offload: str = "auto",
        quantize: str | None = "none",
        speeds: object | None = None,
        machine: Machine | None = None,
    ) -> None:
        """parts: component -> checkpoint folder. dtype: of transformer, LLM and VAE; CLIP computes in float32.

        offload: auto | none (all resident) | blocks (RAM to device) | disk. Nothing is read before it is needed.
        """
        self._parts, self._device, self._dtype = parts, device, dtype
        self._budgets, self._offload, self._quantize, self._speeds = budgets, offload, quantize, speeds
        self._account = Account(machine or Machine(device))
        self._backend = backend_for(device)
        self._streamed: dict[str, StreamedNetwork] = {}
        self._whole: dict[str, WholeNetwork] = {}
        self._plans: dict[VideoShape, Plan] = {}
        self.notify: Callable[[str], None] = lambda text: None  # told when a plan was stepped down
        budget.cap_vram(device, budgets.vram_bytes)

    def plan(self, video: VideoShape) -> Plan:
        """How this video would be made, stepped down already where memory once ran out for it."""
        if video not in self._plans:
            transformer, step_llm = self._network("transformer"), self._network("step_llm")
            self._plans[video] = make_plan(transformer, step_llm, video, self._budgets, self._offload)
        return self._plans[video]

    def use_plan(self, plan: Plan) -> None:
        """Make the plan's video this way, whatever the planner would choose; until `release`."""
        self._plans[plan.video] = plan

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

        with self._turn("step_llm"), torch.no_grad():
            try:
                return self._resilient(STILL, encode)
            finally:
                self._discard("step_llm")

    def clip(self, texts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """(input_ids (1, 77), attention_mask (1, 77)) each -> (1, 77, d) float32 each, on the CPU. Gone afterwards."""

        def encode(_: Plan) -> list[Tensor]:
            clip = self._bring_on("clip", torch.float32)
            return [clip(ids.to(self._device), mask.to(self._device)).cpu() for ids, mask in texts]

        with self._turn("clip"), torch.no_grad():
            try:
                return self._resilient(STILL, encode)
            finally:
                self._dismiss("clip")

    @contextmanager
    def transformer(self, video: VideoShape) -> Iterator[TransformerSession]:
        """The video transformer for one video. Raises DoesNotFit where no plan keeps the budgets."""
        with self._turn("transformer"):
            yield TransformerSession(
                self._network("transformer"), self._device, lambda work: self._resilient(video, work)
            )

    @contextmanager
    def vae(self, video: VideoShape) -> Iterator[VAESession]:
        """The VAE for one video; gone afterwards."""
        with self._turn("vae"):
            try:
                yield VAESession(
                    lambda: self._bring_on("vae", self._dtype),
                    self._device,
                    self._dtype,
                    lambda work: self._resilient(video, work),
                )
            finally:
                self._dismiss("vae")

    def usage(self) -> MemoryUsage:
        """What is in use now."""
        held = self._account.held
        return MemoryUsage(
            vram_bytes=budget.process_vram(self._device),
            ram_bytes=budget.process_ram(),
            vram_peak_bytes=budget.peak_vram(self._device),
            ram_peak_bytes=budget.peak_ram(),
            resident_bytes=held(Kind.RESIDENT),
            slot_bytes=held(Kind.SLOTS),
            scratch_bytes=held(Kind.SCRATCH),
            arena_bytes=held(Kind.ARENAS),
            staging_bytes=held(Kind.STAGING),
        )

    def reset_peaks(self) -> None:
        """Begin to measure peaks anew."""
        budget.reset_peaks(self._device)

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
        for name in list(self._whole):
            self._dismiss(name)
        for name in list(self._streamed):
            self._discard(name)
        self._plans.clear()
        budget.return_memory(self._device)
        self.check_integrity()

    def _network(self, name: str) -> StreamedNetwork:
        if name not in self._streamed:
            module, files = build(self._parts[name], name)
            self._streamed[name] = StreamedNetwork(module, files, self._dtype, self._account, self._backend)
        return self._streamed[name]

    def _bring_on(self, name: str, dtype: torch.dtype) -> torch.nn.Module:
        if name not in self._whole:
            module, files = build(self._parts[name], name)
            self._whole[name] = WholeNetwork(module.to(dtype), files, self._account)
        return self._whole[name].module

    def _dismiss(self, name: str) -> None:
        if name in self._whole:
            self._whole.pop(name).close()

    def _discard(self, name: str) -> None:
        if name in self._streamed:
            self._streamed.pop(name).close()

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """One network's turn: the others make room; after a failure it is gone; the books are checked in any case."""
        if name in self._streamed and not self._streamed[name].is_current():
            self._discard(name)  # the model's files were replaced since its last turn
        self._make_room(name)
        try:
            yield
        except BaseException as error:
            forget_frames(error)
            if not isinstance(error, Cancelled):
                self._discard(name)
            raise
        finally:
            self.check_integrity()

    def _make_room(self, name: str) -> bool:
        """Take what other networks have on the device off it; whether there was anything."""
        before = self._account.held()
        for other, network in self._streamed.items():
            if other != name:
                network.let_go()
        for other in [other for other in self._whole if other != name]:
            self._dismiss(other)
        return self._account.held() < before

    def _resilient(self, video: VideoShape, work: Callable[[Plan], Result]) -> Result:
        def attempt() -> Result:
            plan = self.plan(video)
            if not plan.fits:
                raise DoesNotFit(
                    "does_not_fit",
                    what="VRAM" if self._device.type == "cuda" else "RAM",
                    need_gb=plan.vram_peak_bytes / GB,
                    have_gb=self._budgets.vram_bytes / GB,
                    remedy=plan.reason,
                )
            return work(plan)

        return run_resiliently(attempt, lambda said: self._step_down(video, said))

    def _step_down(self, video: VideoShape, said: str) -> None:
        budget.return_memory(self._device)
        plan = self.plan(video)
        smaller = step_down(plan)
        if smaller is None:
            raise DoesNotFit("out_of_memory", said=said.splitlines()[0])
        self._plans[video] = smaller
        self.notify(
            f"Memory ran out; going on with {len(smaller.transformer.resident)} blocks on the device "
            f"where {len(plan.transformer.resident)} were planned. The result is the same."
        )
