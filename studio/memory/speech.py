"""Loads the networks of Step-Audio-TTS one after the other, so that VRAM and RAM stay within their budgets.

    memory = SpeechMemory({"step_audio_llm": folder, "flow": folder, "hift": folder}, RuntimeConfig(...))
    said = memory.codes(readings)        # the language model: resident, or streamed with several texts per pass
    mels = memory.mels(sayings)          # the flow
    waves = memory.waves(...)            # the vocoder

Each network is released before the next one is loaded. After an out-of-memory error the work is repeated with a smaller
plan; every plan gives the same bits, for each text is computed by itself. One process has this or a MemoryManager.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from models.checkpoint import build
from models.flow import Flow
from models.hift import HiFT
from models.speech import Codes, draw_mel, draw_wave, said_codes
from models.speech_sampling import Sampler, SamplingSettings, Take
from models.step_audio_llm import KVCache, StepAudioLLM
from models.voice import Voice
from studio.errors import Cancelled, DoesNotFit
from studio.memory import usage
from studio.memory.allocator import Allocator, BufferKind, IntegrityError, Machine
from studio.memory.networks import ResidentNetwork, StreamedNetwork
from studio.memory.oom import clear_frames, retry_on_oom
from studio.memory.plan import RuntimeConfig, WeightMode
from studio.memory.planning.speech import SpeechPlan, SpeechRequest, SpeechSizes, plan_speech, smaller_speech
from studio.memory.streaming.backends import device_backend

LLM = "step_audio_llm"
Report = Callable[[int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Reading:
    """A text to draw codes for. prompt: models.speech_tokens.prompt_ids; max_length: positions, prompt included."""

    prompt: tuple[int, ...]
    seed: int
    max_length: int
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True)
class Saying:
    """Codes to become a mel: whose voice says them, and the seed of the flow's noise."""

    codes: tuple[int, ...]
    voice: Voice
    seed: int


