"""Weight files: tables agree with what was stored, and every broken file is an error with a sentence."""

import json
import struct
from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

from models.weight_files import CheckpointError, TensorEntry, read_index, read_into, read_table


def _tensors():
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(7, 5),
        "b": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "codes": torch.arange(11, dtype=torch.int8),
    }


def _read(entry: TensorEntry, dtype=None):
    out = torch.empty(entry.shape, dtype=dtype or entry.dtype)
    read_into(entry, out)
    return out


@pytest.fixture
def paths(tmp_path):
    """The same tensors as safetensors and as a PyTorch .bin."""
    found = tmp_path / "weights.safetensors", tmp_path / "weights.bin"
    save_file(_tensors(), found[0])
    torch.save(_tensors(), found[1])
    return found


@pytest.fixture
def stored(paths):
    return paths[0], _tensors()


def test_table_and_bytes_are_what_was_stored(paths, monkeypatch):
    """Also where a read casts, piece by piece."""
    monkeypatch.setattr("models.weight_files.CAST_BYTES", 16)
    tensors = _tensors()
    for path in paths:
        table = read_table(path)
        assert set(table) == set(tensors), path
        for name, tensor in tensors.items():
            entry = table[name]
            assert (entry.shape, entry.dtype, entry.nbytes) == (tuple(tensor.shape), tensor.dtype, tensor.nbytes), path
            assert torch.equal(_read(entry), tensor), (path, name)
            assert torch.equal(_read(entry, torch.float64), tensor.double()), (path, name)


def test_reads_into_a_view_of_a_larger_buffer(stored):
    path, tensors = stored
    entry, buffer = read_table(path)["a.weight"], torch.zeros(1000, dtype=torch.uint8)
    read_into(entry, buffer[64 : 64 + entry.nbytes].view(torch.float32).view(entry.shape))
    assert torch.equal(buffer[64 : 64 + entry.nbytes].view(torch.float32).view(7, 5), tensors["a.weight"])
    assert not buffer[:64].any() and not buffer[64 + entry.nbytes :].any()


def test_unfit_memory_is_refused(stored):
    entry = read_table(stored[0])["a.weight"]
    for out in (torch.empty(5, 7), torch.empty(5, 7).T, torch.empty(7, 5, device="meta")):
        with pytest.raises(ValueError, match="a.weight"):
            read_into(entry, out)


def test_every_truncation_is_an_error(paths):
    for path in paths:
        whole = path.read_bytes()
        for length in {0, 5, 8, 40, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="cut short|no safetensors"):
                read_table(path)


def test_truncated_shard_tells_both_sizes(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1000)}, path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=f"{size:,} bytes expected, {size - 1000:,} there"):
        read_table(path)


def test_a_file_cut_after_its_table_was_read_is_an_error(paths):
    for path in paths:
        table = read_table(path)
        path.write_bytes(path.read_bytes()[:90])
        with pytest.raises(CheckpointError, match="ended while codes was read"):
            _read(table["codes"])


def test_git_lfs_pointer(tmp_path):
    for name in ("x.safetensors", "x.bin"):
        path = tmp_path / name
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9967000000\n")
        with pytest.raises(CheckpointError, match="Git-LFS pointer"):
            read_table(path)


def _with_header(path, header: bytes, data: bytes = b""):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_foreign_headers(tmp_path):
    for header in (
        b"not json",
        b"[]",
        b'{"w": 3}',
        b'{"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
    ):
        with pytest.raises(CheckpointError, match="header"):
            read_table(_with_header(tmp_path / "x.safetensors", header, bytes(4)))


def test_trailing_bytes_are_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(4)}, path)
    path.write_bytes(path.read_bytes() + b"rest")
    with pytest.raises(CheckpointError, match="its header describes"):
        read_table(path)


def test_pickle_that_is_no_table_of_tensors(tmp_path):
    for content in (Fraction(1, 2), [1, 2]):  # a class outside torch's allowlist; plain data
        path = tmp_path / "x.bin"
        torch.save(content, path)
        with pytest.raises(CheckpointError):
            read_table(path)


def test_index_names_no_file_outside_its_folder(tmp_path):
    path = tmp_path / "m.safetensors.index.json"
    for name in ("../x.safetensors", "/etc/passwd", "a\\b", "..", ""):
        path.write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(CheckpointError, match="no file beside it"):
            read_index(path)


def test_index_names_absent_files(tmp_path):
    path = tmp_path / "m.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {f"w{i}": f"m-{i}.safetensors" for i in range(7)}}))
    with pytest.raises(CheckpointError, match="7 files that are not there: m-0.safetensors.* and 2 more"):
        read_index(path)


def test_broken_index(tmp_path):
    path = tmp_path / "m.safetensors.index.json"
    for text in ("", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"w": 3}}'):
        path.write_text(text)
        with pytest.raises(CheckpointError):
            read_index(path)
