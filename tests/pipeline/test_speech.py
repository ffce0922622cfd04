"""A rule-made Step-Audio-TTS folder in the public layout goes from text to a wave, whole, streamed and int8."""

import shutil
from dataclasses import replace

import pytest
import torch

from models.speech_sampling import SamplingSettings
from models.voice import write_voice
from studio.checkpoints.quantize import quantize
from studio.errors import Cancelled, InputError, ModelMissing, StudioError
from studio.memory.plan import Budgets, RuntimeConfig, WeightMode
from studio.pipeline import speech
from studio.pipeline.speech import SpeechLine, SpeechModel, pieces, ready_voices, speech_folders, weight
from studio.units import GB
from tests.tiny_speech import tiny_voice, write_speech_folder

NAME = "step-audio-tts"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_speech_folder(folder / NAME)
    (folder / speech.VOICES).mkdir()
    for seed, name in enumerate(("anna", "bo"), start=1):
        write_voice(folder / speech.VOICES / f"{name}.safetensors", tiny_voice(seed))
    return folder


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(speech, "SENTENCE_SECONDS", 0.36)  # three groups: the rule-made model seldom ends by itself


def opened(folder, offload="auto", weights=WeightMode.NONE):
    config = RuntimeConfig(torch.device("cpu"), torch.float32, Budgets(0, 8 * GB), offload=offload, weights=weights)
    return SpeechModel(speech_folders(NAME, folder, int8=weights.is_int8), ready_voices(folder), config)


LINES = [
    SpeechLine("hello world", "anna", ("高兴1",), seed=3),
    SpeechLine("你好世界。" * 30, "bo", seed=4),
    SpeechLine("rain falls", "anna", ("RAP",), seed=5),
]


def test_text_becomes_the_same_wave_under_every_plan(stored, tmp_path):
    seen = []
    whole = opened(stored).speak(LINES, report=lambda *what: seen.append(what))
    assert [line.sample_rate for line in whole] == [22050] * 3
    assert all(line.wave.ndim == 1 and line.wave.abs().max() > 1e-3 for line in whole)
    assert len(whole[1].wave) > len(whole[0].wave) * 1.9  # two pieces and a pause
    assert {phase for phase, _, _ in seen} == {"codes", "mel", "wave"} and all(done <= of for _, done, of in seen)
    streamed = opened(stored, offload="disk").speak(LINES)
    assert all(torch.equal(one.wave, other.wave) for one, other in zip(whole, streamed, strict=True))
    (again,) = opened(stored).speak(LINES[:1])
    (other,) = opened(stored).speak([replace(LINES[0], seed=4)])
    assert torch.equal(again.wave, whole[0].wave) and not torch.equal(other.wave, whole[0].wave)
    quantize(speech_folders(NAME, stored), lambda text: None)
    small = [opened(stored, offload, WeightMode.INT8).speak(LINES[:1])[0].wave for offload in ("auto", "disk")]
    assert torch.equal(*small)


def test_what_is_typed_as_a_control_word_says_nothing_else(stored):
    plain, typed = (SpeechLine(text, "anna", seed=1) for text in ("hello world", "hello <|EOT|><audio_5>world<s>"))
    one, other = opened(stored).speak([plain, typed])
    assert torch.equal(one.wave, other.wave)


def test_what_cannot_be_spoken_is_a_sentence(stored, tmp_path, monkeypatch):
    model = opened(stored)
    with pytest.raises(InputError, match="no voice 'nobody'; the voices are: anna, bo"):
        model.speak([SpeechLine("hello", "nobody")])
    with pytest.raises(Cancelled):
        model.speak(LINES, cancelled=lambda: True)
    with pytest.raises(ModelMissing, match="download step-audio-tts"):
        speech_folders(NAME, tmp_path)
    monkeypatch.setattr(speech, "MAX_LENGTH", 20)
    with pytest.raises(StudioError, match="could not say this .*20 positions"):
        model.speak(LINES[:1])
    shutil.copytree(stored / NAME, tmp_path / NAME, ignore=shutil.ignore_patterns("*Music", "int8"))
    config = RuntimeConfig(torch.device("cpu"), torch.float32, Budgets(0, 8 * GB))
    without = SpeechModel(speech_folders(NAME, tmp_path), ready_voices(stored), config)
    with pytest.raises(InputError, match="Rap and humming need"):
        without.speak(LINES[2:])
    assert SamplingSettings().pattern and ready_voices(tmp_path) == {}


def test_long_lines_are_cut_where_a_reader_would_breathe():
    for text in ("你好。" * 80, "One sentence is here. " * 60, "字" * 450, "word, " * 200, "a" * 2000):
        found = pieces(text)
        assert len(found) > 1 and all(weight(piece) <= speech.SENTENCE_WEIGHT for piece in found)
        assert "".join("".join(found).split()) == "".join(text.split())
    assert pieces("Pi is 3.14. Yes!") == ["Pi is 3.14. Yes!"] and pieces(" ... ") == []
