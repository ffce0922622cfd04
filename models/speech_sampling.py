"""Draws the next id of speech from the language model's logits, and decodes a text with it, one id after the other.

The official order of things: the repetition ban, temperature, the top k, softmax, a draw. The official 50 for top_k
stands nowhere in its scripts: it is the default of the transformers version that they pin.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.speech_tokens import (
    AUDIO_BASE,
    AUDIO_CODES,
    END_OF_TURN,
    GROUP,
    LINGUISTIC_CODES,
    LINGUISTIC_PER_GROUP,
)

REPETITION_WINDOW = 10  # ids, those of the prompt included
MAX_LENGTH = 8192  # positions of prompt and speech together, as officially
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SamplingSettings:
    """How an id is drawn. Defaults are the official values.

    pattern: only ids that fit their place in the groups of 2 linguistic and 3 semantic codes, and an end after a whole
    group only. Not official: nothing there forces the groups, and a stream that loses one code is noise from there on.
    """

    temperature: float = 0.7  # 0: the most likely id
    top_k: int = 50
    pattern: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 1:
            raise ValueError(
                f"Needs a temperature of 0 or more and a top_k of 1 or more, not {self.temperature} and {self.top_k}."
            )


def banned_id(ids: Sequence[int]) -> int | None:
    """The id that must not follow `ids` (prompt included): the last one, where it stands twice in the last ten."""
    window = ids[-REPETITION_WINDOW:]
    return window[-1] if len(window) == REPETITION_WINDOW and list(window).count(window[-1]) >= 2 else None


def pattern_mask(place: int, vocabulary: int) -> Tensor:
    """(vocabulary,) bool: ids that may stand at `place` (0 is the first after the prompt) of the 2:3 pattern."""
    allowed = torch.zeros(vocabulary, dtype=torch.bool)
    boundary = AUDIO_BASE + LINGUISTIC_CODES
    if place % GROUP < LINGUISTIC_PER_GROUP:
        allowed[AUDIO_BASE:boundary] = True
    else:
        allowed[boundary : AUDIO_BASE + AUDIO_CODES] = True
    allowed[END_OF_TURN] = place % GROUP == 0
    return allowed


class Sampler:
    """Draws ids; settings and seed decide them, whatever device computed the logits."""

    def __init__(self, settings: SamplingSettings, seed: int, vocabulary: int) -> None:
        """vocabulary: ids that the logits cover. ValueError where it is too small for the codes of speech."""
        if settings.pattern and vocabulary < AUDIO_BASE + AUDIO_CODES:
            raise ValueError(f"A vocabulary of {vocabulary} ids holds no codes of speech ({AUDIO_BASE + AUDIO_CODES}).")
        self.settings = settings
        self._generator = torch.Generator().manual_seed(seed)
        self._masks = [pattern_mask(place, vocabulary) for place in range(GROUP)] if settings.pattern else []

    def draw(self, logits: Tensor, ids: Sequence[int], place: int) -> int:
        """The id at `place` after the prompt. logits (vocabulary,); ids: all that stand before, prompt included.

        One number is taken from the generator per id. ValueError where logits are not numbers.
        """
        scores = logits.detach().to("cpu", torch.float64)
        if self._masks:
            scores = scores.masked_fill(~self._masks[place % GROUP], -math.inf)
        if (banned := banned_id(ids)) is not None:
            scores[banned] = -math.inf
        if scores.isnan().any() or scores.max() == -math.inf:
            raise ValueError("The speech LLM gave logits that are not numbers. Its weights may be damaged.")
        chance = torch.rand((), dtype=torch.float64, generator=self._generator)
        if self.settings.temperature == 0:
            return int(scores.argmax())
        top, order = scores.topk(min(self.settings.top_k, len(scores)))
        sums = (top / self.settings.temperature).softmax(0).cumsum(0)
        return int(order[int((sums < chance * sums[-1]).sum())])


class Take:
    """One reading of a prompt, built id by id; several takes can share each pass over the layers.

    `ids`: prompt and what was drawn. `complete`: whether the model ended it; False at the end means that the text was
    cut at max_length. With the pattern no group is begun that would not fit.
    """

    def __init__(self, prompt: Sequence[int], sampler: Sampler, max_length: int = MAX_LENGTH) -> None:
        """max_length: positions in all. ValueError where the prompt leaves no room for a group."""
        if not prompt or len(prompt) + GROUP > max_length:
            raise ValueError(f"A prompt of {len(prompt)} tokens cannot be spoken in {max_length} positions.")
        self.ids, self._start = list(prompt), len(prompt)
        self._sampler, self._max_length = sampler, max_length
        self.complete = False

    @property
    def drawn(self) -> list[int]:
        """The ids after the prompt, END_OF_TURN included."""
        return self.ids[self._start :]

    @property
    def pending(self) -> list[int]:
        """The ids that the network has not seen yet: the prompt before the first draw, then the last id."""
        return self.ids if len(self.ids) == self._start else self.ids[-1:]

    @property
    def ended(self) -> bool:
        """Whether nothing more may be drawn."""
        place = len(self.ids) - self._start
        needed = GROUP if self._sampler.settings.pattern and place % GROUP == 0 else 1
        return self.complete or len(self.ids) + needed > self._max_length

    def draw(self, logits: Tensor) -> int:
        """Draw the next id from the logits (vocabulary,) that followed `pending`."""
        self.ids.append(self._sampler.draw(logits, self.ids, len(self.ids) - self._start))
        self.complete = self.ids[-1] == END_OF_TURN
        return self.ids[-1]


def decode(step: Step, take: Take) -> Iterator[int]:
    """Speak a take to its end; yields each id as it is drawn, so that a caller can count, and stop in between.

    step: ids (1, n) int64 that follow those before -> logits (vocabulary,) of the next one.
    """
    while not take.ended:
        yield take.draw(step(torch.tensor([take.pending])))
