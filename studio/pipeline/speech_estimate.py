"""Would the voices of a speech model fit a card, and how: the plan of one long line, with or without the files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from models.checkpoint import build
from models.flow import Flow, FlowParams
from models.hift import HiFT, HiFTParams
from models.layout import SPEECH
from models.speech_tokens import GROUP, GROUP_SECONDS
from models.step_audio_llm import StepAudioLLM, StepAudioLLMParams
from studio.config import StudioConfig
from studio.errors import ModelMissing
from studio.memory.plan import WeightMode
from studio.memory.planning.speech import SpeechPlan, SpeechRequest, SpeechSizes, plan_speech
from studio.memory.planning.speeds import ASSUMED, Speeds, given_speeds
from studio.pipeline.engine import EngineOptions, compute_dtype, named_device
from studio.pipeline.estimate import machine_budgets
from studio.pipeline.run import file_errors
from studio.pipeline.speech import SENTENCE_SECONDS, speech_folders
from studio.units import GB

PROMPT = 900  # ids of a long prompt: system text, a recording of 12 s, a sentence
Params = tuple[StepAudioLLMParams, FlowParams, HiFTParams]


@dataclass(frozen=True)
class SpeechEstimate:
    """reading_seconds: per second of speech, for reading the weights alone; computing is not in it, nor measured."""

    plan: SpeechPlan
    reading_seconds: float
    speeds: Speeds

    def summary(self) -> dict[str, Any]:
        """Plain data for json."""
        llm, plan = self.plan.llm, self.plan
        counts = {source: llm.source.count(source) for source in dict.fromkeys(llm.source)}
        return {
            "fits": plan.fits,
            "reason": dict(plan.reason),
            "vram_peak_gb": round(plan.vram_peak_bytes / GB, 2),
            "ram_peak_gb": round(plan.ram_peak_bytes / GB, 2),
            "sources": counts,
            "slots": llm.slots,
            "reading_seconds_per_second": round(self.reading_seconds, 3),
            "assumptions": {name: getattr(self.speeds, name) for name in ("memory_gbps", "link_gbps", "disk_gbps")},
        }


@file_errors()
def estimate_speech(
    name: str, config: StudioConfig, options: EngineOptions, speeds: Mapping[str, float | None]
) -> SpeechEstimate:
    """Where the networks would lie while one line of up to a minute is spoken.

    speeds: link_gbps, disk_gbps as given; None: assumed. The public sizes are taken where the model is not installed.
    Raises StudioError for a folder that cannot be used, InputError for a device that is none.
    """
    device, params = named_device(options.device), _params(name, config)
    weights = WeightMode.INT8 if options.weights.is_int8 else WeightMode.NONE
    sizes = {mode: SpeechSizes.of(*params, compute_dtype(device), mode) for mode in (weights, WeightMode.INT8)}
    request = SpeechRequest(
        sizes=sizes[weights],
        budgets=machine_budgets(device, config),
        texts=1,
        prompt=PROMPT,
        positions=PROMPT + int(SENTENCE_SECONDS / GROUP_SECONDS) * GROUP,
        device=device.type,
        offload=options.offload,
        int8_sizes=None if weights.is_int8 else sizes[WeightMode.INT8],
    )
    plan, known = plan_speech(request), given_speeds(ASSUMED[device.type], **speeds)
    return SpeechEstimate(plan, _reading(plan, request.sizes, known) * GROUP / GROUP_SECONDS, known)


def _params(name: str, config: StudioConfig) -> Params:
    try:
        folders = speech_folders(name, config.model_dir)
    except ModelMissing:
        return StepAudioLLMParams(), FlowParams(), HiFTParams()
    llm, flow, hift = (build(folders[part], part)[0] for part in SPEECH)
    return cast(StepAudioLLM, llm).params, cast(Flow, flow).params, cast(HiFT, hift).params


def _reading(plan: SpeechPlan, sizes: SpeechSizes, speeds: Speeds) -> float:
    """Seconds for reading what an id needs: every layer from where it lies, and the head; one row of the embedding."""
    embedding = sizes.params.vocabulary * sizes.params.width * sizes.dtype.itemsize
    gbps = {"resident": speeds.memory_gbps, "pinned": speeds.link_gbps}
    layers = sum(plan.llm.unit_bytes / gbps.get(source, speeds.disk_gbps) for source in plan.llm.source)
    return (layers + (plan.llm.rest_bytes - embedding) / speeds.memory_gbps) / 1e9
