"""`quantize`: a checkpoint once more with int8 units, bit for bit what the quantiser gives, and never half of one."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import checkpoint, int8_files
from models.checkpoint import CheckpointError, ComponentFiles, build, load_step_llm, load_transformer, read_into
from models.int8_files import Int8Files, read_int8_record
from models.layout import COMPONENTS, LAYOUT
from models.quantized import UNITS, Int8Linear, int8_block, int8_network, quantize_rows
from studio.checkpoints import quantize as studio_quantize
from studio.checkpoints.quantize import NETWORKS, int8_folders, quantize
from studio.errors import InputError, StudioError
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline.engine import open_tokenizers
from tests.tiny import TINY
from tests.tiny_speech import write_speech_folder

LOADERS = {"transformer": load_transformer, "step_llm": load_step_llm}
PLACES = {name: LAYOUT[name].folder for name in NETWORKS}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("stored"), TINY, seed=1)


@pytest.fixture
def folders(stored, tmp_path):
    return dict.fromkeys(COMPONENTS, Path(shutil.copytree(stored, tmp_path / "model")))


@pytest.fixture(scope="module")
def made(stored, tmp_path_factory):
    """Folders of a model with int8 files, for tests that only read them."""
    folders = dict.fromkeys(COMPONENTS, Path(shutil.copytree(stored, tmp_path_factory.mktemp("made") / "model")))
    quantize(folders, lambda text: None)
    return folders


def read_all(files: ComponentFiles) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, entry in files.entries.items():
        tensors[name] = torch.empty(entry.shape, dtype=entry.dtype)
        read_into(entry, tensors[name])
    return tensors


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_files_hold_exactly_the_quantisers_codes_and_copies_of_the_rest(made):
    for component in NETWORKS:
        check_codes(made, component)


def check_codes(made, component):
    _, files = build(int8_folders(made)[component], component)
    original = read_all(ComponentFiles(made[component], component))
    found = read_all(files)
    quantised = 0
    for name, tensor in original.items():
        if f"{name}_scale" in found:
            codes, scale = quantize_rows(tensor)
            assert torch.equal(found[name], codes) and torch.equal(found[f"{name}_scale"], scale)
            assert UNITS[component] in name
            quantised += 1
        else:
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    assert quantised == {"transformer": 7, "step_llm": 4}[component] * 2
    assert len(found) == len(original) + quantised


def test_a_network_of_these_files_computes_as_one_quantised_in_memory(made):
    for component in NETWORKS:
        _, files = build(int8_folders(made)[component], component)
        twin = int8_network(LOADERS[component](made[component]), component)
        with torch.device("meta"):
            loaded = int8_network(checkpoint.network(component, files.config), component)
        loaded.load_state_dict(read_all(files), strict=True, assign=True)
        assert {n: t.dtype for n, t in loaded.state_dict().items()} == {
            n: t.dtype for n, t in twin.state_dict().items()
        }
        assert all(torch.equal(t, twin.state_dict()[n]) for n, t in loaded.state_dict().items())


def test_one_file_per_unit_and_one_for_the_rest_readable_by_safetensors(made):
    for component in NETWORKS:
        place = int8_folders(made)[component] / PLACES[component]
        shards = sorted(place.glob("*.safetensors"))
        assert len(shards) == 1 + 2
        index = json.loads(next(place.glob("*.index.json")).read_text())
        for shard in shards:
            assert {name for name, file in index["weight_map"].items() if file == shard.name} == set(load_file(shard))
        assert json.loads((place / "config.json").read_text()) == ComponentFiles(made[component], component).config


def test_pieces_of_rows_change_nothing(folders, made, monkeypatch):
    monkeypatch.setattr(int8_files, "PIECE_ELEMENTS", 1000)
    quantize(folders, lambda text: None)
    for component in NETWORKS:
        parts = [sorted((f[component] / "int8" / PLACES[component]).glob("*.safetensors")) for f in (folders, made)]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*parts, strict=True))


def test_no_more_than_a_piece_is_read_at_once(folders, monkeypatch):
    sizes = []
    monkeypatch.setattr(int8_files, "PIECE_ELEMENTS", 4096)
    monkeypatch.setattr(int8_files, "read_into", lambda entry, out: sizes.append(out.numel()) or read_into(entry, out))
    quantize(folders, lambda text: None)
    assert len(sizes) > 50 and max(sizes) <= 4096


def test_a_second_call_does_nothing_and_says_so(made):
    place = made["transformer"] / "int8"
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    said = []
    quantize(made, said.append)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert all("up to date" in text for text in said) and len(said) == 2


def test_progress_counts_files_to_the_end(folders):
    said = []
    quantize(folders, said.append)
    assert said[0].startswith("transformer: 0 of 3") and said[3].startswith("transformer: 3 of 3")
    assert said[-1].startswith("step_llm: 3 of 3")


class Stop(Exception):
    """The power goes off."""


def test_an_interrupted_run_leaves_no_target_and_goes_on_with_the_file_it_was_at(folders, made, monkeypatch):
    write_file, written = int8_files._write_file, []

    def failing(path, outputs):
        if len(written) == 2:
            (path.parent / f"{path.name}.tmp").write_bytes(b"half")
            raise Stop
        written.append(path.name)
        write_file(path, outputs)

    monkeypatch.setattr(int8_files, "_write_file", failing)
    with pytest.raises(Stop):
        quantize(folders, lambda text: None)
    target = folders["transformer"] / "int8"
    assert not (target / "transformer").exists()
    with pytest.raises(InputError) as error:
        int8_folders(folders)
    assert error.value.code == "int8_missing"

    kept = {path: path.stat().st_mtime_ns for path in target.rglob("*.safetensors")}
    assert len(kept) == 2
    monkeypatch.setattr(int8_files, "_write_file", write_file)
    assert 0 < Int8Files(folders["transformer"], "transformer", target).nbytes_done
    quantize(folders, lambda text: None)
    assert names_in(target) == names_in(made["transformer"] / "int8")
    assert {(target / "transformer" / path.name).stat().st_mtime_ns for path in kept} == set(kept.values())


def test_what_an_interrupted_run_left_of_other_weights_is_not_gone_on_with(folders, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(Stop))
    with pytest.raises(Stop):
        quantize(folders, lambda text: None)
    monkeypatch.undo()
    _change_weights(folders["transformer"])
    target = folders["transformer"] / "int8"
    assert Int8Files(folders["transformer"], "transformer", target).nbytes_done == 0
    quantize(folders, lambda text: None)
    check_codes(folders, "transformer")


def test_a_model_that_changed_is_told_and_made_anew(folders):
    quantize(folders, lambda text: None)
    assert int8_folders(folders)["transformer"] == folders["transformer"] / "int8"
    _change_weights(folders["transformer"])
    with pytest.raises(InputError) as error:
        int8_folders(folders)
    assert error.value.code == "int8_outdated"
    quantize(folders, lambda text: None)
    int8_folders(folders)
    assert not list((folders["transformer"] / "int8").rglob("*.tmp"))


def test_only_the_two_networks_move(made):
    folders = int8_folders(made)
    assert {name for name in COMPONENTS if folders[name] != made[name]} == set(NETWORKS)


def test_a_full_disk_is_told_before_anything_is_written(folders, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(studio_quantize.shutil, "disk_usage", lambda path: usage(10, 10, 5 << 20))
    with pytest.raises(InputError) as error:
        quantize(folders, lambda text: None)
    assert error.value.code == "disk_full" and not list((folders["transformer"] / "int8").iterdir())


def test_a_disk_that_fills_up_on_the_way_is_a_sentence(folders, monkeypatch):
    def full(path, outputs):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(int8_files, "_write_file", full)
    with pytest.raises(StudioError) as error:
        quantize(folders, lambda text: None)
    assert error.value.code == "write_failed" and "No space left" in str(error.value)


def test_a_weight_that_is_not_finite_is_named(folders):
    _change_weights(folders["transformer"], float("nan"))
    with pytest.raises(StudioError, match=r"transformer_blocks\.1\.ff\.net\.2\.weight"):
        quantize(folders, lambda text: None)


def test_int8_files_are_not_quantised_again(made):
    with pytest.raises(CheckpointError, match="already"):
        Int8Files(made["transformer"] / "int8", "transformer", made["transformer"] / "int8" / "int8")


def test_int8_files_of_another_network_are_refused(made, tmp_path):
    place = Path(shutil.copytree(made["transformer"] / "int8", tmp_path / "copy"))
    config = place / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": 3}))
    with pytest.raises(CheckpointError, match="lacks 23 tensors"):
        build(place, "transformer")


def test_the_tokenizer_comes_along(made):
    tokenizers = open_tokenizers(int8_folders(made))
    assert tokenizers["step_llm"].encode("a red ball").ids == open_tokenizers(made)["step_llm"].encode("a red ball").ids


def test_the_record_says_what_the_files_were_made_from(made):
    record = read_int8_record(made["transformer"] / "int8" / "transformer")
    assert record["codes_version"] == int8_files.CODES_VERSION and len(record["source_fingerprint"]) == 32


def test_int8_network_leaves_what_lies_outside_of_units(made):
    module, _ = build(made["transformer"], "transformer")
    int8_network(module, "transformer")
    inside = [name for name, layer in module.named_modules() if isinstance(layer, Int8Linear)]
    assert inside and all(name.startswith("transformer_blocks.") for name in inside)
    assert int8_block(module.transformer_blocks[0]) is module.transformer_blocks[0]


def _change_weights(folder: Path, value: float = 0.5) -> None:
    """One number of a block's weights."""
    entry = ComponentFiles(folder, "transformer").entries["transformer_blocks.1.ff.net.2.weight"]
    with open(entry.file, "r+b") as file:
        file.seek(entry.offset)
        file.write(torch.tensor([value], dtype=entry.dtype).view(torch.uint8).numpy().tobytes())


def test_nothing_but_int8_files_is_ever_replaced(tmp_path):
    """The speaking language model lies in the checkpoint folder itself: a wrong target would be the whole folder."""
    source = write_speech_folder(tmp_path / "voice")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    target = tmp_path / "int8"
    Int8Files(source, "step_audio_llm", target).write()
    _, files = build(target, "step_audio_llm")
    assert files.is_int8 and (target / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    Int8Files(source, "step_audio_llm", target).write()  # its own files it replaces
    (target / "my voice.wav").write_text("mine")
    for place, name in ((target, "my voice.wav"), (source, "tokenizer.model"), (tmp_path, "voice")):
        with pytest.raises(CheckpointError, match="holds other files") as failure:
            Int8Files(source, "step_audio_llm", place)
        assert name in str(failure.value) or place == source, place
    assert (target / "my voice.wav").read_text() == "mine"
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
