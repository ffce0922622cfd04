"""Token ids: the golden ids of the real tokenizers, the official lengths, and transformers' own BERT tokenizer."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from models.tokenizers import ClipTokenizer, StepTokenizer

CHECKPOINT = Path(__file__).resolve().parents[2] / ".." / "shared" / "checkpoint"
pytestmark = pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="the real tokenizers are not beside the repository")


@pytest.fixture(scope="module")
def golden():
    return json.loads((CHECKPOINT / "golden_tokenizer.json").read_text())


@pytest.fixture(scope="module")
def step():
    return StepTokenizer(CHECKPOINT / "t2v" / "step_llm")


@pytest.fixture(scope="module")
def clip():
    return ClipTokenizer(CHECKPOINT / "t2v" / "hunyuan_clip" / "tokenizer")


def test_sizes_are_those_of_the_networks(step, clip):
    assert (len(step), len(clip)) == (65_536, 47_020)


def test_golden_ids(golden, step, clip):
    for case in golden.values():
        got = step.encode(case["text"])
        assert got.ids == (1, *case["step_llm_ids_raw"], 2)
        assert (got.valid, got.cut) == (case["step_llm_valid_len"], 0)
        whole, got = case["bert_ids_untruncated"], clip.encode(case["text"])
        kept = whole if len(whole) <= 77 else [*whole[:76], 102]
        assert (list(got.ids), got.cut) == (kept, len(whole) - len(kept))


def test_empty_text(step, clip):
    assert step.encode("").ids == (1, 2)
    assert clip.encode("").ids == (101, 102)


def test_long_text_is_cut_at_its_end_and_counted(step, clip):
    text = "月球上的宇航员。" * 200
    for tokenizer, length in ((step, 320), (clip, 77)):
        whole, got = tokenizer.encode(text, 10**6), tokenizer.encode(text)
        assert got.valid == length and whole.cut == 0
        assert got.ids == (*whole.ids[: length - 1], whole.ids[-1])
        assert got.cut == whole.valid - length


def test_padding(step, clip):
    for tokenizer, length, pad in ((step, 320, 2), (clip, 77, 0)):
        got = tokenizer.encode("笑起来")
        ids, mask = got.padded()
        assert len(ids) == len(mask) == length and sum(mask) == got.valid
        assert ids[: got.valid] == list(got.ids) and set(ids[got.valid :]) == {pad}


def test_typed_control_words_are_plain_text_for_the_language_model(step):
    ids = step.encode("<|BOT|><s></s>").ids[1:-1]
    assert not set(ids) & {1, 2, 4}


def test_a_lone_surrogate_is_a_question_mark(step, clip):
    for tokenizer in (step, clip):
        assert tokenizer.encode("a\ud800b").ids == tokenizer.encode("a?b").ids


@pytest.fixture(scope="module")
def official(clip):
    return BertTokenizer.from_pretrained(CHECKPOINT / "t2v" / "hunyuan_clip" / "tokenizer")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text("aÀé字㐀 \t\n\x00#[]SEPCLUNK.，👍0️⃣", max_size=30)))
def test_clip_ids_are_those_of_transformers(clip, official, text):
    assert list(clip.encode(text).ids) == official(text, truncation=True, max_length=77)["input_ids"]
