"""Text -> token ids for the two text encoders, with the official lengths. Needs no torch: the page counts tokens too.

The constructors raise CheckpointError for a file that is missing, or that is no tokenizer which can be used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from models.clip_config import CLIP_TOKENS
from models.regular_files import LFS_POINTER, CheckpointError, read_json, read_regular, reading

STEP_TOKENS = 320
STEP_BOS, STEP_EOS = 1, 2
FILE_LIMIT = 4 << 20  # bytes; the public files have about 1 MB
PROBE = "a red ball 一只猫 12"  # a tokenizer that knows nothing of this knows no prompt
CLIP_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TokenIds:
    """What an encoder receives of a text.

    ids: with begin and end, without padding. cut: how many tokens of the text were left out at its end.
    """

    ids: tuple[int, ...]
    cut: int
    max_length: int
    pad: int

    @property
    def valid(self) -> int:
        """How many ids stand for the text, begin and end included."""
        return len(self.ids)

    def padded(self) -> tuple[list[int], list[int]]:
        """Ids filled up to max_length, and the mask: 1 for valid ids, 0 for padding."""
        rest = self.max_length - self.valid
        return [*self.ids, *[self.pad] * rest], [1] * self.valid + [0] * rest


class StepTokenizer:
    """The language model's SentencePiece Unigram tokenizer. `folder`: step_llm/ of a checkpoint.

    No chat template; typed control words such as <|BOT|> are plain text; padding is the end token.
    """

    def __init__(self, folder: Path | str) -> None:
        path = Path(folder) / "step1_chat_tokenizer.model"
        with reading(path, "is no tokenizer"):
            # Bytes rather than a path: sentencepiece cannot open paths outside the C locale everywhere.
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_bytes(path))
            check_probe(self._processor.encode(PROBE), self._processor.unk_id(), len(self))
            if len(self) <= STEP_EOS:
                raise ValueError("it has no begin and end")

    def encode(self, text: str, max_length: int = STEP_TOKENS) -> TokenIds:
        """Begin, the text's first max_length - 2 tokens, end."""
        pieces = self._processor.encode(_utf8(text))
        kept = pieces[: max_length - 2]
        return TokenIds((STEP_BOS, *kept, STEP_EOS), len(pieces) - len(kept), max_length, STEP_EOS)

    def __len__(self) -> int:
        return self._processor.get_piece_size()


class ClipTokenizer:
    """CLIP's BERT WordPiece tokenizer. `folder`: hunyuan_clip/tokenizer/ of a checkpoint.

    The same ids as transformers' BertTokenizer (a test compares them), without the seconds its import takes.
    """

    def __init__(self, folder: Path | str) -> None:
        path = Path(folder) / "vocab.txt"
        options = read_json(Path(folder) / "tokenizer_config.json")
        with reading(path, "is no tokenizer"):
            lines = tokenizer_bytes(path).decode("utf-8").split("\n")
            vocabulary = {line.rstrip("\r"): index for index, line in enumerate(lines) if line}
            if missing := [name for name in CLIP_SPECIAL if name not in vocabulary]:
                raise ValueError(f"it lacks {' '.join(missing)}")
            self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
        with reading(Path(folder) / "tokenizer_config.json", "describes no tokenizer"):
            self._tokenizer.normalizer = normalizers.BertNormalizer(
                handle_chinese_chars=options.get("tokenize_chinese_chars", True),
                lowercase=options.get("do_lower_case", True),
                strip_accents=options.get("strip_accents"),
            )
        with reading(path, "is no tokenizer"):
            self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            self._tokenizer.add_special_tokens(list(CLIP_SPECIAL))
            self._size = max(vocabulary.values()) + 1  # ids are line numbers
            probed = self._tokenizer.encode(PROBE, add_special_tokens=False).ids
            check_probe(probed, vocabulary["[UNK]"], self._size)
        self._begin, self._end, self._pad = (vocabulary[name] for name in ("[CLS]", "[SEP]", "[PAD]"))

    def encode(self, text: str, max_length: int = CLIP_TOKENS) -> TokenIds:
        """[CLS], the text's first max_length - 2 tokens, [SEP]. A typed "[SEP]" is that token, as officially."""
        pieces = self._tokenizer.encode(_utf8(text), add_special_tokens=False).ids
        kept = pieces[: max_length - 2]
        return TokenIds((self._begin, *kept, self._end), len(pieces) - len(kept), max_length, self._pad)

    def __len__(self) -> int:
        """One more than its largest id."""
        return self._size


def tokenizer_bytes(path: Path) -> bytes:
    """The file. Raises OSError; CheckpointError for a Git-LFS pointer; ValueError for an empty one."""
    data = read_regular(path, FILE_LIMIT)
    if data.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git-LFS pointer, not the tokenizer: run `git lfs pull` there, or download it."
        )
    if not data:
        raise ValueError("it is empty")
    return data


def check_probe(ids: Sequence[int], unknown: int, size: int) -> None:
    """Raise ValueError where the ids of PROBE show that texts cannot be encoded."""
    if all(number == unknown for number in ids):
        raise ValueError("it knows no word")
    if not all(0 <= number < size for number in ids):
        raise ValueError("it gives ids that it does not have")


def _utf8(text: str) -> str:
    """The text with "?" for lone surrogates, which json can carry and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
