"""The recipe on tiny checkpoints in the public layout: a file comes out, and nothing is lost on the way."""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.config import load_camera_moves, load_models, load_studio
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Notice, PhaseStarted, Preview, Progress
from studio.media import crop_image, read_metadata, read_video
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.evaluation_plan import plan_of
from studio.pipeline.generate import decode, generate
from studio.pipeline.latents_file import read_latents
from studio.pipeline.rerun import check_rerun
from studio.pipeline.run import Request
from studio.settings import GenerationSettings, ResolvedSettings, Speed

SMALL = {"num_frames": 17, "height": 64, "width": 96, "infer_steps": 4}
PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (90, 70, 3)).astype(np.uint8))


def make_request(engine, folder: Path, name: str = "clip", **fields) -> Request:
    values = {"model": engine.model.name, "prompt": "a red ball", "seed": 5, **SMALL, **fields}
    if engine.model.takes_image:
        values.setdefault("first_image", "somewhere/private/picture.png")
    settings = GenerationSettings(**values).resolve(engine.model)
    settings.check(engine.model, engine.moves)
    image = PICTURE if settings.first_image else None
    return Request(settings, folder / name, folder / f"{name}.work", image, keep_latents=True)


def run(request, engine, cancelled=lambda: False):
    events = []
    return generate(request, engine, events.append, cancelled), events


def final_file(request) -> Path:
    return request.stem.with_name(request.stem.name + ".latents.safetensors")


def final_latents(request) -> torch.Tensor:
    return read_latents(final_file(request)).state.latents


class Spy:
    """Passes everything on to a memory manager and notes the names of what was asked for."""

    def __init__(self, memory) -> None:
        self.memory, self.asked = memory, []

    def __getattr__(self, name: str):
        self.asked.append(name)
        return getattr(self.memory, name)


def test_text_becomes_a_video_that_knows_itself(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path)
    finished, events = run(request, engine)
    assert Path(finished.path) == tmp_path / "clip.mp4"
    assert read_video(Path(finished.path)).shape == (17, 64, 96, 3)
    record = read_metadata(Path(finished.path).read_bytes())
    assert ResolvedSettings.from_record(record) == request.settings
    beside = json.loads((tmp_path / "clip.json").read_text())
    assert set(record) < set(beside) and beside["seconds"].keys() >= {"denoise", "decode"}
    assert {"model_fingerprint", "torch", "dtype", "device", "attention", "version"} <= set(record)
    assert Image.open(tmp_path / "clip.jpg").size == (96, 64)
    assert not list(tmp_path.glob("*.tmp"))
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == ["encode_text", "encode_image", "denoise", "decode", "write"]
    steps = [event for event in events if isinstance(event, Progress) and event.phase == "denoise"]
    assert [event.step for event in steps] == [1, 2, 3, 4] and steps[-1].seconds_left == 0
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews[0].step == 1 and Image.open(request.workdir / previews[0].path).n_frames == 3


def test_picture_becomes_a_video_and_is_kept_as_used(open_tiny, tmp_path):
    engine = open_tiny("step-video-ti2v")
    request = make_request(engine, tmp_path, height=96, width=64, crop_left=0.0)
    finished, _ = run(request, engine)
    record = read_metadata(Path(finished.path).read_bytes())
    assert record["settings"]["first_image"] == "clip.first.png", "the user's own path stays private"
    kept = Image.open(tmp_path / "clip.first.png")
    used = crop_image(PICTURE, 96, 64, (0.0, 0.5))
    assert record["settings"]["crop_left"] == 0.0 and used.tobytes() != crop_image(PICTURE, 96, 64).tobytes()
    check_rerun(record, request, engine)
    with pytest.raises(InputError) as moved:
        check_rerun(record, replace(request, settings=replace(request.settings, crop_left=1.0)), engine)
    assert moved.value.code == "rerun_picture"
    assert np.array_equal(np.asarray(kept), np.asarray(used))
    assert record["first_image_sha256"] == hashlib.sha256(used.tobytes()).hexdigest()


def test_one_frame_is_a_png(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path, num_frames=1)
    finished, _ = run(request, engine)
    assert finished.path.endswith("clip.png") and Image.open(finished.path).size == (96, 64)
    assert read_metadata(Path(finished.path).read_bytes())["settings"]["seed"] == 5
    assert not (tmp_path / "clip.mp4").exists()


