"""A voice as a file: what the speech networks need to know of a speaker, in about 100 KB of safetensors.

Made once from a recording and its exact words; speaking with it then needs neither the recording nor the models that
read it. The public checkpoint has no such files: it computes all this anew from its recordings at every start.
"""

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from models.flow import FlowParams
from models.speech_tokens import AUDIO_BASE, AUDIO_CODES, Reference, fits_pattern, neutralise, seconds
from models.weight_files import CheckpointError, TensorEntry, header_bytes, read_into, read_table

KIND, VERSION = "step-audio-voice", "1"
SIZE_LIMIT = 4 << 20  # bytes of a file; 30 s take 1 MB with float32 mel
LONGEST = 30.0  # seconds of a recording, as officially
TRANSCRIPT_LIMIT = 2000  # characters
PICKLE_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError)
OFFICIAL = ("prompt_code", "cosy_speech_feat", "cosy_speech_embedding", "prompt_text")  # of tts.py, what is used here
DTYPES = {
    "codes": (torch.int16,),
    "mel": (torch.float16, torch.float32),
    "embedding": (torch.float32,),
}


@dataclass(frozen=True)
class Voice:
    """A speaker as the networks know one.

    codes (n,) int64: what the recording says as mixed codes 0..5119, silence at its ends left out. mel (m, channels)
    float32: of the whole recording. embedding (width,) float32: who speaks. transcript: the recording's exact words.
    speaker: a name that the language model learned ("Tingting"), "" for any other voice.
    """

    codes: Tensor
    mel: Tensor
    embedding: Tensor
    transcript: str
    speaker: str = ""

    def __post_init__(self) -> None:
        """ValueError with what does not fit."""
        codes = self.codes.tolist()
        if self.codes.dtype != torch.int64 or self.codes.ndim != 1 or not codes or not fits_pattern(codes):
            raise ValueError(
                f"its codes are no whole groups of 2 linguistic and 3 semantic ones (0 to {AUDIO_CODES - 1})"
            )
        if seconds(len(codes)) > LONGEST:
            raise ValueError(f"its recording has {seconds(len(codes)):.1f} s of codes; {LONGEST:g} s are the longest")
        for name, tensor, ndim in (("mel", self.mel, 2), ("embedding", self.embedding, 1)):
            if tensor.dtype != torch.float32 or tensor.ndim != ndim or not tensor.numel():
                raise ValueError(f"its {name} has shape {tuple(tensor.shape)} of {tensor.dtype}")
            if not tensor.isfinite().all():
                raise ValueError(f"its {name} has numbers that are not finite")
        if not self.embedding.any():
            raise ValueError("its embedding is zero")
        if not neutralise(self.transcript).strip() or len(self.transcript) > TRANSCRIPT_LIMIT:
            raise ValueError(
                f"its transcript has {len(self.transcript)} characters; 1 to {TRANSCRIPT_LIMIT} are possible"
            )

    @property
    def reference(self) -> Reference:
        """What the language model hears of the voice."""
        return Reference(tuple(self.codes.tolist()), self.transcript, self.speaker)

    def check(self, params: FlowParams) -> None:
        """ValueError where the voice was made for other networks than a flow of these sizes."""
        found = (self.mel.shape[1], self.embedding.shape[0])
        if found != (params.mel_channels, params.speaker_width):
            raise ValueError(
                f"The voice has {found[0]} mel channels and an embedding of {found[1]}; the flow takes "
                f"{params.mel_channels} and {params.speaker_width}."
            )


def write_voice(path: Path, voice: Voice) -> None:
    """Write a voice file; mel as float16. The path shows a whole file or none. OSError where it cannot be written."""
    tensors = {
        "codes": voice.codes.to(torch.int16),
        "mel": voice.mel.to(torch.float16),
        "embedding": voice.embedding,
    }
    words = {"kind": KIND, "version": VERSION, "transcript": voice.transcript, "speaker": voice.speaker}
    unfinished = path.with_name(f"{path.name}.tmp")
    with open(unfinished, "wb") as file:
        file.write(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, words))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_voice(path: Path) -> Voice:
    """Read a voice file. Raises CheckpointError for one that is missing, damaged, or not exactly a voice."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    if size > SIZE_LIMIT or path.suffix != ".safetensors":
        raise CheckpointError(f"{path} ({size} bytes) is no voice: a .safetensors file of at most {SIZE_LIMIT} bytes.")
    table = read_table(path)
    words = json.loads(header_bytes(path)[0]).get("__metadata__")
    texts = {"kind", "version", "transcript", "speaker"}
    if not isinstance(words, dict) or set(words) != texts or not all(isinstance(text, str) for text in words.values()):
        raise CheckpointError(f"{path} is no voice: its metadata are not {', '.join(sorted(texts))}.")
    if (words["kind"], words["version"]) != (KIND, VERSION):
        raise CheckpointError(
            f"{path} is a {words['kind']} of version {words['version']}; this program reads {KIND} {VERSION}."
        )
    if set(table) != set(DTYPES) or any(table[name].dtype not in DTYPES[name] for name in DTYPES):
        found = ", ".join(f"{name} {entry.dtype}" for name, entry in table.items())
        raise CheckpointError(f"{path} is no voice: it holds {found} instead of codes int16, mel and embedding floats.")
    codes, mel, embedding = (_read(table[name]) for name in DTYPES)
    try:
        return Voice(codes.long(), mel.float(), embedding, words["transcript"], words["speaker"])
    except ValueError as error:
        raise CheckpointError(f"{path} is no voice: {error}.") from None


def read_official(path: Path, speaker: str = "") -> Voice:
    """A voice as the official code prepares one: `torch.save(tts.speakers_info[NAME], path)` of its StepAudioTTS.

    speaker: as of Voice. Raises CheckpointError for anything else; nothing but tensors, numbers and texts is read.
    """
    try:
        size = path.stat().st_size
        info = None if size > SIZE_LIMIT else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    except PICKLE_ERRORS as error:
        raise CheckpointError(f"{path} is no file of torch.save with plain data: {type(error).__name__}.") from None
    if size > SIZE_LIMIT:
        raise CheckpointError(f"{path} is larger than {SIZE_LIMIT} bytes: no voice.")
    held = info if isinstance(info, dict) else {}
    if lacks := [name for name in OFFICIAL if name not in held]:
        raise CheckpointError(f"{path} is no voice of the official code: it lacks {', '.join(lacks)}.")
    try:
        ids, mel, embedding, words = (held[name] for name in OFFICIAL)
        codes = torch.as_tensor(ids).reshape(-1).long() - AUDIO_BASE
        return Voice(codes, mel[0].float(), embedding.reshape(-1).float(), str(words), speaker)
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no voice: {error}.") from None


def _read(entry: TensorEntry) -> Tensor:
    tensor = torch.empty(entry.shape, dtype=entry.dtype)
    read_into(entry, tensor)
    return tensor
