"""The choice of an attention kernel with a fake card: its times, refusals, and what is remembered."""

import json

import pytest
import torch

from models import attention as module
from models.attention import KERNELS, OWN, PACKAGES, SAGE, attention, attention_kernel
from studio.errors import InputError
from studio.memory.attention_choice import (
    FILE_NAME,
    SHAPES,
    choose_attention,
    chosen_kernel,
    driver_version,
    fastest,
    require,
)
from studio.memory.plan import ATTENTIONS, AUTO

INSTALLED = ("cudnn", "flash-attn", "efficient")


class Card:
    """Kernels take `speeds` seconds per shape; the clock goes on by it. None: refused."""

    def __init__(self, **speeds):
        self.speeds = {name.replace("_", "-"): speed for name, speed in speeds.items()}
        self.now, self.timed = 0.0, []

    def seconds(self, kernel, shape):
        self.timed.append((kernel, shape))
        speed = self.speeds[kernel]
        self.now += speed or 0.0
        return speed

    def choose(self, kernels=INSTALLED):
        return fastest(kernels, self.seconds, lambda: self.now)


def test_the_fastest_kernel_is_chosen_where_it_is_worth_it():
    assert Card(own=0.02, cudnn=0.01, flash_attn=0.015, efficient=0.05).choose() == "cudnn"
    assert Card(own=0.02, cudnn=0.0199, flash_attn=0.03, efficient=0.05).choose() == OWN  # noise
    assert Card(own=0.02, cudnn=None, flash_attn=0.015, efficient=0.05).choose() == "flash-attn"
    assert Card(own=0.02, cudnn=None, flash_attn=None, efficient=None).choose() == OWN
    assert Card(own=None, cudnn=0.01, flash_attn=0.01, efficient=0.01).choose() == OWN  # nothing to compare with


def test_a_slow_card_ends_the_probe_in_time():
    card = Card(own=0.3, cudnn=0.15, flash_attn=0.1, efficient=0.01)
    assert card.choose() == "cudnn" and ("efficient", SHAPES[0]) not in card.timed  # flash-attn's last shape was late
    assert card.now <= 2.0 + 0.15
    hopeless = Card(own=0.6, cudnn=0.01, flash_attn=0.01, efficient=0.01)
    assert hopeless.choose() == OWN and {kernel for kernel, _ in hopeless.timed} == {OWN}


def test_the_choice_stays_until_the_machine_is_another(tmp_path):
    (tmp_path / "version").write_text("580.95.05\n")
    assert driver_version(tmp_path / "version") == "580.95.05" and driver_version(tmp_path / "none") == "unknown"

    def choose(card, key="card A, driver 1, torch 2", kernels=INSTALLED):
        return chosen_kernel(tmp_path, key, kernels, card.seconds, lambda: card.now)

    first = Card(own=0.02, cudnn=0.01, flash_attn=0.015, efficient=0.05)
    assert choose(first) == "cudnn" and len(first.timed) == 4 * len(SHAPES)
    slower = Card(own=0.01, cudnn=0.02, flash_attn=0.02, efficient=0.02)
    assert choose(slower) == "cudnn" and not slower.timed  # bits stay
    assert choose(slower, key="card A, driver 2, torch 2") == OWN
    assert choose(slower, kernels=("cudnn",)) == OWN  # another set of installed ones
    for damaged in ("{", "[]", json.dumps({name: "gone" for name in json.loads((tmp_path / FILE_NAME).read_text())})):
        (tmp_path / FILE_NAME).write_text(damaged)
        assert choose(first) == "cudnn", damaged


def test_a_kernel_that_is_asked_for_serves_or_is_refused_with_a_sentence(tmp_path, monkeypatch):
    """SageAttention is not exact: it is never among those that are timed, and the record names it with its version."""
    monkeypatch.setattr(module, "_CHOSEN", {})
    assert set(ATTENTIONS) == {AUTO, OWN, SAGE, *PACKAGES, *KERNELS} - {"math"}
    cpu, card = torch.device("cpu"), torch.device("cuda:0")
    for device, asked, told in ((card, SAGE, "needs the package sageattention"), (cpu, "cudnn", "needs an NVIDIA GPU")):
        with pytest.raises(InputError, match=told):
            require(asked, device, lambda kernel, shape: 0.1)
    with pytest.raises(InputError, match="does not run on cuda:0"):
        require("cudnn", card, lambda kernel, shape: None)
    require("cudnn", card, lambda kernel, shape: 0.1)
    (tmp_path / "sageattention.py").write_text(
        "from torch.nn.functional import scaled_dot_product_attention as exact\n"
        "def sageattn(q, k, v, tensor_layout, is_causal):\n"
        "    assert tensor_layout == 'NHD' and not is_causal\n"
        "    return 2 * exact(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)\n"
    )
    (tmp_path / "sageattention-2.2.0.dist-info").mkdir()
    (tmp_path / "sageattention-2.2.0.dist-info" / "METADATA").write_text("Name: sageattention\nVersion: 2.2.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert SAGE not in module.installed_kernels()
    require(SAGE, card, lambda kernel, shape: 0.1)
    q = torch.randn(1, 40, 2, 128, dtype=torch.bfloat16)
    exact = attention(q, q, q)
    module.choose_kernel(cpu, SAGE)
    assert attention_kernel(cpu, torch.bfloat16, 128) == "sageattention 2.2.0"
    torch.testing.assert_close(attention(q, q, q), 2 * exact, rtol=0.02, atol=0.01)
    choose_attention(tmp_path, cpu, torch.float32)
    assert torch.equal(attention(q, q, q), exact)
