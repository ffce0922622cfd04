"""Small tokenizers for a nano checkpoint, made from a corpus: files of the public form, a hundredth of their size.

The same corpus gives the same bytes. No torch.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from studio.config import load_camera_moves

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ASCII = tuple(chr(code) for code in range(33, 127) if not chr(code).isupper())
PUNCTUATION = tuple("，。、；：！？“”‘’（）《》—…")
BORDER = "\x01"  # no piece of the trained model crosses it; it appears in no text
PHRASE_WEIGHT = 20  # how often a camera phrase enters the corpus


@dataclass(frozen=True)
class Vocabulary:
    """step_model: a SentencePiece Unigram model file; clip_words: the lines of vocab.txt."""

    step_model: bytes
    clip_words: tuple[str, ...]

    @property
    def step_size(self) -> int:
        """Number of ids of the language model."""
        return sentencepiece.SentencePieceProcessor(model_proto=self.step_model).get_piece_size()

    @property
    def clip_size(self) -> int:
        """Number of ids of CLIP."""
        return len(self.clip_words)

    def save(self, folder: Path) -> None:
        """Write the tokenizer files where the public layout has them."""
        step, clip = folder / "step_llm", folder / "hunyuan_clip" / "tokenizer"
        for place in (step, clip):
            place.mkdir(parents=True, exist_ok=True)
        (step / "step1_chat_tokenizer.model").write_bytes(self.step_model)
        (clip / "vocab.txt").write_text("\n".join(self.clip_words) + "\n", encoding="utf-8")
        options = {"do_lower_case": True, "tokenize_chinese_chars": True, "model_max_length": 77}
        (clip / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}) + "\n")


def read_vocabulary(folder: Path) -> Vocabulary:
    """The tokenizers of a checkpoint folder that `Vocabulary.save` wrote."""
    text = (folder / "hunyuan_clip" / "tokenizer" / "vocab.txt").read_text(encoding="utf-8")
    return Vocabulary((folder / "step_llm" / "step1_chat_tokenizer.model").read_bytes(), tuple(text.splitlines()))


def make_vocabulary(corpus: Iterable[str], step_limit: int, clip_limit: int) -> Vocabulary:
    """Tokenizers for the texts of `corpus` and for every camera phrase, of at most so many ids each."""
    phrases = [move.phrase for move in load_camera_moves().values()]
    texts = [*corpus, *phrases * PHRASE_WEIGHT]
    return Vocabulary(_train_step(texts, step_limit), _clip_words(texts, clip_limit))


def _train_step(texts: list[str], limit: int) -> bytes:
    # Chinese stays single characters: from a small corpus longer pieces would be whole clauses, each a word of its own.
    bordered = [re.sub(r"([\u4e00-\u9fff])", rf"{BORDER}\1{BORDER}", text) for text in texts]
    # The trainer proposes only what occurs in two different contexts: give every Latin word a second and a third one.
    words = sorted({word for text in texts for word in re.findall(r"[A-Za-z]{2,}", text)})
    bordered += [f"{word}, {word}." for word in words]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(bordered),
        model_writer=model,
        model_type="unigram",
        vocab_size=limit,
        hard_vocab_limit=False,
        # As the public model: bytes for what is unknown, single digits, the text as it is.
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        pretokenization_delimiter=BORDER,
        required_chars="".join((*ASCII, *PUNCTUATION)),
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,  # sums of more threads come in any order
        minloglevel=2,
    )
    return model.getvalue()


def _clip_words(texts: list[str], limit: int) -> tuple[str, ...]:
    """Single characters, pieces of ASCII words (so that no Latin text is unknown), then the commonest words."""
    words = Counter(word for text in texts for word in re.findall(r"[a-z]{2,}", text.lower()))
    characters = Counter(char for text in texts for char in text if ord(char) > 126 and not char.isspace())
    pieces = [f"##{char}" for char in ASCII if char.isalnum()]
    common = sorted((words + characters).items(), key=lambda item: (-item[1], item[0]))
    ordered = dict.fromkeys((*SPECIAL, *ASCII, *PUNCTUATION, *pieces, *(word for word, _ in common)))
    return tuple(ordered)[:limit]
