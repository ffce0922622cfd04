"""Download, against a local server that speaks the hubs' protocols: whole, resumed, verified, stored once."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app import main
from models.layout import COMPONENTS, LAYOUT
from studio.checkpoints import download as module
from studio.checkpoints.download import download
from studio.checkpoints.download_record import is_whole, progress, read_download_record
from studio.checkpoints.hubs import HubFile
from studio.checkpoints.inspect import inspect
from studio.config import ROOT, load_models, load_studio
from studio.errors import InputError, ModelMissing, StudioError
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline.engine import EngineOptions, is_installed, open_tokenizers, tokenizer_folders
from studio.pipeline.estimate import Estimator
from tests.checkpoints.hub_server import COMMIT, serving
from tests.tiny import TINY
from tests.tiny_speech import write_speech_folder

REPO = "stepfun-ai/stepvideo-t2v"
TURBO = "stepfun-ai/stepvideo-t2v-turbo"
SHARD = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
CLIP = "hunyuan_clip/clip_text_encoder"
CLIP_FILE = f"{CLIP}/pytorch_model.bin"
CHUNK = 10_000  # the Hugging Face client keeps whole chunks of a broken connection
UNWANTED = ("vae/vae.safetensors", "lib/liboptimus.so", "hunyuan_clip/tokenizer/vocab_org.txt", "README.md")


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> dict[str, bytes]:
    """The files of a repository of the public layout, CLIP as a .bin, with files that nobody needs."""
    folder = write_checkpoint(tmp_path_factory.mktemp("repo"), TINY, shards=2)
    shards = sorted((folder / CLIP).glob("*.safetensors"))
    torch.save({name: tensor for shard in shards for name, tensor in load_file(shard).items()}, folder / CLIP_FILE)
    for path in (*shards, folder / CLIP / "model.safetensors.index.json"):
        path.unlink()
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files | dict.fromkeys(UNWANTED, b"nobody needs this")


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "HASH_BYTES", 1000)  # what counts as large, so that tiny shards are shared
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)  # as the shards, smaller than in life
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    with serving() as server:
        server.repos = {REPO: dict(content), TURBO: dict(content)}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        yield server


@pytest.fixture
def to(tmp_path) -> Path:
    return tmp_path / "checkpoints" / "step-video-t2v"


def _download(to: Path, name: str = "step-video-t2v", source: str = "hf", revision: str | None = None) -> str:
    lines: list[str] = []
    download(load_models()[name], source, to, lines.append, revision)
    return "\n".join(lines)


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_model_arrives_whole_and_without_what_nobody_needs(server, content, to, source):
    told = _download(to, source=source)
    assert inspect(to).ok and is_whole(to)
    for path, data in content.items():
        assert (to / path).exists() == (path not in UNWANTED)
        assert path in UNWANTED or (to / path).read_bytes() == data
    assert "tencent-hunyuan-community" in told and "Free:" in told and SHARD in told
    assert not any(path in server.sent for path in UNWANTED)


def test_the_tokenizers_come_alone_and_are_no_model(server, content, to):
    """They count a prompt's tokens; the disk that the model needs is as before, and the rest is fetched later."""
    model, estimator = (
        load_models()["step-video-t2v"],
        Estimator(load_studio(model_dir=to.parent), EngineOptions("cpu")),
    )
    need = estimator.missing_bytes(model)
    with pytest.raises(ModelMissing, match="step_llm, tokenizer"):
        tokenizer_folders(model, False, to.parent)
    download(model, "hf", to, print, tokenizers_only=True)
    names = {name for part in COMPONENTS for name in LAYOUT[part].tokenizer}
    assert len(names) == 3 and server.sent.keys() & content.keys() == names
    assert not is_installed(model, to.parent) and not is_whole(to) and progress(to)[1] == 0
    assert estimator.missing_bytes(model) == need > 0
    folders = tokenizer_folders(load_models()["step-video-ti2v"], True, to.parent)
    assert folders == {"step_llm": to, "clip": to}, "the other models read by the same ones"
    assert [encoder.encode("红色").cut for encoder in open_tokenizers(folders).values()] == [0, 0]
    _download(to)
    assert inspect(to).ok and is_whole(to)
    download(model, "hf", to, print, tokenizers_only=True)
    assert is_whole(to), "a whole model stays one"


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_second_run_fetches_nothing(server, to, source):
    _download(to, source=source)
    server.sent.clear()
    assert "To fetch: 0 files" in _download(to, source=source)
    assert not server.sent


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_broken_connection_is_resumed_where_it_broke(server, content, to, source):
    size = len(content[SHARD])
    server.breaks[SHARD] = [size // 2]
    _download(to, source=source)
    assert (to / SHARD).read_bytes() == content[SHARD]
    ((path, first),) = server.ranges
    assert path == SHARD and size // 2 - CHUNK < first <= size // 2 and server.sent[SHARD] < size + CHUNK


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_connection_that_is_reset_is_resumed(server, content, to, source):
    size = len(content[SHARD])
    server.resets[SHARD] = [size // 2]
    _download(to, source=source)
    assert (to / SHARD).read_bytes() == content[SHARD] and server.sent[SHARD] < 1.5 * size
    assert [path for path, _ in server.ranges] == [SHARD]


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_an_interrupted_run_is_resumed_by_the_next(server, content, to, monkeypatch, source):
    """The first run dies in the middle of a file; the second asks for the rest alone."""

    def die(*arguments, **options):
        raise KeyboardInterrupt

    size = len(content[SHARD])
    server.breaks[SHARD] = [size // 3]
    with monkeypatch.context() as patch:
        # The one client waits before it tries again; the other is told not to try.
        patch.setattr("huggingface_hub.file_download.time.sleep", die)
        patch.setattr("modelscope_hub._download.DOWNLOAD_RETRY_TIMES", 0)
        with pytest.raises((KeyboardInterrupt, StudioError)):
            _download(to, source=source)
    assert not (to / SHARD).exists()
    _download(to, source=source)
    assert (to / SHARD).read_bytes() == content[SHARD]
    ((path, first),) = server.ranges
    assert path == SHARD and size // 3 - CHUNK < first <= size // 3 and server.sent[SHARD] < size + CHUNK


@pytest.mark.parametrize("path", [SHARD, "transformer/config.json"])
def test_wrong_content_is_fetched_once_more_then_refused_and_removed(server, content, to, path):
    server.lies[path] = bytes(len(content[path]))
    with pytest.raises(StudioError, match="checksum") as caught:
        _download(to)
    assert caught.value.code == "download_checksum" and path in str(caught.value)
    assert not is_whole(to), "a model whose download is not finished is not installed"
    assert server.sent[path] == 2 * len(content[path]) and not (to / path).exists()
    del server.lies[path]
    _download(to)
    assert (to / path).read_bytes() == content[path]


def test_modelscope_content_is_verified_too(server, content, to):
    server.lies[SHARD] = bytes(len(content[SHARD]))
    with pytest.raises(StudioError, match="checksum"):
        _download(to, source="modelscope")
    assert not (to / SHARD).exists()


def test_a_file_that_was_changed_is_fetched_again(server, content, to):
    _download(to)
    changed = bytearray(content[SHARD])
    changed[-1] ^= 1
    (to / SHARD).write_bytes(changed)
    server.sent.clear()
    _download(to)
    assert server.sent == {SHARD: len(changed)} and (to / SHARD).read_bytes() == content[SHARD]


def test_files_put_there_by_hand_are_verified_and_kept(server, content, to):
    for path, data in content.items():
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_bytes(data)
    _download(to)
    assert not server.sent


def test_a_full_disk_is_told_with_sizes_before_anything_is_fetched(server, content, to, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(StudioError, match="0.00 GB free and 0.07 GB are needed") as caught:
        _download(to)
    assert caught.value.code == "disk_full" and not server.sent


def test_a_disk_that_fills_up_meanwhile_is_told(server, to, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.checkpoints.hubs.HuggingFace.fetch", full)
    with pytest.raises(StudioError) as caught:
        _download(to)
    assert caught.value.code == "disk_full"


def test_a_repository_without_a_needed_file(server, to):
    del server.repos[REPO]["vae/vae_v2.safetensors"]
    with pytest.raises(StudioError, match=r"lacks vae/vae_v2\*.safetensors"):
        _download(to)
    assert not server.sent


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_listed_file_that_is_not_there(server, to, source):
    server.hidden.add(SHARD)
    with pytest.raises(StudioError) as caught:
        _download(to, source=source)
    assert caught.value.code == "download_failed" and SHARD in str(caught.value)


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_repository_that_is_not_there(server, to, source):
    del server.repos[REPO]
    with pytest.raises(StudioError) as caught:
        _download(to, source=source)
    assert caught.value.code == "download_failed" and REPO in str(caught.value)


def test_a_model_without_a_source(to):
    with pytest.raises(InputError, match="nano has no files on hf"):
        _download(to, "nano")
    with pytest.raises(InputError):
        download(replace(load_models()["step-video-t2v"], sources={}), "modelscope", to, print)


@pytest.mark.parametrize("has_record", [True, False])
def test_files_that_another_model_has_are_stored_once(server, content, to, has_record):
    server.repos[TURBO][SHARD] = server.repos[TURBO][SHARD][:-1] + b"\x01"  # the one file that differs
    _download(to)
    if not has_record:  # a folder that something else put there
        (to / ".download.json").unlink()
    server.sent.clear()
    turbo = to.parent / "step-video-t2v-turbo"
    told = _download(turbo, "step-video-t2v-turbo")
    large = [path for path in server.sent if len(content[path]) >= 1000 and path.endswith((".safetensors", ".bin"))]
    assert large == [SHARD]
    assert (turbo / "vae/vae_v2.safetensors").samefile(to / "vae/vae_v2.safetensors")
    assert "shared with step-video-t2v" in told and not (turbo / SHARD).samefile(to / SHARD)
    assert read_download_record(turbo).repo == TURBO and inspect(turbo).ok


def test_without_hard_links_a_symbolic_one_serves_and_without_any_a_copy(server, to, monkeypatch):
    _download(to)
    for folder, missing in (("second", {"link"}), ("third", {"link", "symlink"})):
        with monkeypatch.context() as patch:
            for name in missing:
                patch.setattr(os, name, _refuse)
            _download(to.parent / folder)
        shared = to.parent / folder / "vae/vae_v2.safetensors"
        assert shared.is_symlink() == (folder == "second")
        assert shared.samefile(to / "vae/vae_v2.safetensors") == (folder == "second")
        assert inspect(to.parent / folder).ok


def _refuse(*arguments):
    raise OSError(1, "Operation not permitted")


def test_a_sibling_with_other_content_is_left_alone(server, content, to):
    other = to.parent / "other" / SHARD
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(len(content[SHARD])))
    _download(to)
    assert (to / SHARD).read_bytes() == content[SHARD] and other.read_bytes() == bytes(len(content[SHARD]))


OUTSIDE = (
    "transformer/x/../../../../ESCAPED.safetensors",
    "transformer/diffusion_pytorch_model/../../../ESCAPED.safetensors",
    "/tmp/ESCAPED.safetensors",
    "transformer/diffusion_pytorch_model-/ESCAPED.safetensors",
    "transformer\\..\\..\\ESCAPED.safetensors",
    "C:/transformer/ESCAPED.safetensors",
    "../transformer/diffusion_pytorch_model-ESCAPED.safetensors",
    "transformer//diffusion_pytorch_model-ESCAPED.safetensors",
    "transformer/./diffusion_pytorch_model-ESCAPED.safetensors",
    "transformer/diffusion_pytorch_model-\x1b[2JESCAPED.safetensors",
    "transformer/diffusion_pytorch_model-\u202eESCAPED.safetensors",
    f"transformer/diffusion_pytorch_model-{'x' * 300}ESCAPED.safetensors",
)


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_listing_writes_nothing_outside_its_folder(server, content, to, tmp_path, source):
    """A path that leads out, on any system, refuses the whole repository before a byte is fetched."""
    wrong = []
    for path in OUTSIDE:
        server.repos[REPO] = {**content, path: b"escaped"}
        try:
            _download(to, source=source)
        except StudioError as error:
            refused = error.code == "download_path"
        else:  # no component of it fits a file that is wanted: it is left alone
            refused = path.count("/") == 2 and "diffusion_pytorch_model-/" in path
        if (
            not refused
            or any(found for found in tmp_path.parent.rglob("*ESCAPED*"))
            or Path("/tmp/ESCAPED.safetensors").exists()
        ):
            wrong.append(path)
        shutil.rmtree(to, ignore_errors=True)
    assert not wrong, "\n".join(wrong)


def test_checksums_of_a_listing_are_no_paths():
    """They become a part of the name under which a file arrives."""
    for sums in ({"sha256": "../../../../x"}, {"git_sha1": "a/b"}, {"size": -1}):
        assert not HubFile(**{"path": SHARD, "size": 1, **sums}).is_plain, sums
    assert HubFile(SHARD, 1, "a" * 64).is_plain and HubFile(SHARD, 0, "", "b" * 40).is_plain


def test_links_inside_the_folder_are_not_followed_out_of_it(server, content, to, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    to.mkdir(parents=True)
    (to / "transformer").symlink_to(outside)
    with pytest.raises(StudioError) as caught:
        _download(to)
    assert caught.value.code == "download_link" and not list(outside.iterdir()) and not server.sent
    (to / "transformer").unlink()
    (to / "transformer").mkdir()
    (to / SHARD).symlink_to(outside / "through.safetensors")  # to nothing yet
    _download(to)
    assert not list(outside.iterdir()) and (to / SHARD).read_bytes() == content[SHARD]


def test_the_same_model_is_fetched_again_until_another_revision_is_asked_for(server, content, to):
    _download(to)
    server.old = {COMMIT: {REPO: dict(content)}}
    server.commit, newer = "facade" + "1" * 34, content[SHARD][:-1] + b"\x07"
    server.repos[REPO][SHARD] = newer
    server.sent.clear()
    assert "--revision main fetches the newest" in _download(to) and not server.sent
    (to / SHARD).unlink()
    _download(to)
    assert (to / SHARD).read_bytes() == content[SHARD] and read_download_record(to).revision == COMMIT
    _download(to, revision="main")
    assert (to / SHARD).read_bytes() == newer and read_download_record(to).revision == server.commit


def test_the_hub_is_told_nothing_of_this_machine() -> None:
    """With telemetry its client names torch and looks for agents, with a list that it fetches from huggingface.co."""
    code = (
        "import studio.commands.download; from huggingface_hub import constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_the_model_that_speaks_arrives_without_what_speech_does_not_need(server, tmp_path, capsys):
    folder = write_speech_folder(tmp_path / "repo")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    needed = {path for path in files if not path.startswith("CosyVoice-300M-25Hz-Music")}
    extra = ("CosyVoice-300M-25Hz/speech_tokenizer_v1.onnx", "CosyVoice-300M-25Hz/campplus.onnx", "modeling_step1.py")
    server.repos["stepfun-ai/Step-Audio-TTS-3B"] = files | dict.fromkeys((*extra, "lib/x.so"), b"not needed")
    for source in ("hf", "modelscope"):
        to = tmp_path / source / "step-audio-tts"
        assert main(["download", "step-audio-tts", "--source", source, "--to", str(to)]) == 0
        told = capsys.readouterr().out
        there = {str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()}
        assert there - needed == {".download.json"} and all((to / path).read_bytes() == files[path] for path in needed)
        assert "Step-Audio-TTS" in told and "the voice is synthetic" in told and inspect(to).ok
    del server.repos["stepfun-ai/Step-Audio-TTS-3B"]["CosyVoice-300M-25Hz/cosyvoice.yaml"]
    assert main(["download", "step-audio-tts", "--to", str(tmp_path / "third")]) == 1
    assert "lacks CosyVoice-300M-25Hz/cosyvoice.yaml" in capsys.readouterr().err
