"""Drawing ids: the recorded bans, the 2:3 pattern, seeds, and where a take ends."""

import math

import pytest
import torch

from models.speech_sampling import Sampler, SamplingSettings, Take, banned_id, decode, pattern_mask
from models.speech_tokens import AUDIO_BASE, AUDIO_CODES, END_OF_TURN, fits_pattern
from models.step_audio_llm import KVCache, StepAudioLLM, StepAudioLLMParams
from tests.golden.audio.rule import PARITY, TOKENS, fill, golden, normal

VOCABULARY = AUDIO_BASE + AUDIO_CODES + 7
OFFICIAL, FREE = SamplingSettings(), SamplingSettings(pattern=False)


def _logits(place, ending=-20.0):
    """Logits by rule for the id at `place`; `ending` is the end's."""
    logits = normal(f"logits.{place}", (VOCABULARY,))
    logits[END_OF_TURN] = ending
    return logits


def _take(seed, settings=OFFICIAL, prompt=(1, 4), max_length=62, ending_at=None):
    take = Take(prompt, Sampler(settings, seed, VOCABULARY), max_length)
    seen = []

    def step(ids):
        seen.append(ids[0].tolist())
        place = len(take.drawn)
        return _logits(place, ending=99.0 if place == ending_at else -20.0)

    assert list(decode(step, take)) == take.drawn
    return take, seen


def test_bans_as_recorded(subtests):
    for case in TOKENS["repetition_aware"]:
        with subtests.test(case=case):
            banned = banned_id(case["ids"])
            assert ([] if banned is None else [banned]) == case["banned"]


@torch.no_grad()
def test_greedy_take_with_the_ban_as_recorded():
    case, recorded = PARITY["step1_llm"], golden("step1_llm")
    network = fill(StepAudioLLM(StepAudioLLMParams.from_config(case["config"])), case["keys"])
    prompt = recorded["input_ids"][0, : case["prefill"]].tolist()
    cache = KVCache(network.params, len(prompt) + 48)
    sampler = Sampler(SamplingSettings(temperature=0, pattern=False), seed=0, vocabulary=320)
    take = Take(prompt, sampler, len(prompt) + 48)
    list(decode(lambda ids: network(ids, cache, last=True)[0, -1], take))
    assert take.drawn == recorded["greedy_repetition_aware"].tolist()


def test_every_take_fits_the_pattern_and_seeds_decide():
    takes = {seed: _take(seed)[0].drawn for seed in range(4)}
    assert all(fits_pattern([i - AUDIO_BASE for i in ids]) and len(ids) == 60 for ids in takes.values())
    assert len({tuple(ids) for ids in takes.values()}) == 4
    assert takes == {seed: _take(seed)[0].drawn for seed in range(4)}


def test_without_the_pattern_text_may_be_drawn():
    drawn = _take(0, FREE)[0].drawn
    assert len(drawn) == 60 and any(i < AUDIO_BASE for i in drawn)


def test_an_end_comes_after_whole_groups_only(subtests):
    for ending_at, length in [(0, 1), (5, 6), (7, 60), (10, 11)]:
        with subtests.test(ending_at=ending_at, length=length):
            take, _ = _take(3, ending_at=ending_at)
            assert len(take.drawn) == length and take.complete is (length != 60)
            assert END_OF_TURN not in take.drawn[:-1] and (take.drawn[-1] == END_OF_TURN) is take.complete


def test_a_cut_take_has_whole_groups(subtests):
    for settings, ended in [(OFFICIAL, 10), (FREE, 13)]:
        with subtests.test(settings=settings, ended=ended):
            take, _ = _take(0, settings, max_length=15)
            assert len(take.drawn) == ended and not take.complete and take.ended


def test_the_network_sees_the_prompt_once_and_then_each_id_but_the_last():
    take, seen = _take(0, prompt=(1, 4, 9))
    assert seen[0] == [1, 4, 9] and [ids[0] for ids in seen[1:]] == take.drawn[:-1]


def test_a_prompt_that_leaves_no_room_is_refused(subtests):
    for prompt, max_length in [((), 100), ((1,) * 96, 100)]:
        with subtests.test(prompt=prompt, max_length=max_length):
            with pytest.raises(ValueError, match=f"{len(prompt)} tokens"):
                Take(prompt, Sampler(FREE, 0, VOCABULARY), max_length)


def test_masks_hold_exactly_the_codes_of_their_place():
    for place in range(10):
        allowed = set(torch.nonzero(pattern_mask(place, VOCABULARY))[:, 0].tolist())
        codes = set(range(AUDIO_BASE, AUDIO_BASE + 1024))
        if place % 5 >= 2:
            codes = set(range(AUDIO_BASE + 1024, AUDIO_BASE + 5120))
        assert allowed == codes | ({END_OF_TURN} if place % 5 == 0 else set())


def test_draws_follow_the_softmax_of_the_top_k():
    """Frequencies of 4,000 draws within 4 standard deviations; nothing outside of the top k."""
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0, -1.0])
    sampler = Sampler(SamplingSettings(temperature=0.5, top_k=3, pattern=False), 0, 5)
    draws = torch.tensor([sampler.draw(logits, [], 0) for _ in range(4000)])
    expected = torch.tensor([0, *(logits[1:4] / 0.5).softmax(0), 0])
    found = draws.bincount(minlength=5) / len(draws)
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / len(draws)).sqrt()).all()


def test_a_banned_id_is_not_drawn_and_not_among_the_top():
    logits = torch.tensor([5.0, 4.0, -5.0])
    sampler = Sampler(SamplingSettings(temperature=0, pattern=False), 0, 3)
    assert sampler.draw(logits, [0] * 10, 0) == 1 and sampler.draw(logits, [0] * 9, 0) == 0
    assert logits.tolist() == [5.0, 4.0, -5.0]


def test_logits_that_are_no_numbers_are_an_error(subtests):
    for value in [math.nan, -math.inf]:
        with subtests.test(value=value):
            with pytest.raises(ValueError, match="not numbers"):
                Sampler(FREE, 0, 5).draw(torch.full((5,), value), [], 0)


def test_settings_out_of_range_are_refused(subtests):
    for change in [{"temperature": -1}, {"temperature": math.inf}, {"top_k": 0}]:
        with subtests.test(change=change):
            with pytest.raises(ValueError, match="temperature of 0 or more"):
                SamplingSettings(**change)


def test_a_vocabulary_without_codes_is_refused():
    with pytest.raises(ValueError, match="65535"):
        Sampler(OFFICIAL, 0, 65535)
