"""Lines of text become speech with Step-Audio-TTS: voices are files, long lines are read sentence by sentence.

Voice, words and seed decide the samples, whatever plan the memory has. Not measured with real weights.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.layout import LAYOUT, SPEECH
from models.speech_sampling import MAX_LENGTH
from models.speech_tokens import GROUP, GROUP_SECONDS, SpeechTokenizer, is_singing, prompt_ids
from models.voice import Voice, read_voice
from studio.checkpoints.quantize import int8_folders
from studio.errors import InputError, ModelMissing, StudioError
from studio.memory.plan import RuntimeConfig
from studio.memory.speech import Reading, Saying, SpeechMemory
from studio.pipeline.run import file_errors

VOICES = "voices"  # in the folder of models: NAME.safetensors each, as models.voice.write_voice makes them
MUSIC = ("flow_music", "hift_music")
SENTENCE_WEIGHT = 100.0  # of the words read at once: about 25 s
SENTENCE_SECONDS = 60.0  # after which a sentence is cut, whatever the model says
LETTER_WEIGHT = 0.35  # of a letter or sign; a Chinese character has 1
WEIGHT_PER_SECOND = 4.0
PAUSE_SECONDS = 0.15  # between two pieces of a line
_ENDS = re.compile(r"(?<=[。！？!?；;…\n])|(?<=\.)(?=\s)")
_BREAKS = re.compile(r"(?<=[，、,:：\s])")
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SpeechLine:
    """text: without tags. tags: instructions that each piece of it is read with, "RAP" or "哼唱" the first of them."""

    text: str
    voice: str
    tags: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class SpokenLine:
    """wave (samples,) float32 in -1..1; complete: False where a piece was cut at SENTENCE_SECONDS."""

    wave: Tensor
    sample_rate: int
    complete: bool


@dataclass(frozen=True)
class _Piece:
    line: int
    text: str
    voice: Voice
    seed: int


def ready_voices(model_dir: Path) -> dict[str, Path]:
    """The voices of this machine by name; {} where there are none."""
    folder = model_dir / VOICES
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))} if folder.is_dir() else {}


def speech_folders(name: str, model_dir: Path, *, int8: bool = False) -> dict[str, Path]:
    """Component -> folder of an installed model that speaks; those of rap and humming where they are there.

    Raises ModelMissing with the download command, InputError where its int8 files are missing or out of date.
    """
    folder = model_dir / name
    missing = [part for part in SPEECH if not (folder / LAYOUT[part].folder / LAYOUT[part].config).is_file()]
    if missing:
        raise ModelMissing("model_missing", model=name, folder=folder, missing=", ".join(missing))
    found = dict.fromkeys(SPEECH, folder)
    found |= {part: folder for part in MUSIC if (folder / LAYOUT[part].folder).is_dir()}
    return int8_folders(found) if int8 else found


def pieces(text: str) -> list[str]:
    """A line in pieces that are read at once: whole sentences as long as they fit, else parts of a sentence."""
    found, held = [], ""
    for part in _parts(text, (_ENDS, _BREAKS)):
        if held and weight(held + part) > SENTENCE_WEIGHT:
            found.append(held.strip())
            held = ""
        held += part
    return [piece for piece in (*found, held.strip()) if any(map(str.isalnum, piece))]


def weight(text: str) -> float:
    """About how long a text takes to say, a Chinese character being 1."""
    return sum(1.0 if "\u2e80" <= char <= "\u9fff" or char > "\U0001ffff" else LETTER_WEIGHT for char in text)


def _parts(text: str, rules: tuple[re.Pattern[str], ...]) -> list[str]:
    """The text cut by the first rule, what is still too long by the next one, in the end anywhere."""
    if weight(text) <= SENTENCE_WEIGHT and len(rules) < 2:
        return [text]
    if not rules:
        size = int(SENTENCE_WEIGHT)
        return [text[start : start + size] for start in range(0, len(text), size)]
    cut = [part for part in rules[0].split(text) if part]
    return [small for part in cut for small in ([part] if weight(part) <= SENTENCE_WEIGHT else _parts(part, rules[1:]))]


class SpeechModel:
    """An installed Step-Audio-TTS with the voices of this machine. Nothing is loaded before `speak`."""

    @file_errors()
    def __init__(self, folders: Mapping[str, Path], voices: Mapping[str, Path], config: RuntimeConfig) -> None:
        """folders: of `speech_folders`. Raises StudioError for a folder that cannot be used."""
        self._folders, self.voices = folders, voices
        self._tokenizer = SpeechTokenizer(folders["flow"])
        self.memory = SpeechMemory(folders, config)

    @file_errors()
    def speak(
        self,
        lines: Sequence[SpeechLine],
        *,
        report: Report = lambda phase, done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[SpokenLine]:
        """Each line spoken. report: phase ("codes", "mel", "wave"), what is done of it and about what there is.

        Raises InputError for an unknown voice or singing without its networks, Cancelled, DoesNotFit, StudioError.
        """
        voices = {line.voice: self._voice(line.voice) for line in lines}
        spoken: list[SpokenLine | None] = [None] * len(lines)
        for music in (False, True):
            numbers = [number for number, line in enumerate(lines) if is_singing(_tagged(line, "")) == music]
            if numbers and music and (missing := [part for part in MUSIC if part not in self._folders]):
                raise InputError("singing_missing", missing=", ".join(missing))
            read = [
                _Piece(number, _tagged(lines[number], text), voices[lines[number].voice], lines[number].seed + part)
                for number in numbers
                for part, text in enumerate(pieces(lines[number].text))
            ]
            try:
                for number, line in self._speak(read, music, report, cancelled) if read else ():
                    spoken[number] = line
            except (
                ValueError
            ) as error:  # what models/ says of a text that leaves no room, or of a voice for other sizes
                raise StudioError("speech_failed", reason=str(error)) from None
        return [line for line in spoken if line is not None]

    def _speak(
        self, read: list[_Piece], music: bool, report: Report, cancelled: Callable[[], bool]
    ) -> list[tuple[int, SpokenLine]]:
        about = int(sum(weight(piece.text) for piece in read) / WEIGHT_PER_SECOND * GROUP / GROUP_SECONDS)
        said = self.memory.codes(
            [self._reading(piece) for piece in read],
            report=lambda ids: report("codes", ids, max(about, ids)),
            cancelled=cancelled,
        )
        sayings = [Saying(one.codes, piece.voice, piece.seed) for one, piece in zip(said, read, strict=True)]
        steps = 10 * len(read)
        mels = self.memory.mels(
            sayings, music=music, report=lambda done: report("mel", done, steps), cancelled=cancelled
        )
        seeded = [(mel, piece.seed) for mel, piece in zip(mels, read, strict=True)]
        waves, rate = self.memory.waves(
            seeded, music=music, report=lambda done: report("wave", done, len(read)), cancelled=cancelled
        )
        pause = torch.zeros(int(PAUSE_SECONDS * rate))
        found = []
        for number in dict.fromkeys(piece.line for piece in read):
            own = [index for index, piece in enumerate(read) if piece.line == number]
            parts = [part for index in own for part in (pause, waves[index])][1:]
            found.append((number, SpokenLine(torch.cat(parts), rate, all(said[index].complete for index in own))))
        return found

    def _reading(self, piece: _Piece) -> Reading:
        prompt = tuple(prompt_ids(self._tokenizer.encode, piece.text, piece.voice.reference))
        new = int(SENTENCE_SECONDS / GROUP_SECONDS) * GROUP
        return Reading(prompt, piece.seed, min(len(prompt) + new, MAX_LENGTH))

    def _voice(self, name: str) -> Voice:
        if name not in self.voices:
            raise InputError("voice_unknown", value=name, known=", ".join(self.voices) or "-")
        return read_voice(self.voices[name])


def _tagged(line: SpeechLine, text: str) -> str:
    return "".join(f"({tag})" for tag in line.tags) + text
