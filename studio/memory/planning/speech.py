"""Where the networks of Step-Audio-TTS lie while texts are spoken: sizes and budgets -> a SpeechPlan. A pure function.

Every id that is drawn reads all layers, so the language model is resident where it fits. Where it does not, layers are
streamed, and several texts share each pass over them: the plan reads the fewest bytes for the texts that are asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from models.flow import HOP, SAMPLE_RATE, Flow, FlowParams
from models.hift import HiFT, HiFTParams
from models.step_audio_llm import QUERY_CHUNK, SpeechLayer, StepAudioLLM, StepAudioLLMParams
from studio.memory.plan import Budgets, ComponentPlan, WeightMode
from studio.memory.planning.explain import Remedy, Shortage, explain
from studio.memory.planning.footprint import NetworkSizes, layout_bytes, network_sizes
from studio.memory.planning.peaks import (
    ALLOCATOR_SLACK,
    HOST_BASE_BYTES,
    SLOTS,
    WORKSPACE_BYTES,
    device_bytes,
    needed_vram,
    staging_bytes,
    whole_pages,
)
from studio.memory.planning.planner import evenly
from studio.memory.streaming.reader import BOUNCE_BYTES
from studio.memory.usage import CUDA_CONTEXT_BYTES

MOST_TAKES = 8  # texts that share a pass; more would hold more caches than layers at the public sizes
# Float32 numbers per mel frame and per code that exist at once at the public sizes, counted without
# what attention kernels use inside themselves.
FLOW_NUMBERS_PER_FRAME, ENCODER_NUMBERS_PER_CODE, WAVE_NUMBERS_PER_FRAME = 12_000, 27_000, 90_000


@dataclass(frozen=True)
class SpeechSizes:
    """Bytes of the three networks. Flow and vocoder compute in float32, the language model in `dtype`."""

    params: StepAudioLLMParams
    dtype: torch.dtype
    weights: WeightMode
    llm: NetworkSizes
    flow_bytes: int
    wave_bytes: int

    @classmethod
    def of(
        cls,
        llm: StepAudioLLMParams,
        flow: FlowParams,
        hift: HiFTParams,
        dtype: torch.dtype,
        weights: WeightMode = WeightMode.NONE,
    ) -> "SpeechSizes":
        """From the architectures alone; the networks are built on the meta device."""
        with torch.device("meta"):
            layer, around = SpeechLayer(llm), StepAudioLLM(replace(llm, layers=0))
            flow_bytes, wave_bytes = (layout_bytes(net, torch.float32) for net in (Flow(flow), HiFT(hift)))
        sizes = network_sizes(llm.layers, layer, around, dtype, weights.of_step_llm)
        return cls(llm, dtype, weights, sizes, flow_bytes, wave_bytes)

    def take_bytes(self, positions: int) -> int:
        """Keys, values and attention bias of one text."""
        return self.params.cache_bytes(positions, self.dtype) + 4 * self.params.heads * (positions + QUERY_CHUNK)

    def prompt_bytes(self, prompt: int) -> int:
        """Activations of one layer over a prompt of so many ids, and the logits behind the last one."""
        params, size = self.params, self.dtype.itemsize
        tokens = prompt * (size * (3 * params.ffn_width + 6 * params.width) + 8 * params.width)
        bias = 4 * 4 * params.heads * min(QUERY_CHUNK, prompt) * prompt
        return tokens + bias + params.vocabulary * (size + 24)


@dataclass(frozen=True)
class SpeechRequest:
    """What a plan depends on. texts: how many are spoken. prompt, positions: ids of the longest prompt, and of the
    longest text with its speech. int8_sizes: to tell whether they would fit; None: in use, or not possible.
    """

    sizes: SpeechSizes
    budgets: Budgets
    texts: int
    prompt: int
    positions: int
    device: str = "cuda"
    offload: str = "auto"
    int8_sizes: SpeechSizes | None = None

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @cached_property
    def other_phases(self) -> tuple[int, int]:
        """Bytes on the device while the flow and while the vocoder works."""
        frames, new = (
            codes * 3 * SAMPLE_RATE // (125 * HOP) for codes in (self.positions, self.positions - self.prompt)
        )
        flow = 4 * (FLOW_NUMBERS_PER_FRAME * frames + ENCODER_NUMBERS_PER_CODE * self.positions)
        wave = 4 * WAVE_NUMBERS_PER_FRAME * new
        return self.sizes.flow_bytes + self._working(flow), self.sizes.wave_bytes + self._working(wave)

    def speaking_bytes(self, llm: ComponentPlan, takes: int) -> int:
        """Bytes on the device while the language model draws codes for so many texts at once."""
        prompts = takes * self.prompt * self.sizes.params.width * self.sizes.dtype.itemsize
        activations = takes * self.sizes.take_bytes(self.positions) + self.sizes.prompt_bytes(self.prompt) + prompts
        return device_bytes(llm) + self._working(activations)

    def _working(self, activations: int) -> int:
        return int(activations * (1 + ALLOCATOR_SLACK[self.device])) + WORKSPACE_BYTES[self.device]


@dataclass(frozen=True)
class SpeechPlan:
    """llm: where the layers are. takes: texts that share each pass over the layers. fits, reason: as of Plan."""

    llm: ComponentPlan
    takes: int
    vram_peak_bytes: int
    ram_peak_bytes: int
    fits: bool
    reason: Mapping[str, str]


def plan_speech(request: SpeechRequest) -> SpeechPlan:
    """The plan that reads the fewest layers for all texts; of equal ones the one that takes the least memory.

    Where none fits: the smallest, with `fits` false and a `reason`.
    """
    fitting = [plan for plan in _plans(request) if plan.fits]
    if not fitting:
        smallest = _smallest(request)
        return replace(smallest, reason=_what_would_fit(request, smallest))
    return min(fitting, key=lambda plan: (_layers_read(request, plan), plan.vram_peak_bytes, plan.ram_peak_bytes))


def smaller_speech(request: SpeechRequest, plan: SpeechPlan) -> SpeechPlan | None:
    """The next smaller plan after memory ran out: a quarter fewer resident layers, then fewer texts at once, then one
    slot. None where there is none. Results are bit-identical."""
    resident, units = len(plan.llm.resident), plan.llm.units
    while resident:
        resident -= max(resident // 4, 1)
        slots = min(SLOTS, units - resident)
        if resident + slots < len(plan.llm.resident) + plan.llm.slots:
            return _compose(request, resident, slots, plan.takes)
    if plan.takes > 1:
        return _compose(request, 0, plan.llm.slots, plan.takes // 2)
    return None if (len(plan.llm.resident), plan.llm.slots) == (0, 1) else _compose(request, 0, 1, 1)


def _plans(request: SpeechRequest) -> Iterator[SpeechPlan]:
    units = request.sizes.llm.units
    if request.offload in ("auto", "none"):
        yield _compose(request, units, 0, 1)
    if request.offload == "none":
        return
    most = min(MOST_TAKES, request.texts)
    for resident in range(max(units - SLOTS, 0) if request.offload == "auto" else 0, -1, -1):
        yield from (_compose(request, resident, min(SLOTS, units), takes) for takes in range(1, most + 1))
    yield _smallest(request)


def _smallest(request: SpeechRequest) -> SpeechPlan:
    alone = request.offload == "none"
    return _compose(request, request.sizes.llm.units if alone else 0, 0 if alone else 1, 1)


def _layers_read(request: SpeechRequest, plan: SpeechPlan) -> tuple[int, int]:
    """Layers read per id over all texts: from disk, which is far slower, then from anywhere."""
    passes = -(-request.texts // plan.takes)
    return passes * (len(plan.llm.streamed) - plan.llm.source.count("pinned")), passes * len(plan.llm.streamed)


def _compose(request: SpeechRequest, resident: int, slots: int, takes: int) -> SpeechPlan:
    network, budgets = request.sizes.llm, request.budgets
    staying = set(evenly(resident, network.units)) if resident else set()
    disk = "direct" if request.offload == "disk" else "cached"  # read again for every id: the page cache may help
    source = ["resident" if unit in staying else disk for unit in range(network.units)]
    sizes = (network.unit_bytes, network.rest_bytes, network.scratch_bytes)
    llm = ComponentPlan(tuple(sorted(staying)), slots, tuple(source), *sizes)
    if request.offload != "disk" and not request.on_cpu:
        room = budgets.ram_bytes - HOST_BASE_BYTES[request.device] - BOUNCE_BYTES
        streamed = llm.streamed
        if network.unit_bytes * len(streamed) > room:  # where not all are pinned, the others need staging
            streamed = streamed[: max(room - staging_bytes(llm), 0) // network.unit_bytes]
        llm = replace(llm, source=tuple("pinned" if unit in streamed else was for unit, was in enumerate(source)))
    worst = whole_pages(max(request.speaking_bytes(llm, takes), *request.other_phases))
    host = HOST_BASE_BYTES[request.device] + BOUNCE_BYTES
    if request.on_cpu:
        vram, ram = 0, host + worst
    else:
        pinned = llm.source.count("pinned") * network.unit_bytes
        vram, ram = CUDA_CONTEXT_BYTES + worst, host + pinned + (staging_bytes(llm) if llm.streamed else 0)
    fits = needed_vram(vram) <= budgets.vram_bytes and ram <= budgets.ram_bytes
    return SpeechPlan(llm, takes, vram, ram, fits, {})


def _what_would_fit(request: SpeechRequest, smallest: SpeechPlan) -> dict[str, str]:
    vram = Shortage("VRAM", needed_vram(smallest.vram_peak_bytes), request.budgets.vram_bytes)
    ram = Shortage("RAM", smallest.ram_peak_bytes, request.budgets.ram_bytes)
    remedies = []
    if request.offload == "none" and _smallest(replace(request, offload="auto")).fits:
        remedies.append(Remedy("offload"))
    if request.int8_sizes is not None and _smallest(replace(request, sizes=request.int8_sizes)).fits:
        remedies.append(Remedy("int8"))
    return explain((lack for lack in (vram, ram) if lack.need_bytes > lack.have_bytes), remedies)
