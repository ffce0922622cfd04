"""`check`: what this machine can do for the program, proven on it; needs no model."""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from studio.checkpoints.inspect import inspect
from studio.commands.machine import engine_options, hold_device, studio_config
from studio.commands.signals import STOPPING, end_with_stdin, stopping
from studio.config import StudioConfig, load_models
from studio.errors import StudioError
from studio.filenames import write_whole
from studio.host_memory import free_ram
from studio.memory.attention_choice import choose_attention
from studio.memory.check import (
    LOOK,
    OK,
    SKIPPED,
    Check,
    Finding,
    attention_speeds,
    block_agrees,
    findings,
    int8_agrees,
    make_current,
    plans_agree,
    vae_agrees,
    versions,
    write_transformer,
)
from studio.memory.check_times import full_decode, streaming_overhead
from studio.memory.planning.speeds import load_speeds
from studio.memory.usage import budgets_for, free_vram
from studio.messages import message
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, compute_dtype, is_installed, pick_device
from studio.pipeline.estimate import Estimator
from studio.service.machine_check import FILE as FILE_NAME
from studio.settings import GenerationSettings
from studio.units import GB
from studio.video_writer import find_ffmpeg

if TYPE_CHECKING:
    import torch

MODEL_GB = 98  # a 30B model with its encoders and VAE: 105e9 bytes
STEP_MODEL, STEP_FRAMES = "step-video-t2v", 102
STREAMED_GB = {"cuda": 6, "cpu": 1}  # random blocks on disk, for a moment
LATEST = 100.0  # seconds, of the three minutes that all may take
CAN_WAIT = {"decode", "streaming"}
MARKS = {OK: "ok", LOOK: "LOOK", SKIPPED: "-"}


def run(options: argparse.Namespace) -> int:
    """Check, print a row per finding, keep check.json; 1 where something is to be looked at."""
    config, asked = studio_config(options), engine_options(options)
    found: list[Finding] = []
    if options.until_stdin_ends:
        end_with_stdin()
    with stopping(STOPPING) as stop, hold_device(asked, stop, "check"):
        for finding in everything(config, asked):
            found.append(finding)
            print(json.dumps(row(finding)) if options.json else line(finding, options.language), flush=True)
            if stop.is_set():
                return 130
    file = config.output_dir / CACHE_FOLDER / FILE_NAME
    store(file, found)
    counts = {state: sum(finding.state == state for finding in found) for state in MARKS}
    if not options.json:
        print("\n" + message("check_sum", {**counts, "file": str(file)}, options.language))
    return 1 if counts[LOOK] else 0


def everything(
    config: StudioConfig, asked: EngineOptions, *, clock: Callable[[], float] = monotonic
) -> Iterator[Finding]:
    """Every finding, the quick ones first; after LATEST seconds no check begins that can wait."""
    device = pick_device(asked.device)
    dtype, began = compute_dtype(device), clock()
    checks: dict[str, Check] = {
        "versions": lambda: versions(device),
        "memory": lambda: _free(device, config),
        "ffmpeg": _ffmpeg,
        "models": lambda: _models(config),
        "speeds": lambda: _speeds(device, config),
        "attention": lambda: _attention(device, dtype, config, asked),
        "blocks": lambda: block_agrees(device, dtype),
        "decoder": lambda: vae_agrees(device, dtype),
        "int8": lambda: int8_agrees(device, dtype),
        "decode": lambda: full_decode(device, dtype, budgets_for(device, config).vram_bytes),
        "streaming": lambda: _streaming(device, dtype, config),
        "a step": lambda: _step(device, config, asked),
    }
    for name, check in checks.items():
        if name in CAN_WAIT and clock() - began > LATEST:
            yield Finding(name, SKIPPED, "check_no_time", {"seconds": clock() - began})
        else:
            yield from findings(name, check)


def line(finding: Finding, language: str) -> str:
    """A row of the table."""
    return f"{MARKS[finding.state]:4}  {finding.name:14} {message(finding.code, finding.values, language)}"


def row(finding: Finding) -> dict[str, Any]:
    """The finding and its sentence by language, as plain data."""
    return asdict(finding) | {language: message(finding.code, finding.values, language) for language in ("en", "zh")}


