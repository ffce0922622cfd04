"""The proofs of `check` pass on a sound device and fail on a broken one; a CPU in bfloat16 stands for the device."""

import pytest
import torch

from models import attention, vae_layers
from models.kernels import heads
from studio.memory import check, check_times
from studio.memory.check import LOOK, OK, SKIPPED, findings
from studio.memory.plan import Budgets
from studio.units import GB

CPU = torch.device("cpu")


def states(proof):
    return {(finding.name, finding.state) for finding in findings("failed", proof)}


def test_a_sound_device_passes(tmp_path):
    assert states(lambda: check.block_agrees(CPU, torch.bfloat16)) == {("blocks", OK)}
    assert states(lambda: check.vae_agrees(CPU, torch.bfloat16)) == {("decoder", OK)}
    assert ("int8 weights", OK) in states(lambda: check.int8_agrees(CPU, torch.bfloat16))
    given = CPU, torch.float32, Budgets(0, 4 * GB), tmp_path, check.write_transformer(tmp_path, CPU, torch.float32)
    assert states(lambda: check.plans_agree(*given)) == {("streaming", OK), ("peak", SKIPPED)}
    times = list(findings("failed", lambda: check_times.streaming_overhead(*given, 15.0)))
    assert [(time.name, time.state, time.values["frames"]) for time in times] == [
        ("overhead", OK, 51),
        ("overhead", OK, 102),
    ]
    assert all(0 < time.values["held"] and 0 < time.values["streamed"] for time in times)
    assert states(lambda: check_times.full_decode(CPU, torch.float32, 0)) == {("decode", SKIPPED)}
    assert states(lambda: check.attention_speeds(CPU, torch.float32)) == {("attention", OK)}


def test_a_broken_device_is_found(monkeypatch, tmp_path):
    """Kernels that are wrong by a few percent in bfloat16, and a pass whose bits depend on the plan."""

    def wrong(kernel):
        return lambda *given, **named: kernel(*given, **named) * (1.1 if given[0].dtype == torch.bfloat16 else 1)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", wrong(attention.scaled_dot_product_attention))
    assert states(lambda: check.block_agrees(CPU, torch.bfloat16)) == {("blocks", LOOK)}
    monkeypatch.undo()
    monkeypatch.setattr(heads, "rotate", lambda x, rope, out=None: x if out is None else out.copy_(x))
    assert states(lambda: check.block_agrees(CPU, torch.float32)) == {("blocks", OK)}  # wrong alike on both sides
    monkeypatch.undo()
    monkeypatch.setattr(vae_layers, "attention", lambda *given, **named: torch.full_like(given[0], torch.nan))
    assert states(lambda: check.vae_agrees(CPU, torch.bfloat16)) == {("decoder", LOOK)}
    monkeypatch.undo()
    drifting = iter(range(10))
    steps = check._steps
    monkeypatch.setattr(check, "_steps", lambda *given: steps(*given) + 1e-6 * next(drifting))
    params = check.write_transformer(tmp_path, CPU, torch.float32)
    found = states(lambda: check.plans_agree(CPU, torch.float32, Budgets(0, 4 * GB), tmp_path, params))
    assert ("streaming", LOOK) in found


def test_what_a_device_refuses_is_a_finding():
    def refuses():
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    (finding,) = findings("blocks", refuses)
    assert (finding.name, finding.state, finding.code) == ("blocks", LOOK, "check_failed")
    with pytest.raises(KeyError):  # a defect of the program is none
        list(findings("blocks", lambda: iter({}["no"])))
