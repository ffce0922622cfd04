"""Checkpoint folders: loaded as stored, strict both ways, every defect told; fingerprints tell trainings apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import checkpoint
from models.checkpoint import CheckpointError, ComponentFiles, build, fingerprint
from models.layout import COMPONENTS, LAYOUT
from studio.nano.checkpoint import write_checkpoint
from tests.tiny import TINY

KEYMAPS = Path(__file__).resolve().parents[2] / ".." / "shared" / "checkpoint"
LOADERS = {name: getattr(checkpoint, f"load_{name}") for name in COMPONENTS}
LLM_FILE = "step_llm/model.safetensors"
DIT_FILE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("stored"), TINY, seed=1)


@pytest.fixture
def folder(stored, tmp_path):
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def _edit(path: Path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_loads_exactly_what_is_stored(stored):
    for component, load in LOADERS.items():
        module = load(stored)
        weights = load_file(ComponentFiles(stored, component).files[0])
        state = module.state_dict()
        assert set(state) == set(weights)
        assert all(torch.equal(state[name], weights[name]) for name in weights), component
        assert not module.training and not any(p.requires_grad for p in module.parameters()), component
        assert not any(t.is_meta for t in (*module.parameters(), *module.buffers())), component


def test_casts_to_the_dtype_asked_for(stored):
    for component, load in LOADERS.items():
        exact, cast = load(stored, torch.float32).state_dict(), load(stored, torch.bfloat16).state_dict()
        wrong = [name for name, tensor in cast.items() if not torch.equal(tensor, exact[name].bfloat16())]
        assert not wrong, (component, wrong)


def test_loading_holds_no_second_copy(stored):
    """Every tensor of the network lies in its own memory, exactly as large as itself."""
    tensors = list(LOADERS["transformer"](stored).parameters())
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_shards_hold_what_one_file_holds(stored, tmp_path):
    sharded = write_checkpoint(tmp_path, TINY, seed=1, shards=3)
    for component, load in LOADERS.items():
        one, many = ComponentFiles(stored, component), ComponentFiles(sharded, component)
        assert len(many.files) == (1 if component == "vae" else 3)
        assert (one.nbytes, one.parameters, one.dtypes) == (many.nbytes, many.parameters, (torch.float32,)), component
        state = load(sharded).state_dict()
        for name, tensor in load(stored).state_dict().items():
            assert torch.equal(tensor, state[name]), (component, name)


def test_public_clip_file_gives_its_text_tower_alone(folder):
    """The public .bin is a pickle with the picture tower beside `bert.*`; those bytes are left alone."""
    place = folder / LAYOUT["clip"].folder
    weights = load_file(place / "model.safetensors")
    torch.save(
        weights | {"visual.proj": torch.randn(4, 4), "logit_scale": torch.tensor(1.0)}, place / "pytorch_model.bin"
    )
    (place / "model.safetensors").unlink()
    state = checkpoint.load_clip(folder).state_dict()
    assert set(state) == set(weights) and all(torch.equal(state[name], weights[name]) for name in weights)
    whole = (place / "pytorch_model.bin").read_bytes()
    (place / "pytorch_model.bin").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoint.load_clip(folder)


def test_missing_and_unknown_keys_are_named(folder):
    def change(tensors):
        del tensors["proj_out.bias"]
        tensors["proj_in.bias"] = torch.zeros(3)

    _edit(folder / DIT_FILE, change)
    with pytest.raises(CheckpointError, match="lacks 1 tensors.*proj_out.bias.*has 1 tensors.*proj_in.bias"):
        checkpoint.load_transformer(folder)


def test_many_missing_keys_are_counted(folder):
    def change(tensors):
        for name in [name for name in tensors if name.startswith("transformer_blocks.1.")]:
            del tensors[name]

    _edit(folder / DIT_FILE, change)
    with pytest.raises(CheckpointError, match="lacks 16 tensors.* and 11 more"):
        checkpoint.load_transformer(folder)


def test_wrong_shape_is_told_with_both(folder):
    _edit(folder / DIT_FILE, lambda tensors: tensors.update({"proj_out.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=r"proj_out.bias .*\(5,\).*\(4,\)"):
        checkpoint.load_transformer(folder)


def test_text_to_video_config_on_image_to_video_weights(tmp_path):
    write_checkpoint(tmp_path, TINY, use_additional_conditions=True, components=("transformer",))
    path = tmp_path / "transformer" / "config.json"
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(CheckpointError, match="4 tensors that its config does not know: .*motion_score_embedder"):
        checkpoint.load_transformer(tmp_path)


def test_defects_are_sentences(stored, tmp_path):
    config, weights = Path("transformer/config.json"), Path(DIT_FILE)
    defects = {
        "config.json is missing": lambda f: (f / config).unlink(),
        "no readable json": lambda f: (f / config).write_text("{"),
        "describes no transformer": lambda f: (f / config).write_text("{}"),
        "has no weights": lambda f: (f / weights).unlink(),
        "cut short": lambda f: (f / weights).write_bytes((f / weights).read_bytes()[:-1]),
        "Git-LFS": lambda f: (f / weights).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is missing. Download it": lambda f: shutil.rmtree(f / "transformer"),
    }
    for number, (sentence, break_it) in enumerate(defects.items()):
        folder = tmp_path / str(number)
        shutil.copytree(stored / "transformer", folder / "transformer")
        break_it(folder)
        with pytest.raises(CheckpointError, match=sentence):
            build(folder, "transformer")


def test_index_and_shards_must_agree(tmp_path):
    folder = write_checkpoint(tmp_path, TINY, shards=3, components=("step_llm",))
    path = folder / "step_llm" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = list(index["weight_map"])[-1]
    file = index["weight_map"].pop(name)
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"does not name 1 tensors of its shards: {name}"):
        build(folder, "step_llm")
    other = next(f for f in index["weight_map"].values() if f != file)
    path.write_text(json.dumps({"weight_map": index["weight_map"] | {name: other}}))
    with pytest.raises(CheckpointError, match=f"names 1 tensors that are not in their files: {name}"):
        build(folder, "step_llm")
    index["weight_map"][name] = file
    path.write_text(json.dumps(index))
    build(folder, "step_llm")
    (folder / "step_llm" / other).unlink()
    with pytest.raises(CheckpointError, match="1 files that are not there"):
        build(folder, "step_llm")


def test_two_trainings_of_one_shape_differ(stored, folder, tmp_path):
    other = write_checkpoint(tmp_path / "other", TINY, seed=2)
    for component in COMPONENTS:
        own = fingerprint(stored, component, torch.float32)
        assert own == fingerprint(folder, component, torch.float32)  # the same files elsewhere
        assert own != fingerprint(other, component, torch.float32)
        assert own != fingerprint(stored, component, torch.bfloat16)


def test_fingerprint_covers_the_small_files(folder):
    for component, file in (
        ("step_llm", "step_llm/step1_chat_tokenizer.model"),
        ("clip", "hunyuan_clip/tokenizer/vocab.txt"),
        ("vae", "vae/config.json"),
    ):
        before = fingerprint(folder, component, torch.float32)
        with open(folder / file, "ab") as handle:
            handle.write(b"\n")
        assert fingerprint(folder, component, torch.float32) != before, file


def test_fingerprint_samples_a_large_file_evenly(folder, monkeypatch):
    """Samples of 16 bytes stand for the 64 KiB: one at each end, and a change within any of them is seen."""
    monkeypatch.setattr(checkpoint, "SAMPLE_BYTES", 16)
    path = folder / LLM_FILE
    before, whole = fingerprint(folder, "step_llm", torch.float32), bytearray(path.read_bytes())
    _, start = checkpoint.header_bytes(path)
    offsets = checkpoint._sample_offsets(start, len(whole))
    assert len(offsets) == 64 and offsets[0] == start and offsets[-1] == len(whole) - 16
    assert max(b - a for a, b in zip(offsets, offsets[1:], strict=False)) <= (len(whole) - start) // 63 + 1
    for offset in (offsets[0], offsets[31] + 15, offsets[-1] + 15):
        changed = whole.copy()
        changed[offset] ^= 1
        path.write_bytes(changed)
        assert fingerprint(folder, "step_llm", torch.float32) != before


def test_small_files_are_sampled_whole():
    size = checkpoint.SAMPLE_BYTES
    assert checkpoint._sample_offsets(10, 10 + 3 * size + 1) == [10, 10 + size, 10 + 2 * size, 10 + 3 * size]
    assert checkpoint._sample_offsets(10, 10) == []


@pytest.mark.skipif(not KEYMAPS.is_dir(), reason="the facts of the public checkpoints are not beside the repository")
def test_public_sizes():
    """The networks that the public configs describe have the public files' keys and shapes, and no others."""
    for component, keymap, changes, parameters in (
        ("transformer", "dit_t2v", {}, 29_342_478_400),
        ("transformer", "dit_ti2v", {"use_additional_conditions": True}, 29_382_205_504),
        ("step_llm", "step_llm", {}, 19_579_600_896),
        ("clip", "hunyuan_clip_file", {}, 350_986_240),
        ("vae", "vae_v2_file", {}, 498_818_819),
    ):
        config = KEYMAPS / "t2v" / LAYOUT[component].folder / "config.json"
        described = (json.loads(config.read_text()) if config.exists() else {}) | changes
        state = checkpoint.network(component, described).state_dict()
        lines = (KEYMAPS / "keymaps" / f"{keymap}.tsv").read_text().splitlines()
        wanted = dict(line.split("\t") for line in lines if line.startswith(LAYOUT[component].prefix))
        assert {name: "x".join(map(str, tensor.shape)) for name, tensor in state.items()} == wanted, keymap
        assert sum(tensor.numel() for tensor in state.values()) == parameters, keymap
