"""The voices of an installed Step-Audio-TTS for `sound`: opened only where a line asks for one."""

import argparse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from studio.audio.robot import ROBOTS, trimmed
from studio.audio.soundtrack import Speaker
from studio.audio.styles import tags
from studio.audio.synthesis import Array, resampled
from studio.audio.track import SoundSettings, VoiceLine
from studio.commands.machine import engine_options, studio_config
from studio.config import StudioConfig, load_speech
from studio.errors import InputError
from studio.events import Event, PhaseStarted, Progress, notice
from studio.memory.plan import RuntimeConfig, WeightMode
from studio.memory.usage import budgets_for
from studio.pipeline.engine import EngineOptions, compute_dtype, pick_device
from studio.pipeline.speech import SpeechLine, SpeechModel, ready_voices, speech_folders
from studio.queue.locks import DeviceLock, runtime_folder


def open_speaker(settings: SoundSettings, options: argparse.Namespace) -> Speaker:
    """The voices of this machine. Raises InputError for a voice that is not among them, ModelMissing."""
    asked = {line.voice for line in settings.lines} - set(ROBOTS)
    config = studio_config(options)
    voices = ready_voices(config.model_dir)
    if unknown := sorted(asked - set(voices)):
        raise InputError("voice_unknown", value=unknown[0], known=", ".join([*ROBOTS, *voices]))
    engine = engine_options(options)
    folders = speech_folders(next(iter(load_speech())), config.model_dir, int8=engine.weights.is_int8)
    return ModelSpeaker(folders, voices, config, engine)


class ModelSpeaker:
    """A Speaker: holds the device while it speaks, and keeps nothing in memory in between."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        voices: Mapping[str, Path],
        config: StudioConfig,
        options: EngineOptions,
    ) -> None:
        self._folders, self._voices, self._config, self._options = folders, voices, config, options

    @property
    def voices(self) -> Collection[str]:
        """Names of the voices on this machine."""
        return tuple(self._voices)

    def speak(
        self, lines: Sequence[VoiceLine], seed: int, emit: Callable[[Event], None], stop: Callable[[], bool]
    ) -> list[Array]:
        """As Speaker.speak. The n-th of the lines is drawn with the seed + 1000 n."""
        asked = [
            SpeechLine(line.text, line.voice, tags(line.style, line.language), (seed + 1000 * number) % 2**63)
            for number, line in enumerate(lines)
        ]
        with self._held(emit, stop):
            emit(PhaseStarted("load"))
            model = SpeechModel(self._folders, self._voices, self._runtime())
            model.memory.notify = lambda code, **values: emit(notice(code, **values))
            spoken = model.speak(asked, report=_reporter(emit), cancelled=stop)
        for line, one in zip(lines, spoken, strict=True):
            if not one.complete:
                emit(notice("speech_cut", start=line.start))
        return [trimmed(resampled(one.wave.numpy(), one.sample_rate)) for one in spoken]

    @contextmanager
    def _held(self, emit: Callable[[Event], None], stop: Callable[[], bool]) -> Iterator[None]:
        """Hold the device; where another process has it, say so and wait. Raises Cancelled."""

        def name(holder: str) -> None:
            emit(notice("device_busy", holder=holder or "?"))

        lock = DeviceLock(runtime_folder(), str(pick_device(self._options.device)), "speak")
        lock.wait(name, stop)
        try:
            yield
        finally:
            lock.release()

    def _runtime(self) -> RuntimeConfig:
        device = pick_device(self._options.device)
        weights = WeightMode.INT8 if self._options.weights.is_int8 else WeightMode.NONE
        budgets = budgets_for(device, self._config)
        return RuntimeConfig(device, compute_dtype(device), budgets, self._options.offload, weights)


def _reporter(emit: Callable[[Event], None]) -> Callable[[str, int, int], None]:
    """Reports of a SpeechModel as events, a phase for each network."""
    phase, began = "", 0.0

    def report(name: str, done: int, total: int) -> None:
        nonlocal phase, began
        if name != phase:
            phase, began = name, monotonic()
            emit(PhaseStarted(f"speak_{name}"))
        emit(Progress(f"speak_{name}", done, total, monotonic() - began))

    return report