def test_the_seed_decides_the_video(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    latents = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        request = make_request(engine, tmp_path, name, seed=seed)
        run(request, engine)
        latents[name] = final_latents(request)
    assert torch.equal(latents["a"], latents["b"]) and not torch.equal(latents["a"], latents["c"])


def test_a_stopped_run_goes_on_with_the_same_bits(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    whole = make_request(engine, tmp_path, "whole")
    run(whole, engine)
    for stop_after in (0, 2):
        request = make_request(engine, tmp_path, f"stopped{stop_after}")
        events: list = []

        def stop(events=events, stop_after=stop_after):
            done = [event for event in events if isinstance(event, Progress) and event.phase == "denoise"]
            return PhaseStarted("denoise") in events and len(done) >= stop_after

        with pytest.raises(Cancelled):
            generate(request, engine, events.append, stop)
        assert read_latents(request.workdir / "latents.safetensors").state.step == stop_after
        _, events = run(request, engine)
        resumed = [event.step for event in events if isinstance(event, Progress) and event.phase == "denoise"]
        assert resumed == list(range(stop_after + 1, 5)), "done steps are not done again"
        assert torch.equal(final_latents(request), final_latents(whole))
        engine.memory.check_integrity()


def test_a_stopped_run_goes_on_on_another_device_and_says_so(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")

    def other(**fields):
        return dataclasses.replace(engine, provenance=engine.provenance | fields)

    def stopped(name, after=2, engine=engine):
        request, events = make_request(engine, tmp_path, name), []
        with pytest.raises(Cancelled):
            generate(request, engine, events.append, lambda: sum(map(is_step, events)) >= after)
        return request

    def is_step(event):
        return isinstance(event, Progress) and event.phase == "denoise"

    whole = make_request(engine, tmp_path, "whole")
    run(whole, engine)
    request = stopped("elsewhere", engine=other(device="card A", version="0"))
    finished, events = run(request, engine)
    assert [event.code for event in events if isinstance(event, Notice)] == ["resumed_elsewhere"]
    assert [event.step for event in events if is_step(event)] == [3, 4]
    parts = [{"to_step": 2, "device": "card A", "version": "0"}]
    assert read_metadata(Path(finished.path).read_bytes())["earlier_steps"] == parts
    assert torch.equal(final_latents(request), final_latents(whole))
    request = stopped("twice", engine=other(device="card A"))
    events = []
    with pytest.raises(Cancelled):
        generate(request, other(device="card B"), events.append, lambda: any(map(is_step, events)))
    finished, _ = run(request, engine)
    told = read_metadata(Path(finished.path).read_bytes())["earlier_steps"]
    assert told == [{"to_step": 2, "device": "card A"}, {"to_step": 3, "device": "card B"}]

    request = stopped("files")
    before, replaced = (request.workdir / "latents.safetensors").read_bytes(), other(model_fingerprint="other files")
    with pytest.raises(StudioError, match="step 2 belong to another model_fingerprint"):
        generate(request, replaced, lambda event: None, lambda: False, lambda: True)
    assert (request.workdir / "latents.safetensors").read_bytes() == before, "they are kept"
    _, events = run(request, replaced)
    assert [event.code for event in events if isinstance(event, Notice)] == ["begun_anew"]
    assert [event.step for event in events if is_step(event)] == [1, 2, 3, 4]


def test_a_job_finished_early_shows_its_estimate_and_goes_on_to_the_same_bits(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    for speed in Speed:
        fields = {"speed": str(speed), "cfg_scale": 3.0, "infer_steps": 9}
        whole = make_request(engine, tmp_path, f"whole-{speed}", **fields)
        run(whole, engine)
        count = len(plan_of(whole.settings).nodes)
        assert count == (9 if speed is Speed.EXACT else 8)
        request, events, steps = make_request(engine, tmp_path, f"early-{speed}", **fields), [], []
        request = dataclasses.replace(request, keep_latents=False)

        def finish(events=events, steps=steps):
            steps.append(sum(isinstance(event, Progress) and event.phase == "denoise" for event in events))
            return steps[-1] == 2

        finished = generate(request, engine, events.append, lambda: False, finish)
        assert steps == [1, 2], "the step in work is the last one"
        early = {"step": 2, "steps": count}
        assert [event.values for event in events if isinstance(event, Notice)] == [early]
        shown = [event.step for event in events if isinstance(event, Preview)]
        assert shown == [1, 2] and Image.open(request.workdir / "preview.webp").n_frames == 3
        record = read_metadata(Path(finished.path).read_bytes())
        assert record["finished_early"] == early and record["forwards"] == {"conditional": 2, "unconditional": 2}
        assert len(record["plan"]["nodes"]) == count and record["velocity_growths"] == 0
        seen, end = read_video(Path(finished.path)), read_video(whole.stem.with_suffix(".mp4"))
        assert seen.shape == end.shape and not np.array_equal(seen, end)
        assert read_latents(request.workdir / "latents.safetensors").state.step == 2
        again = dataclasses.replace(request, stem=tmp_path / f"again-{speed}", keep_latents=True)
        run(again, engine)
        assert torch.equal(final_latents(again), final_latents(whole))
        record = json.loads((tmp_path / f"again-{speed}.json").read_text())
        assert record["forwards"] == {"conditional": count, "unconditional": count}
    engine.memory.check_integrity()


def test_latents_of_another_request_are_not_used(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path)
    run(request, engine)
    other = dataclasses.replace(
        request, settings=dataclasses.replace(request.settings, seed=6), stem=tmp_path / "other"
    )
    _, events = run(other, engine)
    assert sum(isinstance(e, Progress) and e.phase == "denoise" for e in events) == 4


def test_kept_latents_decode_to_the_same_video(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path)
    run(request, engine)
    again = dataclasses.replace(request, stem=tmp_path / "again", keep_latents=False)
    finished = decode(again, read_latents(final_file(request)), engine, lambda event: None, lambda: False)
    assert np.array_equal(read_video(Path(finished.path)), read_video(tmp_path / "clip.mp4"))


def test_a_prompt_that_was_encoded_before_loads_no_encoder(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    run(make_request(engine, tmp_path, "first"), engine)
    spy = Spy(engine.memory)
    run(make_request(engine, tmp_path, "second", seed=9), dataclasses.replace(engine, memory=spy))
    assert "transformer" in spy.asked and not {"step_llm", "clip"} & set(spy.asked)


def test_guidance_one_runs_the_conditional_pass_alone(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    a, b = (make_request(engine, tmp_path, n, cfg_scale=1.0, negative_prompt=n) for n in ("a", "b"))
    run(a, engine)
    run(b, engine)
    assert torch.equal(final_latents(a), final_latents(b)), "the negative prompt takes no part"
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["forwards"] == {"conditional": 4, "unconditional": 0}


def test_what_is_cut_off_is_said(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    _, events = run(make_request(engine, tmp_path, prompt="a red ball moves left " * 30, infer_steps=1), engine)
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert any(text.startswith("clip reads 77 tokens") for text in notices)
    magic = make_request(engine, tmp_path, "b", prompt="a red ball " * 5, infer_steps=1)
    assert not [event for event in run(magic, engine)[1] if isinstance(event, Notice)], "of magic words alone, nothing"


def test_latents_survive_a_failure_after_them(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path)
    (tmp_path / "clip.mp4.tmp").mkdir()  # ffmpeg cannot write here
    with pytest.raises((StudioError, OSError)):
        run(request, engine)
    assert read_latents(request.workdir / "latents.safetensors").state.step == 4
    (tmp_path / "clip.mp4.tmp").rmdir()
    _, events = run(request, engine)
    assert not [e for e in events if isinstance(e, Progress) and e.phase == "denoise"], "straight to the decoder"
    assert (tmp_path / "clip.mp4").exists()


def test_a_rerun_refuses_another_picture_or_model(open_tiny, tmp_path):
    engine = open_tiny("step-video-ti2v")
    request = make_request(engine, tmp_path)
    finished, _ = run(request, engine)
    record = read_metadata(Path(finished.path).read_bytes())
    check_rerun(record, request, engine)
    check_rerun(record, dataclasses.replace(request, image=Image.open(tmp_path / "clip.first.png")), engine)
    with pytest.raises(InputError) as failure:
        check_rerun(record, dataclasses.replace(request, image=PICTURE.rotate(180)), engine)
    assert failure.value.code == "rerun_picture"
    with pytest.raises(InputError) as failure:
        check_rerun(record | {"model_fingerprint": "other"}, request, engine)
    assert failure.value.code == "rerun_model"


def test_a_full_disk_is_told_before_the_work(open_tiny, tmp_path, monkeypatch):
    engine = open_tiny("step-video-t2v")
    monkeypatch.setattr("studio.pipeline.output.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(StudioError) as failure:
        run(make_request(engine, tmp_path), engine)
    assert failure.value.code == "disk_full" and "0.06 GB are needed" in str(failure.value)


def test_bad_weight_files_are_sentences(model_dir, tmp_path, open_tiny):
    shutil.copytree(model_dir / "step-video-t2v", tmp_path / "models" / "step-video-t2v")
    model, config = load_models()["step-video-t2v"], load_studio(model_dir=str(tmp_path / "models"), ram_gb=4)
    options = EngineOptions("cpu")
    for file in ("transformer/config.json", "step_llm/step1_chat_tokenizer.model"):
        path = tmp_path / "models" / "step-video-t2v" / file
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(StudioError) as failure:
            engine = open_engine(model, False, load_camera_moves(), config, options)
            run(make_request(engine, tmp_path), engine)
        assert failure.value.code == "checkpoint" and path.name in str(failure.value)
        path.write_bytes(kept)
