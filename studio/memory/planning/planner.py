"""Sizes, video, budgets and speeds -> a Plan. A pure function: nothing is measured or loaded here.

The phases of a generation (text, first image, denoising, decoding) use the device one after the other; each has to keep
the budgets. As many transformer blocks are resident as fit, evenly spaced among the streamed ones, so that copies are
spread over the step. Streamed blocks are pinned in RAM as far as the budget goes; the others are read from disk.

Keys and values of the texts are kept, and the layers that compute them read once per new text, where that lets a step
be faster or more blocks be resident; not where everything fits as it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from models.geometry import CHUNK_FRAMES, PIXELS_PER_LATENT, VideoShape
from studio.memory.plan import OFFLOADS, ComponentPlan, Plan, TextPlan, WeightMode
from studio.memory.planning import timing
from studio.memory.planning.explain import Remedy, Shortage, explain
from studio.memory.planning.footprint import ModelSizes, NetworkSizes
from studio.memory.planning.peaks import (
    HOST_BASE_BYTES,
    SLOTS,
    PlanRequest,
    most_pinned,
    needed_vram,
    peaks,
    phases,
    pinned_bytes,
)
from studio.memory.planning.speeds import Speeds
from studio.memory.usage import CAP_SLACK_BYTES, CUDA_CONTEXT_BYTES
from studio.units import GB

TIE = 1e-9
CORRECTED = ", corrected by a run"
LAUNCHED_SECONDS = 0.1  # a step of nano takes 0.015 s on an H200, one of 17 frames at full size 0.8 s


@dataclass(frozen=True)
class _Choice:
    """The decisions of a plan: resident blocks, slots, whether the texts' keys and values are kept, slots of Step-LLM
    (0: resident), whether decoding shares windows."""

    resident: int
    slots: int
    keeps_texts: bool
    llm_slots: int = SLOTS
    compact_decode: bool = True


def plan_run(request: PlanRequest) -> Plan:
    """The fastest plan within the budgets. Where there is none: the smallest plan, with `fits` false and a `reason`."""
    if request.offload not in OFFLOADS:
        raise ValueError(f"offload is {request.offload!r}, not one of {OFFLOADS}")
    smallest = _compose(request, _smallest_choice(request))
    if not smallest.fits:
        return _timed(request, replace(smallest, reason=_what_would_fit(request, smallest)))
    fitting = [plan for choice in _choices(request) if (plan := _compose(request, choice)).fits]
    if fitting[0].transformer.streamed:
        return _own_windows(request, _fastest(request, fitting))
    return _own_windows(request, _timed(request, fitting[0]))


def _fastest(request: PlanRequest, plans: Iterable[Plan]) -> Plan:
    """The fastest plan; of equally fast ones the one with most resident blocks, then with the lowest peak of VRAM."""

    def place(plan: Plan) -> tuple[float, int, int]:
        return plan.seconds_per_step, -len(plan.transformer.resident), plan.vram_peak_bytes

    found: list[Plan] = []
    compute = _block_seconds(request)
    plans = [replace(plan, seconds_per_step=_least_seconds(request, plan, compute)) for plan in plans]
    for plan in sorted(plans, key=place):  # the first that takes no more than its longest queue is the best
        if found and plan.seconds_per_step > min(each.seconds_per_step for each in found):
            break
        found.append(_timed(request, plan))
        if found[-1].seconds_per_step <= plan.seconds_per_step * (1 + TIE):
            break
    best = min(plan.seconds_per_step for plan in found) * (1 + TIE)
    return min((plan for plan in found if plan.seconds_per_step <= best), key=lambda plan: place(plan)[1:])


def _least_seconds(request: PlanRequest, plan: Plan, compute: float) -> float:
    """No step of a plan takes less than its longest queue."""
    queues = timing.queue_seconds(plan.transformer, compute, request.speeds, on_cpu=request.on_cpu)
    return max(queues.values())


def step_down(request: PlanRequest, plan: Plan, phase: str = "denoise") -> Plan | None:
    """The next smaller plan after memory ran out in a phase ("encode_text", "denoise", "decode"), or None.

    denoise: fewer resident blocks, then fewer slots. decode: shared windows. encode_text: fewer slots of
    Step-LLM. Results are bit-identical.
    """
    choice, before = _choice_of(plan), phase_bytes(request, plan)[phase]
    if phase == "decode":
        smaller = [] if choice.compact_decode or request.on_cpu else [replace(choice, compact_decode=True)]
    elif phase == "encode_text":
        smaller = [replace(choice, llm_slots=choice.llm_slots - 1)] if choice.llm_slots > 1 else []
    else:
        smaller = list(_fewer_blocks(request.sizes, choice))
    plans = (_compose(request, each) for each in smaller)
    found = next((plan for plan in plans if phase_bytes(request, plan)[phase] < before), None)
    return None if found is None else _timed(request, found)


def calibrate(request: PlanRequest, plan: Plan, measured_seconds: float) -> Speeds:
    """The request's speeds, corrected so that the plan predicts the measured seconds per step.

    The queue that takes longest is corrected: computation, link or disk. Where the measurement is below what the other
    queues take, the correction goes as far as it changes the prediction. A step on a GPU that is shorter than
    LAUNCHED_SECONDS tells of kernel launches, not of computation, and corrects nothing: after a video of nano on an
    H200 a step of the 30B model was predicted to take 53 s instead of 11.
    """
    if not request.on_cpu and measured_seconds < LAUNCHED_SECONDS:
        return request.speeds
    compute = _block_seconds(request)
    queue = timing.longest_queue(plan.transformer, compute, request.speeds, on_cpu=request.on_cpu)
    low, high = 1e-3, 1e3
    for _ in range(40):
        middle = (low * high) ** 0.5
        speeds = timing.slower(request.speeds, queue, middle)
        if step_seconds(replace(request, speeds=speeds), plan) < measured_seconds:
            low = middle
        else:
            high = middle
    origin = f"{request.speeds.origin.removesuffix(CORRECTED)}{CORRECTED}"
    return replace(timing.slower(request.speeds, queue, high), origin=origin)


def step_seconds(request: PlanRequest, plan: Plan, *, cold: bool = False) -> float:
    """Seconds of a denoising step in steady state; cold: of the first step, which reads every block from disk."""
    compute = _block_seconds(request)
    in_blocks = timing.pass_seconds(plan.transformer, compute, request.speeds, on_cpu=request.on_cpu, cold=cold)
    return in_blocks + timing.STEP_SECONDS * request.speeds.correction


def gathered_step_seconds(request: PlanRequest, plan: Plan) -> float | None:
    """As `step_seconds`, were each block loaded in parts, one by each device, and gathered; None for one device."""
    if (sharing := request.sharing) is None:
        return None
    return step_seconds(replace(request, speeds=timing.gathering(request.speeds, sharing)), plan)


def _block_seconds(request: PlanRequest) -> float:
    """Computation of one block on each device."""
    sharing = {} if request.sharing is None else {"peer_gbps": request.sharing.peer_gbps}
    sizes, video = request.sizes, request.video
    kernels, split = request.kernels, request.split
    return timing.block_seconds(
        sizes, video, request.conditions, request.speeds, kernels=kernels, split=split, **sharing
    )


def phase_bytes(request: PlanRequest, plan: Plan) -> dict[str, int]:
    """Phase -> bytes of its network and activations on the device, without the CUDA context."""
    return phases(request, plan.transformer, plan.step_llm, plan.compact_decode)


def phase_seconds(request: PlanRequest, plan: Plan) -> dict[str, float]:
    """About how many seconds the parts of a job take, reading of weights included: encode_text, encode_image,
    first_step, step, decode."""
    sizes, speeds = request.sizes, request.speeds
    layer = timing.layer_seconds(sizes, speeds)
    vae = sizes.vae_bytes / speeds.disk_gbps / 1e9
    read = sizes.clip_bytes + (sizes.text_layers.units * sizes.text_layers.unit_bytes if plan.transformer.texts else 0)
    return {
        "encode_text": timing.pass_seconds(plan.step_llm, layer, speeds, on_cpu=request.on_cpu, cold=True)
        + read / speeds.disk_gbps / 1e9,
        "encode_image": vae + timing.encode_seconds(sizes, request.video, speeds),
        "first_step": step_seconds(request, plan, cold=True),
        "step": plan.seconds_per_step,
        "decode": vae + timing.decode_seconds(sizes, request.video, speeds),
    }


def evenly(count: int, total: int) -> tuple[int, ...]:
    """`count` of the numbers 0..total-1, evenly spaced, 0 among them."""
    return tuple(i * total // count for i in range(count))


def _own_windows(request: PlanRequest, plan: Plan) -> Plan:
    """The plan that decodes with a window per convolution, where it keeps the budgets."""
    wider = _compose(request, replace(_choice_of(plan), compact_decode=False))
    return _timed(request, wider) if wider.fits else plan


def _choices(request: PlanRequest) -> Iterator[_Choice]:
    """The choices to compare; the last one needs the least memory."""
    units, llm_slots = request.sizes.transformer.units, _llm_slots(request)
    keeps = sorted({False, request.sizes.keeping_texts_saves})
    if request.offload in ("auto", "none"):
        yield from (_Choice(units, 0, keep, llm_slots) for keep in keeps)
    if request.offload == "auto":
        for resident in range(units - SLOTS - 1, 0, -1):
            yield from (_Choice(resident, SLOTS, keep, llm_slots) for keep in keeps)
    if request.offload != "none":
        yield from (_Choice(0, min(SLOTS, units), keep, llm_slots) for keep in keeps)
        yield _smallest_choice(request)


def _smallest_choice(request: PlanRequest) -> _Choice:
    sizes = request.sizes
    if request.offload == "none":
        return _Choice(sizes.transformer.units, 0, sizes.keeping_texts_saves, llm_slots=0)
    return _Choice(0, 1, sizes.kept_text_bytes(request.conditions) < sizes.text_layers.unit_bytes, llm_slots=1)


def _llm_slots(request: PlanRequest) -> int:
    """0 where nothing may be streamed, 1 where two do not fit."""
    if request.offload == "none":
        return 0
    two = _compose(request, replace(_smallest_choice(request), llm_slots=SLOTS))
    return SLOTS if two.fits else 1


def _choice_of(plan: Plan) -> _Choice:
    blocks = plan.transformer
    return _Choice(
        len(blocks.resident), blocks.slots, blocks.texts is not None, plan.step_llm.slots, plan.compact_decode
    )


def _fewer_blocks(sizes: ModelSizes, choice: _Choice) -> Iterator[_Choice]:
    """Choices with smaller blocks, then with fewer on the device: a quarter of the residents at a time, then one slot
    alone, then without the keys and values of texts."""
    units, held = sizes.transformer.units, choice.resident + choice.slots
    if sizes.keeping_texts_saves and not choice.keeps_texts and choice.resident:
        choice = replace(choice, keeps_texts=True)
        yield choice
    resident = choice.resident
    while resident:
        resident -= max(resident // 4, 1)
        slots = min(SLOTS, units - resident)
        if resident + slots < held:
            yield replace(choice, resident=resident, slots=slots)
    if held > 1:
        yield replace(choice, resident=0, slots=1)
    if choice.keeps_texts:
        yield replace(choice, resident=0, slots=1, keeps_texts=False)


def _compose(request: PlanRequest, choice: _Choice) -> Plan:
    """The plan of a choice with its peaks, not timed yet."""
    compact = choice.compact_decode and not request.on_cpu
    network = request.sizes.step_llm
    llm = _component(network, 0 if choice.llm_slots else network.units, choice.llm_slots, _llm_source(request))
    transformer = _transformer(request, choice, llm)
    vram, ram = peaks(request, transformer, llm, compact)
    return Plan(
        video=request.video,
        transformer=transformer,
        step_llm=llm,
        compact_decode=compact,
        vram_peak_bytes=vram,
        ram_peak_bytes=ram,
        seconds_per_step=0.0,
        fits=needed_vram(vram) <= request.budgets.vram_bytes and ram <= request.budgets.ram_bytes,
        reason={},
        assumptions=_assumptions(request),
    )


def _timed(request: PlanRequest, plan: Plan) -> Plan:
    return replace(plan, seconds_per_step=step_seconds(request, plan))


def _llm_source(request: PlanRequest) -> str:
    """Of Step-LLM and of the layers that project texts. They run once per new prompt: not worth pinned RAM."""
    return "direct" if request.offload == "disk" else "cached"


def _transformer(request: PlanRequest, choice: _Choice, llm: ComponentPlan) -> ComponentPlan:
    """Streamed blocks are pinned in RAM as far as the budget goes; those from disk are evenly spaced among them."""
    sizes = request.sizes
    network = sizes.transformer_without_text if choice.keeps_texts else sizes.transformer
    disk = "cached" if request.offload == "blocks" else "direct"
    plan = _component(network, choice.resident, choice.slots, disk)
    if choice.keeps_texts:
        plan = replace(plan, texts=TextPlan(sizes.kept_text_bytes(request.conditions), _llm_source(request)))
    if request.offload == "disk" or (request.on_cpu and request.offload == "auto"):
        return plan  # on a CPU a pinned copy would only be copied within RAM
    streamed = plan.streamed
    # Where all are pinned, no staging is needed.
    if pinned_bytes(request, len(streamed), network.unit_bytes) <= request.budgets.ram_bytes:
        pinned = _with_source(plan, streamed, "pinned")
        if peaks(request, pinned, llm, choice.compact_decode)[1] <= request.budgets.ram_bytes:
            return pinned
    room = request.budgets.ram_bytes - peaks(request, plan, llm, choice.compact_decode)[1]
    count = min(most_pinned(request, room, network.unit_bytes), max(len(streamed) - 1, 0))
    from_disk = set(evenly(len(streamed) - count, len(streamed)))
    return _with_source(plan, (unit for turn, unit in enumerate(streamed) if turn not in from_disk), "pinned")


@lru_cache
def _component(network: NetworkSizes, resident: int, slots: int, source: str) -> ComponentPlan:
    staying = evenly(resident, network.units) if resident else ()
    stays = set(staying)
    return ComponentPlan(
        resident=staying,
        slots=slots,
        source=tuple("resident" if unit in stays else source for unit in range(network.units)),
        unit_bytes=network.unit_bytes,
        rest_bytes=network.rest_bytes,
        scratch_bytes=network.scratch_bytes,
    )


def _with_source(plan: ComponentPlan, units: Iterable[int], source: str) -> ComponentPlan:
    changed = set(units)
    return replace(plan, source=tuple(source if unit in changed else was for unit, was in enumerate(plan.source)))


def _assumptions(request: PlanRequest) -> dict[str, Any]:
    speeds = request.speeds
    stated: dict[str, Any] = {
        "speeds": speeds.origin,
        "tflops": speeds.tflops,
        "attention_tflops": speeds.attention_tflops,
        "memory_gbps": speeds.memory_gbps,
        "disk_gbps": speeds.disk_gbps,
        "correction": speeds.correction,
        "process_ram_gb": HOST_BASE_BYTES[request.device] / GB,
    }
    if request.sharing is not None:
        stated["peer_gbps"] = request.sharing.peer_gbps
    if request.sizes.weights is WeightMode.INT8_COMPUTE:
        stated["int8_tflops"] = speeds.int8_tflops
    if not request.on_cpu:
        stated |= {
            "link_gbps": speeds.link_gbps,
            "register_gbps": speeds.register_gbps,
            "cuda_context_gb": CUDA_CONTEXT_BYTES / GB,
            "vram_slack_gb": CAP_SLACK_BYTES / GB,
        }
    return stated


def _what_would_fit(request: PlanRequest, smallest: Plan) -> dict[str, str]:
    """The reason of a plan that does not fit; every change that it names was tried alone and fits."""
    vram = Shortage("VRAM", needed_vram(smallest.vram_peak_bytes), request.budgets.vram_bytes)
    ram = Shortage("RAM", smallest.ram_peak_bytes, request.budgets.ram_bytes)
    return explain((lack for lack in (vram, ram) if lack.need_bytes > lack.have_bytes), _remedies(request))


def _remedies(request: PlanRequest) -> Iterator[Remedy]:
    if request.offload != "auto" and _can_fit(replace(request, offload="auto")):
        yield Remedy("offload")
    if request.int8_sizes is not None and _can_fit(replace(request, sizes=request.int8_sizes)):
        yield Remedy("int8")
    video = request.video
    chunks = range(video.chunks - 1, 0, -1)
    shorter = (replace(video, frames=CHUNK_FRAMES * count) for count in chunks)
    if found := _first_fitting(request, shorter):
        yield Remedy("frames", {"frames": found.frames})
    if found := _first_fitting(request, _smaller(video)):
        yield Remedy("size", {"height": found.height, "width": found.width})


def _smaller(video: VideoShape) -> Iterator[VideoShape]:
    """Smaller sizes of about the same aspect ratio, one latent position less on the shorter side each."""
    short = min(video.height, video.width) // PIXELS_PER_LATENT
    for cells in range(short - 1, 3, -1):
        scale = cells / short / PIXELS_PER_LATENT
        height, width = (round(side * scale) * PIXELS_PER_LATENT for side in (video.height, video.width))
        yield replace(video, height=height, width=width)


def _first_fitting(request: PlanRequest, videos: Iterable[VideoShape]) -> VideoShape | None:
    return next((video for video in videos if _can_fit(replace(request, video=video))), None)


def _can_fit(request: PlanRequest) -> bool:
    return _compose(request, _smallest_choice(request)).fits
