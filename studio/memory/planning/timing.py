"""Seconds of a pass and of the phases: the work in models/cost.py divided by a machine's speeds.

Computation, copies, reads and registrations are queues, simulated unit by unit as streaming/streamer.py runs them: a
computation waits for its unit, a copy for its slot, a read for a staging buffer or for its registered memory.
tests/memory/streaming/test_virtual_time.py compares them with the streamer itself.
"""

from dataclasses import replace

from models import cost
from models.geometry import CHUNK_LATENTS, VideoShape
from models.token_split import TokenSplit
from studio.memory.plan import PEER_GBPS, ComponentPlan, Sharing, WeightMode
from studio.memory.planning.footprint import ModelSizes
from studio.memory.planning.speeds import Speeds
from studio.memory.streaming.streamer import STAGING_BUFFERS

STEP_SECONDS = 0.005  # embedding, head, guidance and kernel launches of one step


def block_seconds(
    sizes: ModelSizes,
    video: VideoShape,
    conditions: int,
    speeds: Speeds,
    *,
    kernels: bool = False,
    split: TokenSplit | None = None,
    peer_gbps: float = PEER_GBPS,
) -> float:
    """Computation of one transformer block for all conditions, texts projected (under 1 % from 17 frames on).

    kernels: whether models/kernels compute it. split: of the device that has most of the tokens, what it sends to the
    others included; nothing is computed meanwhile.
    """
    params = sizes.architecture.transformer
    work = cost.block_work(params, video.tokens, sizes.dtype, split, kernels=kernels)
    sent = 0.0 if split is None else conditions * cost.exchanged_bytes(params, sizes.dtype, split) / peer_gbps / 1e9
    dequantised = 0
    if sizes.weights is WeightMode.INT8:  # once for all conditions
        dequantised = cost.dequantise_bytes(sizes.transformer.unit_parameters, sizes.dtype)
    tflops = (speeds.int8_tflops if sizes.weights is WeightMode.INT8_COMPUTE else None) or speeds.tflops
    linear, attention = work.linear_flop / tflops / 1e12, work.attention_flop / speeds.attention_tflops / 1e12
    moved = (conditions * work.moved_bytes + dequantised) / speeds.memory_gbps / 1e9
    return (conditions * (linear + attention) + moved) * speeds.correction + sent


def gathering(speeds: Speeds, sharing: Sharing) -> Speeds:
    """Speeds of a plan in which each device loads its part of a block and gathers the others' over the peers' way.

    From disk every byte is then read once for all devices, not once for each.
    """
    devices = sharing.devices
    link = 1 / (1 / (devices * speeds.link_gbps) + (devices - 1) / (devices * sharing.peer_gbps))
    return replace(speeds, link_gbps=link, disk_gbps=devices * speeds.disk_gbps)


def layer_seconds(sizes: ModelSizes, speeds: Speeds) -> float:
    """Computation of one Step-LLM layer over two prompts of the longest kind."""
    flop = cost.step_llm_layer_flop(sizes.step_llm.unit_parameters, 2 * cost.PROMPT_TOKENS)
    return flop / speeds.tflops / 1e12 * speeds.correction


def decode_seconds(sizes: ModelSizes, video: VideoShape, speeds: Speeds) -> float:
    """Decoding a video, as if all of it were matrix products at full speed."""
    latent_frames = min(video.latent_frames, CHUNK_LATENTS)
    flop = video.chunks * cost.decode_flop(sizes.architecture.vae, video.height, video.width, latent_frames)
    return flop / speeds.tflops / 1e12 * speeds.correction


def encode_seconds(sizes: ModelSizes, video: VideoShape, speeds: Speeds) -> float:
    """Encoding a first image; as decode_seconds."""
    flop = cost.encode_flop(sizes.architecture.vae, 1, video.height, video.width)
    return flop / speeds.tflops / 1e12 * speeds.correction


