"""Words that are drawn on submitting: by the seed alone, recorded, and refused with a sentence where they cannot be."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.config import load_wildcards
from studio.errors import InputError
from studio.settings import GenerationSettings
from studio.wildcards import expand, has_wildcards, with_seed, with_words_drawn

LISTS = {"animal": ("cat", "dog", "__bird__"), "bird": ("owl", "{blue |}tit"), "动物": ("猫", "狗")}


def test_what_may_be_drawn_is_drawn_and_all_of_it_sometimes() -> None:
    for prompt, allowed in (
        ("a {red|blue} ball", {"a red ball", "a blue ball"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("one __animal__", {"one cat", "one dog", "one owl", "one blue tit", "one tit"}),
        ("一只__动物__", {"一只猫", "一只狗"}),
        ("{|very }big", {"big", "very big"}),
    ):
        drawn = {expand(prompt, seed, LISTS) for seed in range(200)}
        assert drawn == allowed, prompt


def test_what_is_no_wildcard_stays() -> None:
    for prompt in ("a {red} ball", "snake_case and __", "{", "a|b", "}{|", "____"):
        assert expand(prompt, 1, LISTS) == prompt and not has_wildcards(prompt)


@given(st.text("ab{|}_", max_size=40), st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_the_seed_decides_and_nothing_is_left(prompt: str, seed: int) -> None:
    try:
        words = expand(prompt, seed, {"a": ("b",)})
    except InputError as error:
        assert error.code in ("wildcard_unknown", "wildcard_endless") and str(error)
        return
    assert words == expand(prompt, seed, {"a": ("b",)}) and not has_wildcards(words)


def test_the_same_seed_draws_the_same_in_every_version_of_python() -> None:
    assert [expand("{a|b|c|d}", seed, {}) for seed in range(8)] == list("dbbaaadb")


def test_what_was_typed_is_recorded_and_drawn_once() -> None:
    asked = with_words_drawn(GenerationSettings("nano", "a {red|blue} circle", seed=5), LISTS)
    assert asked.prompt_template == "a {red|blue} circle" and asked.prompt in ("a red circle", "a blue circle")
    assert with_words_drawn(asked, LISTS) is asked
    without = with_words_drawn(GenerationSettings("nano", "__bird__"), LISTS)
    assert without.seed is not None and without.prompt == expand("__bird__", without.seed, LISTS)
    plain = GenerationSettings("nano", "a circle")
    assert with_words_drawn(plain, LISTS) is plain, "its seed is still to be drawn"


def test_another_seed_draws_its_own_words_and_leaves_a_plain_prompt() -> None:
    first = with_words_drawn(GenerationSettings("nano", "a {red|blue} __animal__", seed=5), LISTS)
    for seed in range(20):
        other = with_seed(first, seed, LISTS)
        assert (other.seed, other.prompt_template) == (seed, first.prompt_template)
        assert other.prompt == expand(first.prompt_template, seed, LISTS)
    drawn = {with_seed(first, None, LISTS).seed for _ in range(3)}
    assert None not in drawn and len(drawn) == 3
    assert with_seed(GenerationSettings("nano", "a circle"), 7, {}) == GenerationSettings("nano", "a circle", seed=7)
    with pytest.raises(InputError, match="__animal__"):
        with_seed(first, 1, {})


def test_an_unknown_list_and_one_without_end_are_sentences() -> None:
    for prompt, lists, code in (
        ("__fish__", LISTS, "wildcard_unknown"),
        ("__a__", {"a": ("__a__",)}, "wildcard_endless"),
        ("__a__", {"a": ("__a__ __a__" * 99,)}, "wildcard_endless"),
    ):
        with pytest.raises(InputError) as caught:
            expand(prompt, 1, lists)
        assert caught.value.code == code and str(caught.value)


def test_a_list_of_ones_own_wins_and_a_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    assert {"colour", "颜色"} <= set(load_wildcards(tmp_path / "absent"))
    (tmp_path / "colour.txt").write_text("# mine\n\n  teal \nplum\n", encoding="utf-8")
    (tmp_path / "no list.txt").write_text("x", encoding="utf-8")
    lists = load_wildcards(tmp_path)
    assert lists["colour"] == ("teal", "plum") and "no list" not in lists
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="bad.txt"):
        load_wildcards(tmp_path)
