"""`voice`: what the official code keeps of a speaker becomes a voice here; anything else is a sentence."""

from pathlib import Path

import pytest
import torch

from app import main
from models.speech_tokens import AUDIO_BASE
from models.voice import read_voice
from studio.pipeline.speech import ready_voices
from tests.tiny_speech import tiny_voice


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return print, ("a pickle was executed",)


def official(**changes: object) -> dict[str, object]:
    """An entry of tts.speakers_info, of tiny sizes; keys and types as in tts.py."""
    voice = tiny_voice()
    codes = (voice.codes + AUDIO_BASE).tolist()
    made = {
        "prompt_text": "你好",
        "prompt_code": codes,
        "cosy_speech_feat": voice.mel[None].bfloat16(),
        "cosy_speech_feat_len": torch.tensor([len(voice.mel)]),
        "cosy_speech_embedding": voice.embedding[None].bfloat16(),
        "cosy_prompt_token": torch.tensor([codes]) - AUDIO_BASE,
        "cosy_prompt_token_len": torch.tensor([len(codes)]),
    }
    return made | changes


def test_a_voice_of_the_official_code_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, models = tmp_path / "anna.pt", ["--model-dir", str(tmp_path / "models")]
    torch.save(official(), file)
    assert main(["voice", "anna", str(file), "--speaker", "Tingting", *models]) == 0
    path, voice = ready_voices(tmp_path / "models")["anna"], tiny_voice()
    assert str(path) in capsys.readouterr().out
    kept = read_voice(path)
    assert torch.equal(kept.codes, voice.codes) and (kept.transcript, kept.speaker) == ("你好", "Tingting")
    assert torch.equal(kept.mel, voice.mel.bfloat16().half().float())
    assert torch.equal(kept.embedding, voice.embedding.bfloat16().float())

    cases: list[tuple[object, str, str]] = [
        (official(), "anna", "exists already"),
        (official(), "robot", "'robot' cannot be the name of a voice"),
        (official(), "../anna", "'../anna' cannot be the name of a voice"),
        (official(prompt_text=" "), "b", "its transcript has 1 characters"),
        (official(prompt_code=[AUDIO_BASE, 3]), "b", "its codes are no whole groups"),
        (official(prompt_code="12"), "b", "is no voice: "),
        (official(cosy_speech_feat=3), "b", "is no voice: "),
        (official(cosy_speech_feat=torch.zeros(1, 4, 16) / 0), "b", "its mel has numbers that are not finite"),
        ({"prompt_text": "a"}, "b", "it lacks prompt_code, cosy_speech_feat, cosy_speech_embedding"),
        ([1], "b", "it lacks prompt_code"),
        (official(more=Trap()), "b", "is no file of torch.save with plain data"),
    ]
    wrong = []
    for content, name, sentence in cases:
        torch.save(content, file)
        code, said = main(["voice", name, str(file), *models]), capsys.readouterr()
        if code not in (1, 2) or sentence not in said.err or "executed" in said.out:
            wrong.append(f"{name}: {code} {said.err}")
    for data, sentence in ((b"no pickle", "is no file of torch.save"), (bytes(5 << 20), "is larger than")):
        file.write_bytes(data)
        if main(["voice", "b", str(file), *models]) not in (1, 2) or sentence not in (said := capsys.readouterr().err):
            wrong.append(said)
    assert main(["voice", "b", str(tmp_path), *models]) != 0
    assert "cannot be read: Is a directory" in capsys.readouterr().err
    assert not wrong, "\n".join(wrong)
    assert list(ready_voices(tmp_path / "models")) == ["anna"]
    torch.save(official(prompt_text="new"), file)
    assert main(["voice", "anna", str(file), "--overwrite", *models]) == 0
    assert read_voice(path).transcript == "new"