def pass_seconds(plan: ComponentPlan, compute: float, speeds: Speeds, *, on_cpu: bool, cold: bool = False) -> float:
    """One pass over all units in steady state, `compute` seconds each; cold: the first pass, which reads every unit."""
    queues = _Queues(plan, compute, speeds, on_cpu)
    if cold:
        return queues.run_pass(reads_all=True)
    queues.run_pass()
    before = queues.run_pass()
    return queues.run_pass() - before


def longest_queue(plan: ComponentPlan, compute: float, speeds: Speeds, *, on_cpu: bool) -> str:
    """The field of Speeds that a step takes longest with: "correction" (computation), "link_gbps" or "disk_gbps"."""
    seconds = queue_seconds(plan, compute, speeds, on_cpu=on_cpu)
    return max(seconds, key=lambda name: seconds[name])


def queue_seconds(plan: ComponentPlan, compute: float, speeds: Speeds, *, on_cpu: bool) -> dict[str, float]:
    """Seconds of each queue's work in a step, by the field of Speeds that it follows from."""
    streamed = len(plan.streamed)
    from_disk = streamed - plan.source.count("pinned")
    return {
        "correction": plan.units * compute + STEP_SECONDS * speeds.correction,
        "link_gbps": 0.0 if on_cpu else streamed * plan.unit_bytes / speeds.link_gbps / 1e9,
        "disk_gbps": from_disk * plan.unit_bytes / speeds.disk_gbps / 1e9,
    }


def slower(speeds: Speeds, queue: str, factor: float) -> Speeds:
    """Speeds with one queue's work taking `factor` times as long."""
    change = factor if queue == "correction" else 1 / factor
    return replace(speeds, **{queue: getattr(speeds, queue) * change})


class _Queues:
    """The times at which computation, copies and reads finish what they were given so far."""

    def __init__(self, plan: ComponentPlan, compute: float, speeds: Speeds, on_cpu: bool) -> None:
        self._plan, self._compute = plan, compute
        self._read = plan.unit_bytes / speeds.disk_gbps / 1e9
        self._copy = plan.unit_bytes / (speeds.memory_gbps if on_cpu else speeds.link_gbps) / 1e9
        self._register = 0.0 if on_cpu else plan.unit_bytes / speeds.register_gbps / 1e9
        self._computed = self._copied = self._fetched = self._registered = 0.0
        self._slots = [0.0] * plan.slots  # when each slot's last unit has been used
        self._staging: list[float] = []  # when each buffer's content has been copied
        self._pending = [0.0] * STAGING_BUFFERS  # when the last reads are done
        self._turn = 0
        self._on_cpu = on_cpu

    def run_pass(self, *, reads_all: bool = False) -> float:
        """Add one pass over all units; the time at which it is done."""
        for source in self._plan.source:
            ready = 0.0
            if source != "resident" or reads_all:
                ready = self._load(source, first=reads_all)
            self._computed = max(self._computed, ready) + self._compute
            if source != "resident":
                self._slots[self._turn % len(self._slots)] = self._computed
                self._turn += 1
        return self._computed

    def _load(self, source: str, *, first: bool) -> float:
        """Add one load; the time at which the unit is in its slot. A resident unit's own slot is always free."""
        free = 0.0 if source == "resident" else self._slots[self._turn % len(self._slots)]
        if source == "pinned" and not first:
            self._copied = max(self._copied, free) + self._copy
        elif self._on_cpu:  # read directly into its slot
            self._copied = self._fetched = max(self._fetched, free) + self._read
        else:
            self._copied = max(self._copied, free, self._fetch(source)) + self._copy
            if source != "pinned":
                self._staging.append(self._copied)
        return self._copied

    def _fetch(self, source: str) -> float:
        """Add one read; the time at which it is done. It is submitted once all but one of those before it are done."""
        ready = self._pending.pop(0)
        if source == "pinned":  # into memory of its own, which another thread registers
            self._registered = ready = max(self._registered, ready) + self._register
        elif len(self._staging) < STAGING_BUFFERS:  # into a new buffer, which the reading thread registers
            ready = max(self._fetched, ready) + self._register
        else:
            ready = max(ready, self._staging[-STAGING_BUFFERS])
        self._fetched = max(self._fetched, ready) + self._read
        self._pending.append(self._fetched)
        return self._fetched
