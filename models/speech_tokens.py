"""What Step-Audio-TTS-3B's language model reads and writes as ids: speech codes, the prompt of a voice, and tags.

Speech is two streams of codes, "linguistic" at 16.67 per second and "semantic" at 25, mixed in groups of 2 and 3: one
group is 0.12 s. The flow (models.flow) takes the mixed stream as it is. No torch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.regular_files import reading

BEGIN, END_OF_TURN, TURN = 1, 3, 4  # <s>, <|EOT|>, <|BOT|>
AUDIO_BASE = 65536  # id of <audio_0>; all ids from here on stand for audio
LINGUISTIC_CODES, SEMANTIC_CODES = 1024, 4096
AUDIO_CODES = LINGUISTIC_CODES + SEMANTIC_CODES  # mixed codes: linguistic ones first
LINGUISTIC_PER_GROUP, SEMANTIC_PER_GROUP = 2, 3
GROUP = LINGUISTIC_PER_GROUP + SEMANTIC_PER_GROUP
GROUP_SECONDS = 0.12

# Tags that the model was trained on; each stands before the text in its own parentheses, and others are allowed too.
EMOTIONS = ("高兴1", "高兴2", "生气1", "生气2", "悲伤1", "撒娇1")
LANGUAGES = ("中文", "英文", "韩语", "日语", "四川话", "粤语", "广东话")
SINGING = RAP, HUM = ("RAP", "哼唱")
SPEEDS = ("慢速1", "慢速2", "快速1", "快速2")

_CONTROL = re.compile(r"<\|[^<>]*\|>|<audio_\d+>|</?s>|<unk>|<pad>", re.IGNORECASE)
_FIRST_TAG = re.compile(r"[(（][^()]*[)）]")
Encode = Callable[[str], Sequence[int]]


def interleave(linguistic: Sequence[int], semantic: Sequence[int]) -> list[int]:
    """Both streams -> mixed codes 0..5119, [l, l, s, s, s] group by group; what fills no group at the end is dropped.

    ValueError for a code that its book does not have.
    """
    for name, codes, size in (("linguistic", linguistic, LINGUISTIC_CODES), ("semantic", semantic, SEMANTIC_CODES)):
        if outside := [code for code in codes if not 0 <= code < size]:
            raise ValueError(f"There are {size} {name} codes; {outside[0]} is none of them.")
    mixed: list[int] = []
    for group in range(min(len(linguistic) // LINGUISTIC_PER_GROUP, len(semantic) // SEMANTIC_PER_GROUP)):
        mixed += linguistic[group * LINGUISTIC_PER_GROUP :][:LINGUISTIC_PER_GROUP]
        mixed += [LINGUISTIC_CODES + code for code in semantic[group * SEMANTIC_PER_GROUP :][:SEMANTIC_PER_GROUP]]
    return mixed


def fits_pattern(codes: Sequence[int]) -> bool:
    """Whether mixed codes are whole groups of 2 linguistic and 3 semantic codes."""
    places = ((0, LINGUISTIC_CODES),) * LINGUISTIC_PER_GROUP
    places += ((LINGUISTIC_CODES, AUDIO_CODES),) * SEMANTIC_PER_GROUP
    fits = (places[i % GROUP][0] <= code < places[i % GROUP][1] for i, code in enumerate(codes))
    return len(codes) % GROUP == 0 and all(fits)


def audio_codes(ids: Sequence[int]) -> list[int]:
    """Ids that the model drew -> mixed codes 0..5119, without what is no speech code.

    Officially the last id is dropped whatever it is, and an id of text is played as code 0.
    """
    return [i - AUDIO_BASE for i in ids if AUDIO_BASE <= i < AUDIO_BASE + AUDIO_CODES]


def seconds(codes: int) -> float:
    """How long so many mixed codes sound."""
    return codes / GROUP * GROUP_SECONDS


def neutralise(text: str) -> str:
    """The text without words that the tokenizer would read as controls or codes: <|BOT|>, <audio_5>, <s> and the like.

    Taking one out may leave another ("<aud<audio_1>io_2>"), so it goes on until there is none.
    """
    while (cleaned := _CONTROL.sub("", text)) != text:
        text = cleaned
    return text


def instruction(text: str) -> str:
    """The first tag of a text without its parentheses, "" where it begins with none.

    As the model's own front end reads it: only ASCII parentheses end the search, so that "（RAP）我（真的）" begins
    with the tag "RAP）我（真的", which is no singing.
    """
    found = _FIRST_TAG.match(text)
    return found.group().strip("()（）") if found else ""


def is_singing(text: str) -> bool:
    """Whether a text asks for rap or humming, which the vocoder for music decodes; the tag must be the first one."""
    return instruction(text) in SINGING


def system_prompt(text: str, speaker: str = "") -> str:
    """What the model is told before everything else. speaker: "" for a voice that it did not learn by name.

    The words are the model's training data, from the official tts.py (Apache-2.0); others would be others to it.
    """
    if is_singing(text):
        return _SING.format("用哼唱的方式将文本内容大声唱" if HUM in text else "用RAP方式将文本内容大声说唱")
    voice = f"使用[{speaker}]的声音，" if speaker else ""
    lists = (_listed(tags) for tags in (EMOTIONS, LANGUAGES, SINGING, SPEEDS))
    return _SPEAK.format(*lists, manner=f"{voice}根据这些情感标签的指示")


def _listed(tags: Sequence[str]) -> str:
    return "\n".join(f'- "{tag}"' for tag in tags)


_SING = "请参考对话历史里的音色，{}出来。"
_SPEAK = (
    "作为一名卓越的声优演员，你的任务是根据文本中（）或()括号内标注的情感、语种或方言、音乐哼唱、语音调整等标签，"
    "以丰富细腻的情感和自然顺畅的语调来朗读文本。\n"
    "# 情感标签涵盖了多种情绪状态，包括但不限于：\n{}\n\n"
    "# 语种或方言标签包含多种语言或方言，包括但不限于：\n{}\n\n"
    "# 音乐哼唱标签包含多种类型歌曲哼唱，包括但不限于：\n{}\n\n"
    "# 语音调整标签，包括但不限于：\n{}\n\n"
    "请在朗读时，{manner}，调整你的情感、语气、语调和哼唱节奏，以确保文本的情感和意义得到准确而生动的传达，"
    "如果没有()或（）括号，则根据文本语义内容自由演绎。"
)


@dataclass(frozen=True)
class Reference:
    """What the model hears of a voice: its mixed codes, what was said, and its name if the model learned it by name."""

    codes: tuple[int, ...]
    transcript: str
    speaker: str = ""


def prompt_ids(encode: Encode, text: str, reference: Reference) -> list[int]:
    """The whole prompt, from <s> to the open turn in which the model speaks.

    encode: text -> ids with BEGIN in front (SpeechTokenizer.encode). text: as typed, tags included; control words are
    taken out here. Every turn has a BEGIN of its own before its role; what is said has none, and no leading space
    piece either, for it is encoded behind a newline whose pieces are then cut.
    """

    def said(words: str) -> Sequence[int]:
        return encode("\n" + neutralise(words))[len(encode("\n")) :]

    def turn(role: str, content: Sequence[int] = ()) -> Iterator[int]:
        yield from (TURN, *encode(f"{role}\n"), *content, END_OF_TURN)

    text = neutralise(text)
    system = encode(f"system\n{system_prompt(text, neutralise(reference.speaker))}")
    codes = [AUDIO_BASE + code for code in reference.codes]
    return [
        *(BEGIN, TURN, *system, END_OF_TURN),
        *turn("human", said(reference.transcript)),
        *turn("assistant", codes),
        *turn("human", said(text)),
        *(TURN, *encode("assistant\n")),
    ]


class SpeechTokenizer:
    """The TTS model's SentencePiece Unigram tokenizer (74,752 pieces). `folder`: of the checkpoint."""

    def __init__(self, folder: Path | str) -> None:
        import sentencepiece  # here: everything else in this file works without these

        from models.tokenizers import PROBE, check_probe, tokenizer_bytes

        path = Path(folder) / "tokenizer.model"
        with reading(path, "is no tokenizer"):
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_bytes(path))
            check_probe(self._processor.encode(PROBE), self._processor.unk_id(), len(self))

    def encode(self, text: str) -> list[int]:
        """BEGIN and the text's ids. Never a control or a code: what the tokenizer's normalisation makes one
        (full-width signs, say) is left out. Lone surrogates become "?".
        """
        ids = self._processor.encode(text.encode("utf-8", "replace").decode("utf-8"))
        return [BEGIN, *(i for i in ids if not self._is_control(i))]

    def _is_control(self, i: int) -> bool:
        if i >= AUDIO_BASE or self._processor.is_control(i):
            return True
        return _CONTROL.fullmatch(self._processor.id_to_piece(i)) is not None

    def __len__(self) -> int:
        return self._processor.get_piece_size()
