"""From a soundtrack's settings and a finished clip to the clip with sound, step by step; and back to one without."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from studio.audio import robot
from studio.audio.clip import Clip, check_space, read_clip, record_with, write_clip
from studio.audio.ffmpeg import Loudness, measure_file, read_sound
from studio.audio.mix import MOST_GAIN, TARGET, Spoken, layer_wave, line_wave, mastered, mix
from studio.audio.subtitles import srt
from studio.audio.synthesis import RATE, Array, samples
from studio.audio.track import LONGEST, Layer, SoundSettings, VoiceLine
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Event, PhaseStarted, Progress, notice
from studio.filenames import beside, sync_file, sync_folder, write_whole

PEAK_LIMIT = -1.0  # dB of full scale that true peaks of the finished file stay below
CEILING = -1.5  # dB to begin with: the AAC coder adds a little
CEILING_TRIES = 6
DRAFT_LIMIT = 60.0  # seconds of a track that is heard before the clip is written
LENGTH_TOLERANCE = 0.02  # seconds by which sound and picture may differ without a word


class Speaker(Protocol):
    """Voices of a model, beside the robot's."""

    @property
    def voices(self) -> Collection[str]:
        """Their names."""
        ...

    def speak(
        self, lines: Sequence[VoiceLine], seed: int, emit: Callable[[Event], None], stop: Callable[[], bool]
    ) -> list[Array]:
        """Each line as mono speech (samples,) float32 at RATE. Raises StudioError; Cancelled once `stop` says so."""
        ...


@dataclass(frozen=True)
class Job:
    """What one run works with. clip: a finished mp4; to: the mp4 to write, which may be the clip itself. emit: told
    every event; stop: asked between the steps; clock: seconds that only grow. speaker: None for the robot alone."""

    settings: SoundSettings
    clip: Path
    to: Path
    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    speaker: Speaker | None = None

    def tell(self, code: str, **values: Any) -> None:
        """Say something that is no failure."""
        self.emit(notice(code, **values))

    def steps(self, phase: str, count: int) -> Iterator[int]:
        """0..count-1, each reported when it is done. Raises Cancelled before a step once `stop` says so."""
        self.emit(PhaseStarted(phase))
        began = self.clock()
        for number in range(count):
            if self.stop():
                raise Cancelled()
            yield number
            self.emit(Progress(phase, number + 1, count, self.clock() - began))


@dataclass(frozen=True)
class Sounding:
    """The finished clip: what it reached, as measured in the file, and its seconds of sound."""

    path: Path
    loudness: Loudness
    seconds: float


def add_sound(job: Job) -> Sounding:
    """Write the clip with the soundtrack. Everything wrong with the request is an InputError before any work.

    The file appears whole or not at all; its picture is the clip's, packet by packet.
    """
    settings = job.settings
    settings.check()
    check_voices(settings, job.speaker.voices if job.speaker else ())
    clip = read_clip(job.clip)
    check_space(job.to, clip, _longest(settings, clip))
    recordings = _recordings(settings)
    if clip.sounds and "sound" not in clip.record:
        job.tell("sound_replaced")
    spoken = _speak(job)
    wave = _compose(job, _length(job, _end(settings, spoken), clip.seconds), spoken, recordings)
    words = srt(spoken, len(wave) / RATE) if settings.subtitles else ""
    recipe = {**settings.to_dict(), "files": _hashes(settings)}
    record = record_with(clip, recipe)
    with _unfinished(job.to) as unfinished:
        for _ in job.steps("write", 1):
            reached = _write(clip, unfinished, record, wave, words)
            _put(job, clip, unfinished, {**record, "loudness_lufs": reached.integrated, "peak_db": reached.true_peak})
    if abs(reached.integrated - TARGET) > 1:
        job.tell("sound_quiet", reached=reached.integrated, target=TARGET, most=MOST_GAIN)
    return Sounding(job.to, reached, len(wave) / RATE)


def draft(job: Job) -> Array:
    """The track (samples, 2) at RATE as it will sound, up to DRAFT_LIMIT seconds, to hear before the clip is written.

    Lines of a model's voice are left out. Raises InputError as add_sound, and where nothing else is asked for.
    """
    settings = replace(job.settings, lines=tuple(line for line in job.settings.lines if line.voice in robot.ROBOTS))
    job.settings.check()
    if not settings.lines and not settings.layers:
        raise InputError("draft_empty")
    job = replace(job, settings=settings)
    spoken = _speak(job)
    length = _end(settings, spoken) if settings.length == "sound" else read_clip(job.clip).seconds
    wave = _compose(job, min(length, DRAFT_LIMIT), spoken, _recordings(settings))
    return mastered(wave, CEILING)[0]


def remove_sound(job: Job) -> None:
    """Write the clip without sound and subtitles, its settings as they were."""
    clip = read_clip(job.clip)
    check_space(job.to, clip, 0)
    record = record_with(clip, None)
    with _unfinished(job.to) as unfinished:
        for _ in job.steps("write", 1):
            write_clip(clip, unfinished, record, None)
            _put(job, clip, unfinished, record)


def check_voices(settings: SoundSettings, others: Collection[str] = ()) -> None:
    """Raise InputError for a line whose voice is neither the robot's nor one of the others."""
    known = [*robot.ROBOTS, *others]
    for line in settings.lines:
        if line.voice not in known:
            raise InputError("voice_unknown", value=line.voice, known=", ".join(known))
        if line.style and line.voice in robot.ROBOTS:
            raise InputError("style_robot", voice=line.voice)


