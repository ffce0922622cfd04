"""What the model receives: prompt, camera phrase and magic words joined into the exact texts, and their tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from studio.magic import magic_words
from studio.settings import ResolvedSettings

if TYPE_CHECKING:
    from studio.config import CameraMove, ModelConfig  # needs omegaconf, which a machine with torch alone may lack

SENTENCE_ENDS = '。.！!？?…；;"”』」)）'


class Tokens(Protocol):
    """`valid` of at most `max_length` tokens are read, begin and end marks included; `cut` more were left out."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def valid(self) -> int: ...

    @property
    def cut(self) -> int: ...

    @property
    def max_length(self) -> int: ...

    def padded(self) -> tuple[list[int], list[int]]: ...


class Tokenizer(Protocol):
    """models.tokenizers has one for each encoder."""

    def encode(self, text: str) -> Tokens: ...


@dataclass(frozen=True)
class ModelText:
    """The two texts as both encoders get them: the conditional one and the one guidance moves away from.

    added: how many characters at the end of `positive` are magic words.
    """

    positive: str
    negative: str
    added: int = 0


@dataclass(frozen=True)
class EncoderCount:
    """What one encoder reads of a text: `used` of `limit` tokens, `cut` tokens unread."""

    encoder: str
    used: int
    limit: int
    cut: int


def compose(settings: ResolvedSettings, model: ModelConfig, moves: Mapping[str, CameraMove]) -> ModelText:
    """The texts that the encoders read.

    The official pipeline appends the magic words with no separator, so a prompt that does not end a sentence is
    closed with a full stop first. A camera move leads, in Chinese for every language: those are the words the model
    learned (TI2V README). The negative text is the negative prompt, exactly.
    """
    prompt, magic = settings.prompt.strip(), magic_words(model, settings.magic_words)
    if magic and prompt[-1:] not in SENTENCE_ENDS:
        prompt += "。" if _has_chinese(prompt) else "."
    if settings.camera_move:
        speed = settings.camera_speed if model.sources else ""  # the built-in models were trained on the phrases alone
        prompt = f"{moves[settings.camera_move].words(speed)}，{prompt}"
    return ModelText(prompt + magic, settings.negative_prompt, len(magic))


def count(text: str, tokenizers: Mapping[str, Tokenizer]) -> list[EncoderCount]:
    """How much of `text` each encoder reads."""
    counts = []
    for name, tokenizer in tokenizers.items():
        tokens = tokenizer.encode(text)
        counts.append(EncoderCount(name, tokens.valid, tokens.max_length, tokens.cut))
    return counts


def unread(text: str, tokenizers: Mapping[str, Tokenizer]) -> dict[str, str]:
    """Encoder -> the end of `text` that it does not read, found by the longest beginning that it reads whole."""
    ends = {}
    for name, tokenizer in tokenizers.items():
        if tokenizer.encode(text).cut:
            whole = bisect_left(range(len(text)), 1, key=lambda length: tokenizer.encode(text[: length + 1]).cut)
            ends[name] = text[whole:]
    return ends


def _has_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)