class SpeechMemory:
    """One instance per process and device."""

    def __init__(self, parts: Mapping[str, Path], config: RuntimeConfig, *, machine: Machine | None = None) -> None:
        """parts: component -> checkpoint folder, that of the int8 files for the language model where config.weights is
        int8. config.dtype: of the language model. Raises CheckpointError for configs that are none.
        """
        self._parts, self._config, self._device = parts, config, config.device
        self._allocator = Allocator(machine or Machine(config.device))
        self._backend = device_backend(config.device)
        self._llm: StreamedNetwork | None = None
        self._whole: ResidentNetwork | None = None
        # Called when a plan was stepped down, with a code of studio.messages and its values.
        self.notify: Callable[..., None] = lambda code, **values: None
        llm, flow, hift = (build(parts[part], part)[0] for part in (LLM, "flow", "hift"))
        params = cast(StepAudioLLM, llm).params, cast(Flow, flow).params, cast(HiFT, hift).params
        modes = (config.weights, WeightMode.INT8)
        self._sizes = {mode: SpeechSizes.of(*params, config.dtype, mode) for mode in modes}
        usage.cap_vram(config.device, config.budgets.vram_bytes)
        usage.limit_heap_gaps()

    def plan(self, texts: int, prompt: int, positions: int) -> SpeechPlan:
        """The plan for so many texts. prompt, positions: ids of the longest prompt, and of the longest text with its
        speech. `fits` says whether it keeps the budgets.
        """
        return plan_speech(self._request(texts, prompt, positions))

    def codes(
        self,
        readings: Sequence[Reading],
        *,
        report: Report = lambda ids: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Codes]:
        """What the language model says for each reading; it is released at the end.

        report: ids drawn so far, over all readings. Raises Cancelled between layers, DoesNotFit, StudioError for bad
        weights, ValueError for a prompt without room or a model that says nothing.
        """
        request = self._request(
            len(readings), max(len(r.prompt) for r in readings), max(r.max_length for r in readings)
        )
        plan, said = plan_speech(request), list[Codes]()
        if not plan.fits:
            raise DoesNotFit("no_plan", reason=dict(plan.reason))

        def step_down(message: str) -> None:
            nonlocal plan
            usage.release_cached_memory(self._device)
            if (smaller := smaller_speech(request, plan)) is None:
                raise DoesNotFit("out_of_memory", said=message.partition("\n")[0] or "out of memory")
            plan = smaller
            self.notify("speech_plan_smaller", resident=len(plan.llm.resident), takes=plan.takes)

        def next_texts() -> list[Codes]:
            before, waiting = sum(len(one.codes) for one in said), readings[len(said) :]
            return self._draw(plan, waiting[: plan.takes], lambda ids: report(before + ids), cancelled)

        with self._released(), torch.no_grad():
            while len(said) < len(readings):
                said += retry_on_oom(next_texts, step_down)
        return said

    def mels(
        self,
        sayings: Sequence[Saying],
        *,
        music: bool = False,
        report: Report = lambda steps: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Tensor]:
        """Each saying -> mel (1, channels, frames) float32 on the CPU; the flow is released at the end.

        music: the flow for rap and humming. report: Euler steps done, over all sayings.
        """
        done = 0

        def step(_: int) -> None:
            nonlocal done
            if cancelled():
                raise Cancelled
            done += 1
            report(done)

        def draw(flow: Flow, saying: Saying) -> Tensor:
            return draw_mel(flow, saying.codes, saying.voice, saying.seed, report=step).cpu()

        with self._released():
            flow = cast(Flow, self._load("flow_music" if music else "flow"))
            return [self._again(partial(draw, flow, saying)) for saying in sayings]

    def waves(
        self,
        mels: Sequence[tuple[Tensor, int]],
        *,
        music: bool = False,
        report: Report = lambda waves: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Tensor], int]:
        """(mel, seed) each -> samples (n,) float32 on the CPU, and their rate; the vocoder is released at the end."""
        waves = []
        with self._released():
            hift = cast(HiFT, self._load("hift_music" if music else "hift"))
            for count, (mel, seed) in enumerate(mels, start=1):
                if cancelled():
                    raise Cancelled
                waves.append(self._again(partial(draw_wave, hift, mel, seed)))
                report(count)
            return waves, hift.params.sample_rate

    def release(self) -> None:
        """Release whatever is loaded. The memory may be used again."""
        if self._llm is not None:
            self._llm.release()
            self._llm = None
        if self._whole is not None:
            self._whole.release()
            self._whole = None
        usage.release_cached_memory(self._device)
        self.check_integrity()

    def check_integrity(self) -> None:
        """Raise IntegrityError where networks, allocator and existing storages differ by a single byte."""
        self._allocator.check()
        held = self._llm.buffer_bytes() if self._llm is not None else {}
        for kind in BufferKind:
            own = held.get(kind, 0)
            if kind == BufferKind.RESIDENT and self._whole is not None:
                own += self._whole.nbytes
            if own != (counted := self._allocator.allocated(kind)):
                raise IntegrityError(f"{kind}: networks hold {own:,} bytes, {counted:,} are counted")

    def _draw(
        self, plan: SpeechPlan, readings: Sequence[Reading], report: Report, cancelled: Callable[[], bool]
    ) -> list[Codes]:
        """The codes of readings that share each pass over the layers."""
        network = self._network(plan)
        body = cast(StepAudioLLM, network.body)
        params, device = body.params, self._device
        takes = [Take(r.prompt, Sampler(r.sampling, r.seed, params.vocabulary), r.max_length) for r in readings]
        caches = [KVCache(params, r.max_length, dtype=self._config.dtype, device=device) for r in readings]
        while live := [number for number, take in enumerate(takes) if not take.ended]:
            states = [body.embed(torch.tensor([takes[number].pending], device=device)) for number in live]
            for index, layer in network.blocks():
                if cancelled():
                    raise Cancelled
                states = [layer(x, caches[number], index) for x, number in zip(states, live, strict=True)]
            for x, number in zip(states, live, strict=True):
                caches[number].advance(x.shape[1])
                takes[number].draw(body.head(x[:, -1:])[0, -1])
            report(sum(len(take.drawn) for take in takes))
        return [said_codes(take) for take in takes]

    def _network(self, plan: SpeechPlan) -> StreamedNetwork:
        if self._llm is None:
            module, files = build(self._parts[LLM], LLM)
            self._llm = StreamedNetwork(module, files, self._config.dtype, self._allocator, self._backend)
        self._llm.set_plan(plan.llm)
        return self._llm

    def _load(self, component: str) -> torch.nn.Module:
        module, files = build(self._parts[component], component)
        self._whole = self._again(lambda: ResidentNetwork(module.float(), files, self._allocator))
        return self._whole.module

    def _again(self, work: Callable[[], Result]) -> Result:
        """Run the work; once more where memory ran out, with what PyTorch keeps given back."""
        tried = False

        def step_down(message: str) -> None:
            nonlocal tried
            usage.release_cached_memory(self._device)
            if tried:
                raise DoesNotFit("out_of_memory", said=message.partition("\n")[0] or "out of memory")
            tried = True

        return retry_on_oom(work, step_down)

    @contextmanager
    def _released(self) -> Iterator[None]:
        """Nothing stays on the device, however the work ends."""
        try:
            yield
        except BaseException as error:
            clear_frames(error)
            raise
        finally:
            self.release()

    def _request(self, texts: int, prompt: int, positions: int) -> SpeechRequest:
        config = self._config
        return SpeechRequest(
            sizes=self._sizes[config.weights],
            budgets=config.budgets,
            texts=texts,
            prompt=prompt,
            positions=positions,
            device=config.device.type,
            offload=config.offload,
            int8_sizes=None if config.weights.is_int8 else self._sizes[WeightMode.INT8],
        )
