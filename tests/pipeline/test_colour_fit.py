"""The map of previews is fitted beside the steps: nothing waits for it, and it changes no bit."""

import threading
from types import SimpleNamespace

import pytest
import torch

from models.regular_files import CheckpointError
from studio.events import Preview
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline import colour_fit
from studio.pipeline.colour_fit import PreviewColours
from studio.pipeline.preview import PICTURES, LatentColours
from tests.pipeline.test_generate import final_latents, make_request, run
from tests.pipeline.test_preview import linear_encoder
from tests.tiny import TINY

ROOM = 1 << 40
PATIENCE = 60.0  # seconds after which a test gives up


class Encoder:
    """A VAE that encodes a picture only when it is told to."""

    def __init__(self) -> None:
        self.allowed, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.encoded, self._encode = 0, linear_encoder(8)[0]

    def encode_moments(self, clip: torch.Tensor) -> torch.Tensor:
        self.begun.release()
        assert self.allowed.acquire(timeout=PATIENCE)
        self.encoded += 1
        return self._encode(clip)

    def allow(self, pictures: int) -> None:
        self.allowed.release(pictures)


@pytest.fixture
def encoder(monkeypatch) -> Encoder:
    encoder = Encoder()
    monkeypatch.setattr(colour_fit, "load_vae", lambda folder, dtype: encoder)
    return encoder


@pytest.fixture
def previews(tmp_path) -> PreviewColours:
    return PreviewColours(write_checkpoint(tmp_path / "model", TINY), tmp_path / "cache" / "map.safetensors", 8)


def test_work_goes_on_while_the_map_is_fitted_and_it_is_kept(previews, encoder):
    with previews.beside(ROOM):
        assert encoder.begun.acquire(timeout=PATIENCE) and previews.now() is None, "the work began without the map"
        encoder.allow(PICTURES)
        previews.wait(PATIENCE)
        assert previews.now() is not None
    kept = LatentColours.load(previews.path, 8)
    assert torch.equal(kept.maps, LatentColours.fit(linear_encoder(8)[0]).maps)
    with previews.beside(ROOM):
        previews.wait(PATIENCE)
    assert encoder.encoded == PICTURES, "it is fitted once"


def test_a_fit_that_outlasts_its_job_stops_after_a_picture_and_the_next_job_ends_it(previews, encoder):
    with previews.beside(ROOM):
        encoder.allow(2)
        for _ in range(3):
            assert encoder.begun.acquire(timeout=PATIENCE)
    encoder.allow(1)
    previews.wait(PATIENCE)
    assert encoder.encoded == 3 and previews.now() is None
    encoder.allow(PICTURES)
    with previews.beside(ROOM):
        previews.wait(PATIENCE)
    assert encoder.encoded == PICTURES and previews.now() is not None


def test_without_room_for_a_second_vae_the_one_of_the_video_is_asked_behind_it(previews, encoder):
    with previews.beside(1000):
        assert previews.missing and previews.now() is None
    previews.fit(SimpleNamespace(encode_moments=linear_encoder(8)[0]))
    assert previews.now() is not None and not previews.missing and encoder.encoded == 0


def test_a_vae_that_cannot_be_used_is_tried_once_and_harms_no_job(previews, monkeypatch):
    asked = []

    def refuse(folder, dtype):
        asked.append(folder)
        raise CheckpointError("truncated")

    monkeypatch.setattr(colour_fit, "load_vae", refuse)
    for _ in range(2):
        with previews.beside(ROOM):
            previews.wait(PATIENCE)
    assert len(asked) == 1 and previews.now() is None and not previews.missing


def test_a_map_that_is_not_finite_is_not_kept(previews, encoder):
    encoder._encode = lambda clip: linear_encoder(8)[0](clip) * float("nan")
    with previews.beside(ROOM):
        encoder.allow(PICTURES)
        previews.wait(PATIENCE)
    assert encoder.encoded == PICTURES and previews.now() is None and not previews.path.exists()


def test_a_first_video_has_the_bits_of_later_ones_and_shows_the_map_once_it_is_there(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    engine.colours.path.unlink()
    request = make_request(engine, tmp_path)
    run(request, engine)
    with engine.colours.beside(ROOM):
        engine.colours.wait(PATIENCE)
    assert engine.colours.now() is not None
    again = make_request(engine, tmp_path, "again")
    _, shown = run(again, engine)
    assert torch.equal(final_latents(request), final_latents(again))
    assert [event.step for event in shown if isinstance(event, Preview)][:1] == [1]
