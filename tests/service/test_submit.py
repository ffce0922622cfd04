"""A request is checked as a whole, and queued or refused with its reasons."""

from dataclasses import replace
from typing import Any

import pytest

from studio.commands.page import plan_in_file
from studio.errors import InputError, ModelMissing, StudioError
from studio.messages import message
from studio.pipeline.evaluation_plan import Rule
from studio.queue.job import JobState
from studio.service.backend import Backend
from studio.service.submit import Rejected, check, put_back, record_of, record_of_job, submit, vary
from studio.settings import GenerationSettings, ResolvedSettings
from studio.wildcards import expand
from tests.queue.test_jobs import picture

ASKED = GenerationSettings("nano", "a paper boat", infer_steps=2)


def test_a_request_is_completed_and_queued(backend: Backend) -> None:
    job = submit(backend, ASKED)
    assert job == backend.queue.get(job.id) and job.state == JobState.QUEUED
    assert job.settings == GenerationSettings("nano", "a paper boat", infer_steps=2, seed=job.settings.seed).resolve(
        backend.models["nano"]
    )
    assert submit(backend, ASKED).settings.seed != job.settings.seed, "an empty seed is drawn for each"


def test_words_are_drawn_on_submitting_and_what_was_typed_is_recorded(backend: Backend) -> None:
    job = submit(backend, GenerationSettings("nano", "a {red|blue} __shape__", seed=3))
    assert job.settings.prompt_template == "a {red|blue} __shape__" and job.settings.seed == 3
    assert job.settings.prompt == submit(backend, job.settings.asked()).settings.prompt
    assert job.settings.prompt.split()[1] in ("red", "blue") and job.settings.prompt.split()[2] in (
        "circle",
        "square",
        "triangle",
    )
    template, known = job.settings.prompt_template, backend.word_lists()
    varied = vary(backend, job.id, [{"seed": seed} for seed in range(6)])
    assert [one.settings.prompt for one in varied] == [expand(template, seed, known) for seed in range(6)]
    (same,) = vary(backend, job.id, [{"infer_steps": 3}])
    assert (same.settings.prompt, same.settings.prompt_template) == (job.settings.prompt, template)
    kept = put_back(backend, job.id, GenerationSettings("nano", job.settings.prompt, infer_steps=2))
    assert kept is not None and kept.settings.prompt_template == template
    other = put_back(backend, job.id, GenerationSettings("nano", "a boat"))
    assert other is not None and other.settings.prompt_template == ""
    with pytest.raises(InputError, match="__fish__"):
        submit(backend, GenerationSettings("nano", "a __fish__"))


def test_a_video_is_made_again_with_the_plan_of_its_file_and_another_one_with_its_own(backend: Backend) -> None:
    backend = replace(backend, rerun_plan=plan_in_file)
    old = {"plan": Rule(9, 5.0, 0.6).plan(3.0, calibrated=True).to_dict(), "model_fingerprint": "5a"}
    asked = GenerationSettings("nano", "a red boat", seed=3, infer_steps=20, cfg_scale=3.0, speed="fast")
    drawn = replace(check(backend, asked), prompt_template="a {red|blue} boat")
    record = record_of(drawn, old)
    again = submit(backend, asked, record=record)
    assert again.again == old and again.settings == check(backend, asked)
    assert submit(backend, again.settings.asked(), record=record_of_job(again)).again == old
    changes: list[dict[str, Any]] = [{"infer_steps": 21}, {"time_shift": 4.0}, {"cfg_scale": 2.0}, {"speed": "draft"}]
    changes += [{"guidance_schedule": "falling"}, {"seed": 4}, {"prompt": "a blue boat"}, {"model": "nano-turbo"}]
    for change in changes:
        other = replace(asked, **{"speed": "exact" if "model" in change else "fast", **change})
        assert submit(backend, other, record=record).again is None, change
    assert submit(backend, replace(asked, first_image="x"), picture(), record).again is None
    assert submit(backend, asked).again is None
    for kept, expected in ((record, old), (None, None)):
        edited = put_back(backend, again.id, asked, record=kept)
        assert edited is not None and edited.again == expected
    exact = replace(drawn, speed="exact")
    assert record_of(exact, old) == {} == record_of(drawn, None) == record_of(drawn, {"model_fingerprint": "5a"})
    for wrong in ({**record, "plan": {"nodes": [[0.0, float("nan")]]}}, {**record, "settings": 3}, {"plan": []}):
        with pytest.raises(InputError):
            submit(backend, asked, record=wrong)
    assert submit(backend, asked, record={**record, "model_fingerprint": "\ud800"}).again == {
        **old,
        "model_fingerprint": "",
    }


def test_the_picture_belongs_to_the_job(backend: Backend) -> None:
    data = picture()
    job = submit(backend, GenerationSettings("nano", "x", first_image="any name"), data)
    assert job.settings.first_image == str(job.folder / "first_image")
    assert (job.folder / "first_image").read_bytes() == data
    with pytest.raises(InputError, match="starts from a picture"):
        submit(backend, GenerationSettings("nano", "x", first_image="/etc/passwd"))


def test_all_that_is_wrong_is_told_at_once(backend: Backend) -> None:
    asked = GenerationSettings("nano", " ", camera_move="sideways", infer_steps=0, height=100, width=100)
    with pytest.raises(Rejected) as caught:
        check(backend, asked)
    codes = [problem.code for problem in caught.value.problems]
    assert codes[0] == caught.value.code == "prompt_empty" and str(caught.value) == str(caught.value.problems[0])
    assert {"camera_unknown", "number_range"} <= set(codes) and caught.value.exit_code == 2


def test_a_video_that_the_devices_cannot_share_is_not_queued(backend: Backend) -> None:
    def refuse(settings: ResolvedSettings) -> None:
        raise InputError("gpus_unguided", heads=settings.infer_steps)

    alone = submit(backend, ASKED)
    sharing = replace(backend, check_sharing=refuse)
    for ask in (lambda: submit(sharing, ASKED), lambda: vary(sharing, alone.id, [{"seed": 3}])):
        with pytest.raises(InputError, match="divide the model's 2 heads of attention"):
            ask()
    assert backend.queue.count([JobState.QUEUED]) == 1


def test_a_model_whose_files_are_damaged_is_refused_with_its_sentence(backend: Backend) -> None:
    damaged = replace(backend, defects=lambda: {"nano": "config.json is cut."})
    with pytest.raises(StudioError, match="config.json is cut"):
        submit(damaged, ASKED)
    assert backend.queue.count() == 0 and damaged.first_model().name == "nano-turbo"


def test_what_cannot_run_here_is_a_sentence_and_queues_nothing(backend: Backend, watching: Backend) -> None:
    for where, asked, code in (
        (backend, GenerationSettings("nono", "x"), "model_unknown"),
        (backend, GenerationSettings("step-video-t2v", "x"), "model_absent"),
        (backend, GenerationSettings("step-video-t2v", ""), "model_absent"),
        (backend, GenerationSettings("nano", ""), "prompt_empty"),
        (watching, ASKED, "queue_elsewhere"),
    ):
        with pytest.raises(StudioError) as caught:
            submit(where, asked)
        assert caught.value.code == code and message(code, caught.value.values, "zh")
        assert isinstance(caught.value, ModelMissing) == (code == "model_absent")
    with pytest.raises(InputError, match="cannot be read"):
        submit(backend, GenerationSettings("nano", "x", first_image="x"), b"no picture")
    assert backend.queue.count() == 0
