"""--gpus of `generate`: which devices it means, and one video made by two processes from the command line."""

import json
from pathlib import Path

import pytest
import torch

import app
from studio.commands.cli import build_parser
from studio.commands.gpus import gpu_devices, shared_config
from studio.errors import InputError
from studio.pipeline.latents_file import read_latents


def test_what_a_value_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    def devices(*words: str) -> list[str]:
        return gpu_devices(build_parser().parse_args(["generate", *words]))

    meant = {
        (): ["auto"],
        ("--device", "cuda:3"): ["cuda:3"],
        ("--gpus", "1"): ["cuda:0"],
        ("--gpus", "2"): ["cuda:0", "cuda:1"],
        ("--gpus", "3,1"): ["cuda:3", "cuda:1"],
        ("--gpus", "2", "--device", "cuda"): ["cuda:0", "cuda:1"],
        ("--gpus", "2", "--device", "cpu"): ["cpu", "cpu"],
    }
    assert {words: devices(*words) for words in meant} == meant
    refused = {
        ("--gpus", "0"): "value 0 of --gpus is none",
        ("--gpus", "65"): "value 65 of --gpus",
        ("--gpus", "two"): "value two of --gpus",
        ("--gpus", "0,"): "value 0, of --gpus",
        ("--gpus", "0,1", "--device", "cpu"): "--device cpu takes how many alone",
        ("--gpus", "2", "--device", "cuda:1"): "value 2 of --gpus",
        ("--gpus", "1,1"): "cuda:1 is named twice",
        ("--gpus", "0,4"): "cuda:4 is not on",
        ("--gpus", "5"): "cuda:4 is not on",
        ("--gpus", "2", "--device", "gpu"): "no device 'gpu'",
    }
    for words, said in refused.items():
        with pytest.raises(InputError, match=said):
            devices(*words)
    options = build_parser().parse_args(["generate", "--ram", "64"])
    assert [shared_config(options, count).ram_gb for count in (1, 2)] == [64, 32]


def test_a_plan_for_two_is_that_of_one_with_half_the_ram_and_one_pass_a_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["plan", "--model", "step-video-t2v", "--num-frames", "102", "--height", "544", "--width", "992"]
    words += ["--vram", "80", "--tflops", "250", "--link-gbps", "25", "--disk-gbps", "3", "--json"]
    plans = []
    for more in (["--ram", "64"], ["--ram", "128", "--gpus", "2"]):
        assert app.main([*words, *more]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    one, two = plans
    assert (one["gpus"], two["gpus"]) == (1, 2)
    assert {name: two[name] for name in ("vram_peak_gb", "ram_peak_gb", "sources")} == {
        name: one[name] for name in ("vram_peak_gb", "ram_peak_gb", "sources")
    }
    assert 1.8 < one["seconds_per_step"] / two["seconds_per_step"] <= 2, "computation is what a step takes here"
    for given, said in (("4", "cannot use 4 GPUs"), ("none", "value none of --gpus"), ("0,1,2", "cannot use 3 GPUs")):
        assert app.main([*words, "--gpus", given]) == 2
        assert said in capsys.readouterr().err
    assert app.main([*words[:-1], "--ram", "128", "--gpus", "0,1"]) == 0
    assert "fits each of 2 GPUs" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_line_makes_a_video_on_two(
    model_dir: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "step-video-t2v", "--prompt", "x", "--num-frames", "17", "--height", "64", "--width", "64"]
    machine = ["--model-dir", str(model_dir), "--output-dir", str(outputs), "--device", "cpu", "--ram", "4"]
    command = ["generate", *machine, *words, "--infer-steps", "8", "--seed", "3", "--keep-latents", "--output"]
    for name, gpus in (("one.mp4", []), ("two.mp4", ["--gpus", "2"])):
        assert app.main([*command, str(outputs / name), *gpus]) == 0
    one, two = (read_latents(outputs / f"{name}.latents.safetensors").state.latents for name in ("one", "two"))
    assert torch.equal(one, two)
    capsys.readouterr()
    assert app.main([*command, str(outputs / "four.mp4"), "--gpus", "4"]) == 2
    assert "One video cannot use 4 GPUs: 2 share it" in capsys.readouterr().err
    assert not list((outputs / ".work").iterdir())