def store(file: Path, found: list[Finding]) -> None:
    """The findings with their sentences. Raises StudioError where the file cannot be written."""
    rows = [row(finding) for finding in found]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(rows, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise StudioError("write_failed", file=str(file), reason=error.strerror or str(error)) from None


def _free(device: "torch.device", config: StudioConfig) -> Iterator[Finding]:
    free = {"ram_gb": free_ram() / GB, "vram_gb": free_vram(device) / GB}
    yield Finding("memory", OK, "check_free", free)
    for folder in dict.fromkeys((config.model_dir, config.output_dir)):
        free_gb = _free_gb(folder)
        lacking = folder == config.model_dir and free_gb < MODEL_GB and not _installed(config)
        values = {"folder": str(folder), "free_gb": free_gb, "need_gb": MODEL_GB}
        state, code = (LOOK, "check_disk_small") if lacking else (OK, "check_disk")
        yield Finding("disk", state, code, values)


def _ffmpeg() -> Iterator[Finding]:
    yield Finding("ffmpeg", OK, "check_ffmpeg", {"file": find_ffmpeg()})


def _models(config: StudioConfig) -> Iterator[Finding]:
    installed = _installed(config)
    for name in installed:
        for variant in load_models()[name].variants:
            folder = config.model_dir / variant.folders["transformer"][0]
            report = inspect(folder)
            problems = [problem for part in report.parts for problem in part.problems]
            values = {"model": name, "folder": str(folder), "problem": problems[0] if problems else ""}
            state, code = (OK, "check_model") if report.ok else (LOOK, "check_model_broken")
            yield Finding(name, state, code, values)
    if not installed:
        yield Finding("models", SKIPPED, "check_no_models")


def _attention(
    device: "torch.device", dtype: "torch.dtype", config: StudioConfig, asked: EngineOptions
) -> Iterator[Finding]:
    """What follows computes with the kernel that a video would be computed with."""
    make_current(device)
    choose_attention(config.output_dir / CACHE_FOLDER, device, dtype, asked.attention)
    yield from attention_speeds(device, dtype)


def _streaming(device: "torch.device", dtype: "torch.dtype", config: StudioConfig) -> Iterator[Finding]:
    """On the disk of the results."""
    need, free_gb = STREAMED_GB[device.type], _free_gb(config.output_dir)
    if free_gb < need:
        values = {"need_gb": need, "folder": str(config.output_dir), "free_gb": free_gb}
        yield Finding("streaming", SKIPPED, "check_needs_space", values)
        return
    cache = config.output_dir / CACHE_FOLDER
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="check.", dir=cache) as work:
        folder, budgets = Path(work), budgets_for(device, config)
        params = write_transformer(folder, device, dtype)
        yield from plans_agree(device, dtype, budgets, folder, params)
        link_gbps = load_speeds(cache, device).link_gbps
        yield from streaming_overhead(device, dtype, budgets, folder, params, link_gbps)


def _speeds(device: "torch.device", config: StudioConfig) -> Iterator[Finding]:
    """Remembered: plans and estimates are made with them from now on."""
    yield Finding("speeds", OK, "check_speeds", asdict(load_speeds(config.output_dir / CACHE_FOLDER, device)))


def _step(device: "torch.device", config: StudioConfig, asked: EngineOptions) -> Iterator[Finding]:
    if device.type != "cuda":
        yield Finding("a step", SKIPPED, "check_needs_gpu")
        return
    model = load_models()[STEP_MODEL]
    settings = GenerationSettings(model.name, "check", num_frames=STEP_FRAMES).resolve(model)
    plan = Estimator(config, asked).for_command(settings, model, {}).plan
    if not plan.fits:
        yield Finding("a step", LOOK, "check_step_none", {"reason": dict(plan.reason)})
        return
    blocks = plan.transformer
    values = {"seconds": plan.seconds_per_step, "model": model.name, "frames": STEP_FRAMES}
    yield Finding("a step", OK, "check_step", values | {"resident": len(blocks.resident), "units": blocks.units})


def _installed(config: StudioConfig) -> list[str]:
    """Models of which every part is there, nano apart."""
    models = load_models()
    return [name for name in models if not name.startswith("nano") and is_installed(models[name], config.model_dir)]


def _free_gb(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / GB
