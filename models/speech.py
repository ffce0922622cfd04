"""From a prompt and a voice to a waveform, with the three networks whole in memory.

The steps stand alone, so that a caller with little memory can load one network after the other: `draw_codes` needs the
language model, `draw_mel` the flow, `draw_wave` the vocoder. Seeds decide everything: every random number is drawn on
the CPU, from the seed alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.flow import Flow, flow_noise
from models.hift import HiFT, source_noise
from models.speech_sampling import MAX_LENGTH, Sampler, SamplingSettings, Take, decode
from models.speech_tokens import audio_codes
from models.step_audio_llm import KVCache, StepAudioLLM
from models.voice import Voice

Report = Callable[[int], None]


@dataclass(frozen=True)
class SpeechNetworks:
    """Step-Audio-TTS-3B: models.checkpoint.load_step_audio_llm, load_flow and load_hift of one folder."""

    llm: StepAudioLLM
    flow: Flow
    hift: HiFT


@dataclass(frozen=True)
class Codes:
    """What the language model said: mixed codes, and whether it came to the text's end."""

    codes: tuple[int, ...]
    complete: bool


@dataclass(frozen=True)
class Speech:
    """wave (samples,) float32 in -1..1 at `sample_rate`; complete: False where the text was cut at max_length."""

    wave: Tensor
    sample_rate: int
    complete: bool


@torch.no_grad()
def draw_codes(
    llm: StepAudioLLM,
    prompt: Sequence[int],
    seed: int,
    settings: SamplingSettings | None = None,
    *,
    max_length: int = MAX_LENGTH,
    report: Report = lambda ids: None,
) -> Codes:
    """prompt: models.speech_tokens.prompt_ids. report: called with the number of ids after each; it may raise to stop.

    ValueError where the prompt leaves no room in max_length positions, or where the model says nothing at all.
    """
    weight = llm.lm_head.weight
    take = Take(prompt, Sampler(settings or SamplingSettings(), seed, llm.params.vocabulary), max_length)
    cache = KVCache(llm.params, max_length, dtype=weight.dtype, device=weight.device)

    def step(ids: Tensor) -> Tensor:
        return llm(ids.to(weight.device), cache, last=True)[0, -1]

    for count, _ in enumerate(decode(step, take), start=1):
        report(count)
    return said_codes(take)


def said_codes(take: Take) -> Codes:
    """What a take that ended says. ValueError where the model said nothing at all."""
    codes = audio_codes(take.drawn)
    if not codes:
        raise ValueError("The speech LLM ended before it said anything. Try another seed or another text.")
    return Codes(tuple(codes), take.complete)


@torch.no_grad()
def draw_mel(
    flow: Flow, codes: Sequence[int], voice: Voice, seed: int, *, report: Report = lambda steps: None
) -> Tensor:
    """Mixed codes -> mel (1, channels, frames) float32. report: called with the number of steps after each."""
    voice.check(flow.params)
    device = flow.encoder_proj.weight.device
    new, heard = (torch.as_tensor(ids, device=device)[None] for ids in (list(codes), voice.codes))
    condition = flow.condition(new, heard, voice.mel[None].to(device), voice.embedding[None].to(device))
    x = flow_noise(torch.Generator().manual_seed(seed), condition)
    for count, state in enumerate(flow.solve(condition, x), start=1):
        x = state
        report(count)
    return x[:, :, voice.mel.shape[0] :]


@torch.no_grad()
def draw_wave(hift: HiFT, mel: Tensor, seed: int) -> Tensor:
    """mel (1, channels, frames) -> samples (frames * 256,) float32, on the CPU."""
    device = hift.conv_pre.bias.device
    noise = source_noise(torch.Generator().manual_seed(seed), hift.params, mel.shape[2], device)
    return hift(mel.float().to(device), noise)[0].cpu()


def speak(
    networks: SpeechNetworks,
    prompt: Sequence[int],
    voice: Voice,
    seed: int,
    settings: SamplingSettings | None = None,
    *,
    max_length: int = MAX_LENGTH,
) -> Speech:
    """The three steps in a row."""
    said = draw_codes(networks.llm, prompt, seed, settings, max_length=max_length)
    wave = draw_wave(networks.hift, draw_mel(networks.flow, said.codes, voice, seed), seed)
    return Speech(wave, networks.hift.params.sample_rate, said.complete)
