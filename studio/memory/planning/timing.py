"""How long a step takes under a plan: computation, copies and reads as three queues that wait for each other.

The queues are stepped through unit by unit, as studio/memory/streamer.py works: a copy waits for its slot, a read for a
staging buffer, a computation for its unit. So what a plan hides, and what it does not, comes out of the same rules.
"""

from dataclasses import replace

from models.geometry import VideoShape
from studio.memory.plan import ComponentPlan, WeightMode
from studio.memory.planning.footprint import CONTEXT_TOKENS, PROMPT_TOKENS, ModelSizes
from studio.memory.planning.speeds import Speeds
from studio.memory.streaming.streamer import STAGING_BUFFERS

# Bytes that element-wise work of a block moves per token and channel, in elements: two norms and modulations 8,
# norms and rotary positions of q and k 34, copies into whole tensors 6, gates and residuals 15, GELU 8, queries of the
# cross-attention 4. Counted from models/layers.py, each operator on its own.
ELEMENT_PASSES = 75
STEP_SECONDS = 0.005  # embedding, head, guidance and launches of one step
# Decoder of the public VAE, 17 frames of 544x992 (research: memory of the VAE, counted operation by operation).
DECODE_FLOP, DECODE_PIXELS, DECODE_WIDTH = 271.6e12, 544 * 992, 128
# The encoder's work on 17 frames and on one, by PyTorch's FLOP counter at the public and at nano's widths.
ENCODE_SHARE, IMAGE_SHARE = 0.3, 0.0083


def block_seconds(sizes: ModelSizes, video: VideoShape, conditions: int, speeds: Speeds) -> float:
    """Computation of one transformer block for all conditions."""
    width, tokens = sizes.architecture.transformer.width, video.tokens
    linear = 2 * width**2 * (12 * tokens + 2 * (tokens + CONTEXT_TOKENS))
    attention = 4 * tokens * (tokens + CONTEXT_TOKENS) * width
    moved = ELEMENT_PASSES * tokens * width * sizes.dtype.itemsize
    if sizes.weights is WeightMode.INT8:
        moved += sizes.transformer.unit_parameters * (1 + sizes.dtype.itemsize)
    tflops = (speeds.int8_tflops if sizes.weights is WeightMode.INT8_COMPUTE else None) or speeds.tflops
    once = linear / tflops / 1e12 + attention / speeds.attention_tflops / 1e12 + moved / speeds.memory_gbps / 1e9
    return conditions * once * speeds.correction


def layer_seconds(sizes: ModelSizes, speeds: Speeds) -> float:
    """Computation of one Step-LLM layer over two full prompts."""
    flop = 2 * 2 * PROMPT_TOKENS * sizes.step_llm.unit_parameters
    return flop / speeds.tflops / 1e12 * speeds.correction


def decode_seconds(sizes: ModelSizes, video: VideoShape, speeds: Speeds) -> float:
    """The VAE's decoding, roughly."""
    return video.chunks * _chunk_seconds(sizes, video.height, video.width, speeds)


def encode_seconds(sizes: ModelSizes, video: VideoShape, speeds: Speeds) -> float:
    """The VAE's encoding of a first image, roughly."""
    return IMAGE_SHARE * _chunk_seconds(sizes, video.height, video.width, speeds)


def colours_seconds(sizes: ModelSizes, clips: int, side: int, speeds: Speeds) -> float:
    """The VAE's encoding of square clips of 17 frames, from which the colours of previews are fitted, roughly."""
    return clips * ENCODE_SHARE * _chunk_seconds(sizes, side, side, speeds)


def _chunk_seconds(sizes: ModelSizes, height: int, width: int, speeds: Speeds) -> float:
    """Decoding of 17 frames."""
    scale = height * width / DECODE_PIXELS * (sizes.architecture.vae.decoder_widths[0] / DECODE_WIDTH) ** 2
    return scale * DECODE_FLOP / speeds.tflops / 1e12 * speeds.correction


def pass_seconds(plan: ComponentPlan, compute: float, speeds: Speeds, *, on_cpu: bool, cold: bool = False) -> float:
    """One pass over all units, `compute` seconds each, in steady state; cold: the first pass, which reads all units."""
    queues = _Queues(plan, compute, speeds, on_cpu)
    if cold:
        return queues.run_pass(reads_all=True)
    queues.run_pass()
    before = queues.run_pass()
    return queues.run_pass() - before


def longest_queue(plan: ComponentPlan, compute: float, speeds: Speeds, *, on_cpu: bool) -> str:
    """The field of Speeds that decides how long a pass takes: "correction" (computation), "link_gbps", "disk_gbps"."""
    streamed = len(plan.streamed)
    from_disk = streamed - plan.source.count("pinned")
    seconds = {
        "correction": plan.units * compute + STEP_SECONDS * speeds.correction,
        "link_gbps": 0.0 if on_cpu else streamed * plan.unit_bytes / speeds.link_gbps / 1e9,
        "disk_gbps": from_disk * plan.unit_bytes / speeds.disk_gbps / 1e9,
    }
    return max(seconds, key=lambda name: seconds[name])


def slower(speeds: Speeds, queue: str, factor: float) -> Speeds:
    """Speeds with one queue's work taking `factor` times as long."""
    change = factor if queue == "correction" else 1 / factor
    return replace(speeds, **{queue: getattr(speeds, queue) * change})


class _Queues:
    """The times at which computation, copies and reads are done with what was given to them so far."""

    def __init__(self, plan: ComponentPlan, compute: float, speeds: Speeds, on_cpu: bool) -> None:
        self._plan, self._compute = plan, compute
        self._read = plan.unit_bytes / speeds.disk_gbps / 1e9
        self._copy = plan.unit_bytes / (speeds.memory_gbps if on_cpu else speeds.link_gbps) / 1e9
        self._computed = self._copied = self._fetched = 0.0
        self._slots = [0.0] * plan.slots  # when the last user of each slot was done
        self._staging = [0.0] * STAGING_BUFFERS
        self._turn = self._borrowed = 0
        self._on_cpu = on_cpu

    def run_pass(self, *, reads_all: bool = False) -> float:
        """The time at which one more pass over all units is done."""
        for source in self._plan.source:
            ready = 0.0
            if source != "resident":
                ready = self._bring(reads_all or source != "pinned", self._turn % len(self._slots))
            elif reads_all:
                ready = self._bring(True, None)
            self._computed = max(self._computed, ready) + self._compute
            if source != "resident":
                self._slots[self._turn % len(self._slots)] = self._computed
                self._turn += 1
        return self._computed

    def _bring(self, from_disk: bool, slot: int | None) -> float:
        """When a unit is in its slot (None: a resident unit's own, which is always free)."""
        free = 0.0 if slot is None else self._slots[slot]
        if not from_disk:
            self._copied = max(self._copied, free) + self._copy
            return self._copied
        if self._on_cpu:  # straight into its slot
            self._fetched = max(self._fetched, free) + self._read
            return self._fetched
        buffer = self._borrowed % len(self._staging)
        self._fetched = max(self._fetched, self._staging[buffer]) + self._read
        self._copied = max(self._copied, free, self._fetched) + self._copy
        self._staging[buffer] = self._copied
        self._borrowed += 1
        return self._copied
