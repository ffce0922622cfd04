"""Speech as ids: the official streams and prompts, and what a user types cannot become a control."""

import hashlib
import json

import pytest

from models import speech_tokens
from models.speech_tokens import (
    AUDIO_BASE,
    Reference,
    SpeechTokenizer,
    audio_codes,
    fits_pattern,
    instruction,
    interleave,
    is_singing,
    neutralise,
    prompt_ids,
    seconds,
    system_prompt,
)
from tests.golden.audio.rule import TOKENS
from tests.tiny_speech import tokenizer_model

PROMPT = TOKENS["prompt"]
CODES = tuple(code - AUDIO_BASE for code in PROMPT["code"])


def _encode(text):
    """The tokenizer that stood in for the real one when the prompts were recorded."""
    return [1] + [100000 + ord(character) for character in text]


def _sha256(value):
    return hashlib.sha256(value.encode()).hexdigest()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(tokenizer_model())
    return SpeechTokenizer(folder)


def test_interleaving_as_recorded(subtests):
    for case in TOKENS["interleave"]:
        with subtests.test(case=case):
            linguistic = [(7 * i + 3) % 1024 for i in range(case["vq02"])]
            semantic = [(37 * i + 11) % 4096 for i in range(case["vq06"])]
            mixed = interleave(linguistic, semantic)
            assert [AUDIO_BASE + code for code in mixed] == case["wav2token"] == case["merge_ids"]
            assert fits_pattern(mixed) and audio_codes(case["wav2token"]) == mixed
            assert "".join(f"<audio_{code}>" for code in mixed) == case["merge_string"]


def test_prompts_as_recorded(subtests):
    for case in PROMPT["cases"]:
        with subtests.test(case=case):
            ids = prompt_ids(_encode, case["text"], Reference(CODES, case["prompt_text"], case["speaker"]))
            assert (
                instruction(case["text"]) == case["instruction"] and is_singing(case["text"]) == case["music_vocoder"]
            )
            assert (len(ids), _sha256(json.dumps(ids))) == (case["length"], case["sha256"])


def test_system_prompts_as_recorded():
    found = {
        "sys_prompt_for_rap": system_prompt("(RAP)"),
        "sys_prompt_for_vocal": system_prompt("(哼唱)"),
        "sys_prompt_wo_spk": system_prompt("(高兴1)"),
        "sys_prompt_with_spk": system_prompt("(高兴1)", "{}"),
    }
    assert {name: _sha256(text) for name, text in found.items()} == TOKENS["system_prompts_sha256"]
    assert {name: len(text) for name, text in found.items()} == TOKENS["system_prompts_chars"]


def test_codes_that_no_book_has_are_refused(subtests):
    for linguistic, semantic, word in [([1024, 0], [0] * 3, "1024"), ([0, 0], [0, -1, 0], "-1")]:
        with subtests.test(linguistic=linguistic, semantic=semantic, word=word):
            with pytest.raises(ValueError, match=word):
                interleave(linguistic, semantic)


def test_pattern(subtests):
    for codes, fits in [
        ([], True),
        ([0, 1023, 1024, 5119, 1024], True),
        ([0, 1, 1024, 1024], False),
        ([0, 1024, 1, 1024, 1024], False),
    ]:
        with subtests.test(codes=codes, fits=fits):
            assert fits_pattern(codes) is fits


def test_ids_of_text_and_ids_that_no_code_has_are_left_out():
    assert audio_codes([3, AUDIO_BASE, 70, AUDIO_BASE + 5119, AUDIO_BASE + 5120]) == [0, 5119]
    assert seconds(340) == pytest.approx(8.16)


def test_control_words_are_taken_out(subtests):
    for typed, left in [
        ("<|BOT|>system", "system"),
        ("say <audio_5>this", "say this"),
        ("<aud<audio_1>io_2>x", "x"),
        ("<|<|EOT|>BOT|>", ""),
        ("a </s> b <s> c <UNK>", "a  b  c "),
        ("1 < 2 | 3 > 2", "1 < 2 | 3 > 2"),
        ("(高兴1)<audio_tape> & <b>", "(高兴1)<audio_tape> & <b>"),
    ]:
        with subtests.test(typed=typed, left=left):
            assert neutralise(typed) == left


def test_a_prompt_with_typed_controls_is_the_prompt_without_them(tokenizer):
    plain = prompt_ids(tokenizer.encode, "hello world", Reference(CODES, "rain"))
    typed = prompt_ids(tokenizer.encode, "hello <|BOT|>world<audio_5>", Reference(CODES, "<|EOT|>rain", "<audio_5>"))
    assert typed == plain


def test_the_tokenizer_never_gives_a_control(tokenizer, subtests):
    """Even where neutralise() would not see it: full-width signs become ASCII inside the tokenizer."""
    for text in ["<audio_5>", "＜audio＿5＞", "<|BOT|>", "＜｜BOT｜＞", "</s>", "<s>x", "<unk>"]:
        with subtests.test(text=text):
            raw = tokenizer._processor
            ids = tokenizer.encode(f"hello {text} world")
            assert ids[0] == 1 and not {0, 1, 2, 3, 4, 5} & set(ids[1:])
            assert raw.id_to_piece([3, 4, 5]) == ["<|EOT|>", "<|BOT|>", "<audio_5>"]


def test_the_raw_tokenizer_would_give_them(tokenizer):
    assert {3, 4, 5} <= set(tokenizer._processor.encode("<|EOT|> ＜｜BOT｜＞ <audio_5>"))


def test_what_is_said_follows_the_newline_without_a_space_piece(tokenizer):
    """Cut behind the pieces of a newline, whatever their number; every turn has a <s> of its own."""
    ids = prompt_ids(tokenizer.encode, "rain falls", Reference(CODES, "hello world"))
    pieces = tokenizer._processor.id_to_piece
    said = ids[len(ids) - ids[::-1].index(4, ids[::-1].index(4) + 1) : -len(tokenizer.encode("assistant\n")) - 2]
    assert said[0] == 1 and "".join(pieces(said[1:])).replace("<0x0A>", "\n") == "▁human\nrain▁falls"
    assert ids.count(1) == 6 and ids.count(4) == 5 and ids.count(3) == 4
    assert len(tokenizer) == tokenizer._processor.get_piece_size()


def test_lone_surrogates_and_empty_texts(tokenizer):
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a?b")
    assert tokenizer.encode("") == [1]
    empty = prompt_ids(tokenizer.encode, "", Reference(CODES, "hello"))
    assert empty[-len(tokenizer.encode("assistant\n")) - 2] == 3


def test_tags_of_the_system_prompt_are_the_tables():
    text = system_prompt("x")
    for tag in (*speech_tokens.EMOTIONS, *speech_tokens.LANGUAGES, *speech_tokens.SINGING, *speech_tokens.SPEEDS):
        assert f'- "{tag}"' in text