def _longest(settings: SoundSettings, clip: Clip) -> float:
    return max(clip.seconds, LONGEST if settings.lines else 0, *(layer.end for layer in settings.layers), 0)


def _recordings(settings: SoundSettings) -> dict[Path, Array]:
    """The sound of every file, decoded once, as far as a layer may need it."""
    files = {layer.file for layer in settings.layers if layer.file}
    longest = {file: max(item.end - item.start for item in settings.layers if item.file == file) for file in files}
    return {file: read_sound(file, seconds) for file, seconds in longest.items()}


def _hashes(settings: SoundSettings) -> dict[str, str]:
    """Of each sound file, by its name: sha256."""
    found = {}
    for file in sorted({layer.file for layer in settings.layers if layer.file}):
        with file.open("rb") as opened:
            found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def _speak(job: Job) -> list[Spoken]:
    """Every line in the order of time, with a word where one is spoken into the next."""
    lines = sorted(job.settings.lines, key=lambda line: line.start)
    modelled = [number for number, line in enumerate(lines) if line.voice not in robot.ROBOTS]
    waves: dict[int, Array] = {}
    if modelled and job.speaker:
        asked = [lines[number] for number in modelled]
        made = job.speaker.speak(asked, job.settings.seed, job.emit, job.stop)
        waves = dict(zip(modelled, made, strict=True))
    spoken: list[Spoken] = []
    for number in job.steps("speak", len(lines)) if lines else ():
        line = lines[number]
        speech = waves[number] if number in waves else robot.speak(line.text, line.voice, line.language, job.stop)
        if spoken and line.start < spoken[-1].end:
            job.tell("line_overlap", start=line.start, end=spoken[-1].end)
        spoken.append(Spoken(line, line_wave(line, speech)))
    return spoken


def _end(settings: SoundSettings, spoken: Sequence[Spoken]) -> float:
    """Seconds at which the last sound ends."""
    return min(max([one.end for one in spoken] + [layer.end for layer in settings.layers]), LONGEST)


def _compose(job: Job, seconds: float, spoken: list[Spoken], recordings: dict[Path, Array]) -> Array:
    """The whole track (samples, 2) at its own levels, as long as that."""
    settings, waves = job.settings, []
    for number in job.steps("mix", len(settings.layers)) if settings.layers else ():
        layer = settings.layers[number]
        if layer.start < seconds:
            heard = replace(layer, end=min(layer.end, seconds))
            waves.append((layer.start, layer_wave(heard, settings.seed + number, _recording(layer, recordings))))
    return mix(spoken, waves, samples(seconds), settings.duck_db)


def _recording(layer: Layer, recordings: dict[Path, Array]) -> Array | None:
    return recordings[layer.file] if layer.file else None


def _length(job: Job, end: float, picture: float) -> float:
    """Seconds of the track; where sound and picture differ, it is said what becomes of it."""
    keep = job.settings.length == "sound"
    if end > picture + LENGTH_TOLERANCE:
        job.tell("sound_beyond" if keep else "sound_cut", end=end, picture=picture)
    elif end < picture - LENGTH_TOLERANCE:
        job.tell("sound_short" if keep else "sound_padded", end=end, picture=picture)
    return end if keep else picture


def _write(clip: Clip, to: Path, record: dict[str, Any], wave: Array, subtitles: str) -> Loudness:
    """Master and write until the true peak in the file itself is low enough; the loudness that the file has."""
    ceiling = CEILING
    for _ in range(CEILING_TRIES):
        loud, _found = mastered(wave, ceiling)
        write_clip(clip, to, record, np.ascontiguousarray(loud, np.float32), subtitles)
        reached = measure_file(to)
        if reached.true_peak <= PEAK_LIMIT:
            break
        ceiling -= reached.true_peak - PEAK_LIMIT + 0.1
    return reached


@contextmanager
def _unfinished(to: Path) -> Iterator[Path]:
    """The name under which the file is written first; nothing is left of it however the work ends."""
    path = to.with_name(f"{to.name}.tmp")
    path.unlink(missing_ok=True)  # of a run that was killed; its ffmpeg may still write to it
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _put(job: Job, clip: Clip, unfinished: Path, record: dict[str, Any]) -> None:
    """Give the file its name, the json and the picture of the clip beside it first; all of it outlives a power cut."""
    if job.stop():
        raise Cancelled()
    facts = _beside_clip(clip)
    facts = {key: value for key, value in facts.items() if key not in ("sound", "loudness_lufs", "peak_db")} | record
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    try:
        sync_file(unfinished)
        poster, other = beside(clip.path, ".jpg"), beside(job.to, ".jpg")
        if poster.is_file() and not other.exists():
            write_whole(other, poster.read_bytes(), durable=True)
        write_whole(beside(job.to, ".json"), text.encode(), durable=True)
        unfinished.replace(job.to)
        for folder in (job.to.parent, job.to.parent.parent):  # which may be new
            sync_folder(folder)
    except OSError as error:
        raise StudioError("write_failed", file=job.to.name, reason=error.strerror or str(error)) from None


def _beside_clip(clip: Clip) -> dict[str, Any]:
    """What the json beside the clip knows more than the clip itself; nothing where there is none of this program's."""
    try:
        found = json.loads(beside(clip.path, ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("program") == "step-video-studio" else {}
