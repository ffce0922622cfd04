"""Voice files: written and read without loss, and nothing else is taken for one."""

import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import CheckpointError
from models.flow import FlowParams
from models.voice import Voice, read_voice, write_voice
from tests.tiny_speech import tiny_voice


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "someone.safetensors"
    write_voice(path, replace(tiny_voice(), transcript="你好，世界\n(2)", speaker="Tingting"))
    return path


def _words(path):
    raw = path.read_bytes()
    return json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]


def _rewrite(path, tensors=None, **words):
    save_file(load_file(path) | (tensors or {}), path, {**_words(path), **words})


def test_a_voice_comes_back_as_it_was(path):
    voice, back = tiny_voice(), read_voice(path)
    assert torch.equal(back.codes, voice.codes) and back.codes.dtype == torch.int64
    assert torch.equal(back.mel, voice.mel) and torch.equal(back.embedding, voice.embedding)
    assert (back.transcript, back.speaker) == ("你好，世界\n(2)", "Tingting")
    assert back.reference.codes == tuple(voice.codes.tolist())
    assert not path.with_name(f"{path.name}.tmp").exists()


def test_four_seconds_take_less_than_100_kb(path):
    """33 groups, 344 frames of 80 channels."""
    voice = Voice(tiny_voice(groups=33).codes, torch.randn(344, 80), torch.randn(192), "words")
    write_voice(path, voice)
    assert path.stat().st_size < 100_000
    read_voice(path).check(FlowParams())


def test_a_voice_for_other_networks_is_told():
    with pytest.raises(ValueError, match="16 mel channels and an embedding of 24; .* 80 and 192"):
        tiny_voice().check(FlowParams())


def test_a_voice_that_cannot_be_is_refused(subtests):
    for change, word in [
        ({"codes": torch.tensor([1, 2, 1030, 1030])}, "whole groups"),
        ({"codes": torch.tensor([1, 2, 3, 1030, 1030])}, "whole groups"),
        ({"codes": torch.tensor([1, 2, 1030, 1030, 5120])}, "whole groups"),
        ({"codes": torch.zeros(0, dtype=torch.int64)}, "whole groups"),
        ({"codes": tiny_voice(groups=1).codes.int()}, "whole groups"),
        ({"codes": tiny_voice(groups=1).codes.repeat(251)}, "30.1 s of codes"),
        ({"mel": torch.zeros(0, 16)}, "mel has shape"),
        ({"mel": torch.full((9, 16), torch.nan)}, "not finite"),
        ({"embedding": torch.zeros(24)}, "embedding is zero"),
        ({"embedding": torch.ones(1, 24)}, "embedding has shape"),
        ({"transcript": " <|EOT|> "}, "transcript has 9"),
        ({"transcript": "a" * 2001}, "2001 characters"),
    ]:
        with subtests.test(change=change, word=word):
            with pytest.raises(ValueError, match=word):
                replace(tiny_voice(), **change)


@pytest.mark.parametrize(
    "tensors, words, sentence",
    [
        ({}, {"kind": "something"}, "a something of version 1"),
        ({}, {"version": "2"}, "step-audio-voice of version 2"),
        ({}, {"more": "x"}, "metadata are not"),
        ({"more": torch.zeros(1)}, {}, "instead of codes int16"),
        ({"codes": torch.zeros(5)}, {}, "instead of codes int16"),
        ({"codes": torch.tensor([1, 2, 3, 4, 5], dtype=torch.int16)}, {}, "whole groups"),
        ({"mel": torch.full((3, 16), torch.inf).half()}, {}, "not finite"),
    ],
)
def test_files_that_are_no_voice_are_told(path, tensors, words, sentence):
    _rewrite(path, tensors, **words)
    with pytest.raises(CheckpointError, match=sentence):
        read_voice(path)


def test_damaged_and_foreign_files_are_told(path, tmp_path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(CheckpointError, match="cut short"):
        read_voice(path)
    save_file({"codes": torch.zeros(5, dtype=torch.int16)}, path)
    with pytest.raises(CheckpointError, match="metadata are not"):
        read_voice(path)
    path.write_bytes(whole + bytes(5 << 20))
    with pytest.raises(CheckpointError, match="is no voice"):
        read_voice(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_voice(tmp_path / "nobody.safetensors")
    (tmp_path / "voice.bin").write_bytes(whole)
    with pytest.raises(CheckpointError, match="is no voice"):
        read_voice(tmp_path / "voice.bin")


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(fd):
        raise OSError("No space left on device")

    monkeypatch.setattr("models.voice.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_voice(path, tiny_voice(seed=2))
    assert path.read_bytes() == before
