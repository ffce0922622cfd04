"""What planner, manager and pipeline share: budgets, the runtime's config, and the plan of one run."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from models.geometry import VideoShape
from studio.units import GB

if TYPE_CHECKING:
    import torch

    from studio.memory.planning.speeds import Speeds

SOURCES = ("resident", "pinned", "cached", "direct")
CAN_SHARE_RAM = sys.platform == "linux"  # streaming/arena.py: memfd_create, and locks of opened files
PEER_GBPS = 12.0  # between two cards over PCIe 4 without P2P, assumed; NVLink has some 250
OFFLOADS = ("auto", "none", "blocks", "disk")  # as the planner likes; all resident; blocks from RAM; blocks from disk
AUTO = "auto"
# What --attention takes: a kernel of models.attention; AUTO: the fastest exact one that is installed, timed once.
ATTENTIONS = (
    AUTO, "own", "cudnn", "flash", "efficient", "flash-attn", "flash-attn-3", "flash-attn-4", "sageattention",
)  # fmt: skip


@dataclass(frozen=True)
class Budgets:
    """Bytes that a process may use: VRAM as the driver counts it, RAM as anonymous + shared memory."""

    vram_bytes: int
    ram_bytes: int


class WeightMode(StrEnum):
    """How the weights of the transformer and of Step-LLM are stored and multiplied: a value of --quantize.

    INT8: int8 weights, dequantised before each product. INT8_COMPUTE: the transformer multiplies in int8, which rounds
    more; Step-LLM works as in INT8. CLIP and VAE are never quantised.
    """

    NONE = "none"
    INT8 = "int8"
    INT8_COMPUTE = "int8-compute"

    @property
    def is_int8(self) -> bool:
        """Whether the weights are int8."""
        return self is not WeightMode.NONE

    @property
    def of_step_llm(self) -> "WeightMode":
        """The mode of Step-LLM, which never multiplies in int8."""
        return WeightMode.INT8 if self.is_int8 else WeightMode.NONE


@dataclass(frozen=True)
class Sharing:
    """Several devices share each video. peer_gbps: what each sends to the others, in 10^9 bytes a second.

    one_copy: what they stream from RAM is there once; else each has its own copy.
    """

    devices: int
    peer_gbps: float = PEER_GBPS
    one_copy: bool = CAN_SHARE_RAM

    def conditions(self, *, guided: bool) -> int:
        """Passes of a node on one device."""
        return 2 if guided and self.devices % 2 else 1


@dataclass(frozen=True)
class RuntimeConfig:
    """How a model runs on this machine.

    dtype: of transformer, Step-LLM and VAE; CLIP computes in float32. offload: one of OFFLOADS. speeds: what plans are
    timed with; None: assumed ones. sharing: None for one device.
    """

    device: "torch.device"
    dtype: "torch.dtype"
    budgets: Budgets
    offload: str = "auto"
    weights: WeightMode = WeightMode.NONE
    speeds: "Speeds | None" = None
    sharing: Sharing | None = None


@dataclass(frozen=True)
class TextPlan:
    """Keys and values of the cross-attention are kept on the device, at most `nbytes`.

    source: where the layers that project a new text are read from, "cached" or "direct".
    """

    nbytes: int
    source: str


@dataclass(frozen=True)
class ComponentPlan:
    """Where the units (transformer blocks or LLM layers) of one network are during a run.

    resident: units that stay on the device. slots: device buffers that the other units share; 0: none is streamed.
    source: one of SOURCES per unit. unit_bytes: one unit's flat buffer. rest_bytes: the tensors outside of units, which
    are resident. scratch_bytes: device buffers for dequantised weights. texts: units have no layers that project the
    texts, of which keys and values are kept; None: every unit has them and projects the texts in each pass.
    """

    resident: tuple[int, ...]
    slots: int
    source: tuple[str, ...]
    unit_bytes: int
    rest_bytes: int
    scratch_bytes: int = 0
    texts: TextPlan | None = None

    def __post_init__(self) -> None:
        units = len(self.source)
        marked = tuple(unit for unit in range(units) if self.source[unit] == "resident")
        if marked != tuple(sorted(self.resident)) or not set(self.source) <= set(SOURCES):
            raise ValueError(f"resident units {self.resident} and sources {self.source} disagree")
        if self.slots < (len(marked) < units):
            raise ValueError(f"{units - len(marked)} units are streamed, and there is no slot for them")

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.source)

    @property
    def streamed(self) -> tuple[int, ...]:
        """The units that are not resident, in the order they run."""
        return tuple(unit for unit in range(self.units) if self.source[unit] != "resident")


@dataclass(frozen=True)
class Plan:
    """How one video is made.

    compact_decode: on a GPU the VAE's convolutions share memory, for more copies. fits: whether it keeps the
    budgets. reason: why not and what would fit, by language.
    """

    video: VideoShape
    transformer: ComponentPlan
    step_llm: ComponentPlan
    compact_decode: bool
    vram_peak_bytes: int
    ram_peak_bytes: int
    seconds_per_step: float
    fits: bool
    reason: Mapping[str, str]
    assumptions: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The plan as plain data for `app.py plan --json` and the page; GB is 2**30 bytes.

        Keys stay and keep their types from version to version: fits (bool), reason (English sentence, "" where it
        fits), vram_peak_gb, ram_peak_gb, seconds_per_step, resident_blocks, streamed_blocks, slots, sources (source ->
        blocks), vae_slice_frames (1), compact_decode (bool), texts_kept_gb (0.0: blocks project the texts in every
        pass), assumptions (name -> value).
        """
        sources, texts = self.transformer.source, self.transformer.texts
        return {
            "fits": self.fits,
            "reason": self.reason.get("en", ""),
            "vram_peak_gb": round(self.vram_peak_bytes / GB, 3),
            "ram_peak_gb": round(self.ram_peak_bytes / GB, 3),
            "seconds_per_step": round(self.seconds_per_step, 4),
            "resident_blocks": len(self.transformer.resident),
            "streamed_blocks": len(self.transformer.streamed),
            "slots": self.transformer.slots,
            "sources": {name: sources.count(name) for name in SOURCES if name in sources},
            "vae_slice_frames": 1,  # always, since decoding goes frame by frame
            "compact_decode": self.compact_decode,
            "texts_kept_gb": round(texts.nbytes / GB, 3) if texts else 0.0,
            "assumptions": dict(self.assumptions),
        }
