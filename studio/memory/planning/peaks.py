"""Bytes that each phase of a plan takes, and the peaks over all of them."""

from dataclasses import dataclass

from models.geometry import VideoShape
from models.token_split import TokenSplit, group_size
from models.transformer import TOKEN_CHUNK
from studio.memory.plan import Budgets, ComponentPlan, Sharing
from studio.memory.planning.footprint import ModelSizes
from studio.memory.planning.speeds import Speeds
from studio.memory.streaming.arena import stride
from studio.memory.streaming.reader import BOUNCE_BYTES
from studio.memory.streaming.streamer import STAGING_BUFFERS
from studio.memory.usage import CAP_SLACK_BYTES, CUDA_CONTEXT_BYTES

SLOTS = 2  # one computes while the other is filled; a third slot gains more as a resident block
# Anonymous memory of a process that has loaded PyTorch and its libraries. Assumed; stated in every plan.
HOST_BASE_BYTES = {"cuda": 1536 << 20, "cpu": 384 << 20}
WORKSPACE_BYTES = {"cuda": 96 << 20, "cpu": 32 << 20}  # of matrix libraries, assumed
ALLOCATOR_SLACK = {"cuda": 0.04, "cpu": 0.02}  # rounding and gaps of the allocator, as a share of activations
# The same on CUDA for decoding (counted by tests/memory/planning/test_reserved.py) and for encoding a first image: what
# layers at work leave between each other.
DECODE_GAP, ENCODE_GAP = 0.07, 0.18
CONVOLUTION_BYTES = 128 << 20  # workspaces of cuDNN, assumed
DRIVER_PAGE = 2 << 20  # PyTorch's allocator takes memory from the driver in multiples of this
PIECES_IN_RAM = 6  # float32 copies of a decoded frame between the device and the file


@dataclass(frozen=True)
class PlanRequest:
    """Everything that a plan depends on.

    device: "cuda", or "cpu", where RAM is the only budget. conditions: 2 with guidance. int8_sizes: the same model with
    int8 weights, to tell whether they would fit where nothing else does; None: they are in use or not possible.

    sharing: several devices share the video, and the plan is that of each; conditions are then of each too. guided:
    whether the video has two passes a step. kernels: whether models/kernels compute a block.
    """

    sizes: ModelSizes
    video: VideoShape
    budgets: Budgets
    speeds: Speeds
    device: str = "cuda"
    offload: str = "auto"
    conditions: int = 2
    int8_sizes: ModelSizes | None = None
    sharing: Sharing | None = None
    guided: bool = True
    kernels: bool = False

    @property
    def split(self) -> TokenSplit | None:
        """How the devices that have the same pass share its tokens; None where each has all of them."""
        if self.sharing is None or (group := group_size(self.sharing.devices, guided=self.guided)) == 1:
            return None
        return TokenSplit.of(self.video.tokens, min(group, self.video.tokens), TOKEN_CHUNK)

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"


def peaks(
    request: PlanRequest, transformer: ComponentPlan, llm: ComponentPlan, compact_decode: bool
) -> tuple[int, int]:
    """Highest (VRAM, RAM) in bytes over the phases; on a CPU all of it is RAM."""
    on_device = {
        name: whole_pages(number) for name, number in phases(request, transformer, llm, compact_decode).items()
    }
    worst = max(on_device.values())
    pinned = pinned_bytes(request, transformer.source.count("pinned"), transformer.unit_bytes)
    host = HOST_BASE_BYTES[request.device] + pinned + BOUNCE_BYTES
    if request.on_cpu:
        return 0, host + worst
    frame = request.video.height * request.video.width * 3 * 4
    texts = STAGING_BUFFERS * request.sizes.text_layers.unit_bytes if transformer.texts else 0
    transient = max(staging_bytes(transformer) + texts, staging_bytes(llm), PIECES_IN_RAM * frame)
    return CUDA_CONTEXT_BYTES + worst, host + transient


def phases(
    request: PlanRequest, transformer: ComponentPlan, llm: ComponentPlan, compact_decode: bool
) -> dict[str, int]:
    """Phase -> bytes of its network and activations on the device, without the CUDA context; 0: does not take place."""
    sizes, video = request.sizes, request.video

    def working(activations: int) -> int:
        return int(activations * (1 + ALLOCATOR_SLACK[request.device])) + WORKSPACE_BYTES[request.device]

    def convolving(activations: int, gaps: float) -> int:
        if request.on_cpu:
            return sizes.vae_bytes + working(activations)
        return sizes.vae_bytes + int(activations * (1 + gaps)) + WORKSPACE_BYTES["cuda"] + CONVOLUTION_BYTES

    phases = {
        "encode_text": device_bytes(llm) + working(sizes.prompt_bytes()),
        "clip": sizes.clip_bytes + working(0),
        "texts": 0,
        "denoise": device_bytes(transformer) + working(sizes.denoise_bytes(video, request.conditions, request.split)),
        "decode": convolving(sizes.decode_bytes(video, compact=compact_decode and not request.on_cpu), DECODE_GAP),
    }
    if transformer.texts:
        projecting = working(sizes.text_projection_bytes(request.conditions))
        phases["texts"] = device_bytes(transformer) + SLOTS * sizes.text_layers.unit_bytes + projecting
    if sizes.architecture.transformer.takes_image:
        phases["encode_image"] = convolving(sizes.encode_image_bytes(video), ENCODE_GAP)
    return phases


def device_bytes(plan: ComponentPlan) -> int:
    """Bytes of a network on the device under its plan."""
    units = (len(plan.resident) + plan.slots) * plan.unit_bytes
    return units + plan.rest_bytes + plan.scratch_bytes + (plan.texts.nbytes if plan.texts else 0)


def pinned_bytes(request: PlanRequest, units: int, unit_bytes: int) -> int:
    """Bytes of RAM of so many pinned units; of one copy of several devices, the part of each."""
    if (sharing := request.sharing) is None or not sharing.one_copy:
        return units * unit_bytes
    return -(-units * stride(unit_bytes) // sharing.devices)


def most_pinned(request: PlanRequest, nbytes: int, unit_bytes: int) -> int:
    """How many pinned units take at most nbytes."""
    if (sharing := request.sharing) is None or not sharing.one_copy:
        return max(nbytes // unit_bytes, 0)
    return max(nbytes * sharing.devices // stride(unit_bytes), 0)


def staging_bytes(plan: ComponentPlan) -> int:
    """Bytes of RAM between disk and device under a network's plan."""
    return 0 if set(plan.source) == {"pinned"} else STAGING_BUFFERS * plan.unit_bytes


def needed_vram(peak: int) -> int:
    """The budget that a peak needs; 0 on a CPU, which has no VRAM."""
    return peak + CAP_SLACK_BYTES if peak else 0


def whole_pages(nbytes: int) -> int:
    """The bytes that PyTorch's allocator takes from the driver for so many."""
    return -(-nbytes // DRIVER_PAGE) * DRIVER_PAGE
