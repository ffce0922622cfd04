"""The cache of encoded prompts."""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save

from models.weight_files import read_tensors
from studio.pipeline.embeddings import EmbeddingCache

TENSORS = {"prompt_embeds": torch.randn(1, 5, 64).bfloat16(), "clip_embeds": torch.randn(1, 77, 8)}


def test_a_text_comes_back_bit_for_bit(tmp_path):
    cache = EmbeddingCache(tmp_path / "c", 1)
    assert cache.get("猫", "f") is None
    cache.put("猫", "f", TENSORS)
    found = cache.get("猫", "f")
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert cache.get("猫", "other encoder") is None and cache.get("狗", "f") is None


def test_what_cannot_be_read_counts_as_absent(tmp_path):
    cache = EmbeddingCache(tmp_path, 1)
    cache.put("a", "f", TENSORS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert cache.get("a", "f") is None and not file.exists()
    short, endless = TENSORS["clip_embeds"][:, :7].clone(), torch.full((1, 5, 64), float("inf"))
    for wrong in ({"prompt_embeds": endless}, {"clip_embeds": short}, {"clip_embeds": torch.ones(1, 77)}, {"x": short}):
        file.write_bytes(save({name: tensor.contiguous() for name, tensor in {**TENSORS, **wrong}.items()}))
        assert cache.get("a", "f") is None and not file.exists(), wrong
    cache = EmbeddingCache(tmp_path, 0)
    cache._path("a", "f").mkdir()
    assert cache.get("a", "f") is None
    cache.put("a", "f", TENSORS)  # neither written over nor trimmed
    assert cache.get("a", "f") is None


def test_the_least_recently_used_leave_above_the_cap(tmp_path):
    one = sum(tensor.nbytes for tensor in TENSORS.values())
    cache = EmbeddingCache(tmp_path, 2.9 * one / 2**30)
    for index, text in enumerate("ab"):
        cache.put(text, "f", TENSORS)
        os.utime(cache._path(text, "f"), (index, index))
    assert cache.get("a", "f") is not None  # touched: now b is the oldest
    cache.put("c", "f", TENSORS)
    assert cache.get("b", "f") is None
    assert cache.get("a", "f") is not None and cache.get("c", "f") is not None


class ListedThenGone(type(Path())):
    """Another process trims the cache just after its files were listed: this one finds them gone."""

    def stat(self, **options):
        if self.suffix == ".safetensors":
            self.unlink(missing_ok=True)
        return super().stat(**options)


def test_another_process_may_trim_the_cache_at_any_time(tmp_path, monkeypatch):
    def read_then_gone(path: Path, limit: int) -> dict[str, torch.Tensor]:
        tensors = read_tensors(path, limit)
        path.unlink()
        return tensors

    EmbeddingCache(tmp_path, 1).put("a", "f", TENSORS)
    with monkeypatch.context() as patch:
        patch.setattr("studio.pipeline.embeddings.read_tensors", read_then_gone)
        found = EmbeddingCache(tmp_path, 1).get("a", "f")
    assert torch.equal(found["clip_embeds"], TENSORS["clip_embeds"]) and not list(tmp_path.iterdir())
    EmbeddingCache(tmp_path, 1).put("a", "f", TENSORS)
    EmbeddingCache(ListedThenGone(tmp_path), 0).put("b", "f", TENSORS)
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path)
    assert EmbeddingCache(tmp_path, 1).get("a", "f") is None


def test_a_failed_write_is_silent(tmp_path):
    (tmp_path / "file").write_text("")
    EmbeddingCache(tmp_path / "file" / "sub", 1).put("a", "f", TENSORS)
