"""--gpus of `generate`: which devices it means, and one video made by two processes from the command line."""

import json
from pathlib import Path
from typing import Any

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


def test_a_plan_for_several_is_that_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    video = ["--num-frames", "102", "--height", "544", "--width", "992"]
    words = ["plan", "--model", "step-video-t2v", *video, "--vram", "80", "--ram", "256", "--tflops", "250"]
    words += ["--link-gbps", "25", "--disk-gbps", "3", "--json"]

    def plans(*more: str) -> dict[int, dict[str, Any]]:
        made = {}
        for count in (1, 2, 3, 4, 8):
            assert app.main([*words, "--gpus", str(count), *more]) == 0
            made[count] = json.loads(capsys.readouterr().out)
            assert made[count]["gpus"] == count
        return made

    fast, slow = plans("--peer-gbps", "250"), plans()
    seconds = {count: plan["seconds_per_step"] for count, plan in fast.items()}
    gain = {count: seconds[1] / made for count, made in seconds.items()}
    assert 1.9 < gain[2] <= 2.01 < gain[3] <= 3 < 3.5 < gain[4] <= 4 < gain[8] <= 8, "computation is what a step takes"
    assert slow[2]["seconds_per_step"] == fast[2]["seconds_per_step"], "no tokens are exchanged"
    assert slow[8]["seconds_per_step"] > 1.3 * fast[8]["seconds_per_step"], "without NVLink the exchange is not free"
    vram = {count: plan["vram_peak_gb"] for count, plan in fast.items()}
    assert 55 < vram[8] < vram[4] < vram[2] < vram[1], "activations are shared, weights are not"
    assert fast[4]["seconds_per_step_gathered"] == fast[4]["seconds_per_step"], "nothing is streamed"
    streamed = [*words, "--vram", "16", "--link-gbps", "4", "--peer-gbps", "250", "--gpus", "8"]
    assert app.main(streamed) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seconds_per_step_gathered"] < 0.5 * plan["seconds_per_step"], "the link is what a step takes"
    assert app.main([word for word in streamed if word != "--json"]) == 0
    said = capsys.readouterr().out
    assert "fits each of 8 GPUs" in said and "would be faster; not built" in said

    refused = {"5": "cannot use 5 GPUs", "none": "value none of --gpus", "0,1,2,3,4": "can use 1, 2, 3, 4, 6"}
    for given, said in refused.items():
        assert app.main([*words, "--gpus", given]) == 2
        assert said in capsys.readouterr().err


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
    assert "One video cannot use 4 GPUs: half of an even number" in capsys.readouterr().err
    assert not list((outputs / ".work").iterdir())
