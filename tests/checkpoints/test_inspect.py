"""Inspect: what a folder holds and every defect, in plain words, without reading weights."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from app import main
from models.layout import COMPONENTS, SPEECH
from studio.checkpoints.download_record import DownloadRecord
from studio.checkpoints.inspect import inspect
from studio.config import ROOT
from studio.nano.checkpoint import write_checkpoint
from tests.tiny import TINY
from tests.tiny_speech import write_speech_folder

DIT_FILE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("stored"), TINY, dtype=torch.bfloat16)


@pytest.fixture
def folder(stored, tmp_path):
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def test_a_whole_folder(stored):
    report = inspect(stored)
    assert report.ok and [part.component for part in report.parts] == list(COMPONENTS)
    assert report.family == "Step-Video T2V or Turbo"
    for part in report.parts:
        assert part.present and part.dtypes == ("bfloat16",) and part.nbytes == 2 * part.parameters and part.files == 1
    text = "\n".join(report.lines())
    assert f"{report.parts[0].parameters:,} parameters" in text and str(stored) in text


def test_image_to_video_is_told_from_text_to_video(tmp_path):
    write_checkpoint(tmp_path, TINY, use_additional_conditions=True, shards=2)
    report = inspect(tmp_path)
    assert report.ok and report.family == "Step-Video TI2V" and report.parts[0].files == 2


def test_turbo_is_told_by_its_folder_or_its_download(stored, tmp_path):
    folder = Path(shutil.copytree(stored, tmp_path / "step-video-t2v-turbo"))
    assert inspect(folder).family == "Step-Video T2V Turbo (by the folder's name)"
    folder = Path(shutil.copytree(stored, tmp_path / "elsewhere"))
    DownloadRecord("hf", "stepfun-ai/stepvideo-t2v-turbo").note(folder, DIT_FILE, "0" * 64)
    assert inspect(folder).family == "Step-Video T2V Turbo (downloaded from stepfun-ai/stepvideo-t2v-turbo)"


def test_a_part_that_the_yaml_takes_from_another_folder_is_not_missing(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "step-video-t2v")
    folder = tmp_path / "step-video-t2v-turbo"
    shutil.copytree(stored / "transformer", folder / "transformer")
    report = inspect(folder)
    assert report.ok and report.parts[1].elsewhere == tmp_path / "step-video-t2v"
    (tmp_path / "step-video-t2v" / "step_llm" / "model.safetensors").unlink()
    assert not inspect(folder).ok


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _config(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DEFECTS = [
    ("transformer", lambda f: _cut(f / DIT_FILE), "cut short"),
    ("transformer", lambda f: shutil.rmtree(f / "transformer"), "transformer is missing"),
    ("transformer", lambda f: _config(f / "transformer/config.json", num_layers=3), "lacks 16 tensors"),
    ("transformer", lambda f: _config(f / "transformer/config.json", num_layers="x"), "describes no transformer"),
    ("step_llm", lambda f: _config(f / "step_llm/config.json", ffn_hidden_size=32), "has shape"),
    ("step_llm", lambda f: (f / "step_llm/step1_chat_tokenizer.model").unlink(), "tokenizer.model is missing"),
    ("step_llm", lambda f: _cut(f / "step_llm/step1_chat_tokenizer.model"), "no tokenizer"),
    (
        "step_llm",
        lambda f: (f / "step_llm/step1_chat_tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1"),
        "Git-LFS pointer",
    ),
    ("clip", lambda f: (f / "hunyuan_clip/tokenizer/vocab.txt").write_text("a\nb\n"), "no tokenizer"),
    ("clip", lambda f: (f / "hunyuan_clip/clip_text_encoder/config.json").write_text("{}"), "clip"),
    ("vae", lambda f: (f / "vae/config.json").unlink(), "has shape|tensors"),
    ("vae", lambda f: (f / "vae/vae_v2.safetensors").rename(f / "vae/vae.safetensors"), "has no weights"),
]


def test_every_defect_is_told_at_its_component(stored, tmp_path):
    for number, (component, break_it, sentence) in enumerate(DEFECTS):
        folder = Path(shutil.copytree(stored, tmp_path / str(number)))
        break_it(folder)
        report = inspect(folder)
        assert [part.component for part in report.parts if part.problems] == [component] and not report.ok
        assert re.search(sentence, "\n".join(report.lines())), sentence


def test_every_broken_shard_is_told(tmp_path):
    write_checkpoint(tmp_path, TINY, shards=3)
    shards = sorted((tmp_path / "step_llm").glob("*.safetensors"))
    for shard in shards[:2]:
        _cut(shard)
    (problems,) = [part.problems for part in inspect(tmp_path).parts if part.problems]
    assert len(problems) == 2 and all(shard.name in problem for shard, problem in zip(shards, problems, strict=False))


def test_no_folder_and_an_empty_one(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        report = inspect(folder)
        assert not report.ok and report.family == "no Step-Video transformer"
        assert all(part.problems for part in report.parts)


def test_weights_are_not_read(folder, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("weights were read")

    monkeypatch.setattr("models.checkpoint.read_into", refuse)
    assert inspect(folder).ok


def test_command_line(stored, folder, capsys):
    assert main(["inspect", str(stored)]) == 0
    _cut(folder / DIT_FILE)
    assert main(["inspect", str(folder)]) == 1
    assert "cut short" in capsys.readouterr().out


@pytest.mark.skipif(not (ROOT / "assets/nano/ti2v").is_dir(), reason="the nano checkpoint is not in the repository yet")
def test_nano_is_whole():
    assert inspect(ROOT / "assets/nano/ti2v").ok and inspect(ROOT / "assets/nano/turbo").ok


def test_a_folder_that_speaks_is_known_with_each_of_its_defects(tmp_path):
    whole = write_speech_folder(tmp_path / "whole")
    report = inspect(whole)
    assert report.ok and report.family == "Step-Audio-TTS" and [part.component for part in report.parts] == list(SPEECH)
    assert report.parts[1].dtypes == ("float32",) and report.parts[0].parameters > 4 * 10**6
    defects = {
        "step_audio_llm": [
            (lambda f: (f / "tokenizer.model").unlink(), "tokenizer.model is missing"),
            (lambda f: (f / "tokenizer.model").write_bytes(b"x" * 500), "is no tokenizer"),
            (lambda f: _cut(f / "model-00001.safetensors"), "cut short"),
            (lambda f: _config(f / "config.json", num_hidden_layers=3), "lacks 9 tensors"),
            (lambda f: (f / "config.json").write_text("{"), "config.json"),
        ],
        "flow": [
            (lambda f: (f / "CosyVoice-300M-25Hz/flow.pt").unlink(), "flow.pt or flow.pt.index.json is missing"),
            (lambda f: (f / "CosyVoice-300M-25Hz/flow.pt").write_bytes(b"PK\3\4"), "flow.pt"),
            (lambda f: shutil.rmtree(f / "CosyVoice-300M-25Hz"), "CosyVoice-300M-25Hz is missing"),
        ],
        "hift": [(lambda f: (f / "CosyVoice-300M-25Hz/cosyvoice.yaml").unlink(), "cosyvoice.yaml")],
    }
    for component, cases in defects.items():
        for number, (damage, sentence) in enumerate(cases):
            folder = Path(shutil.copytree(whole, tmp_path / f"{component}{number}"))
            damage(folder)
            report = inspect(folder)
            (problems,) = [part.problems for part in report.parts if part.component == component]
            assert not report.ok and report.family == "Step-Audio-TTS" and sentence in " ".join(problems), sentence
