"""Sharp previews: at most a tenth of the time, and never a harm to the video."""

import numpy as np
import pytest
import torch
from PIL import Image

from studio.errors import Cancelled, StudioError
from studio.events import Preview
from studio.filenames import PREVIEW
from studio.pipeline import sharp
from studio.pipeline.generate import generate
from studio.pipeline.sharp import SHARE, SharpPreview
from tests.pipeline.test_generate import final_latents, make_request, run
from tests.pipeline.test_observers import Clock, step


class Decoder:
    """Decodes in so many seconds of a clock, or raises."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.count, self.error = clock, seconds, 0, None

    def __call__(self, latents: torch.Tensor) -> np.ndarray:
        assert latents.shape[1] == 3
        self.count += 1
        self.clock.now += self.seconds
        if self.error is not None:
            raise self.error
        return np.zeros((1, 64, 96, 3), np.uint8)


def test_all_sharp_previews_together_take_at_most_a_tenth_of_the_time(tmp_path):
    for expected, takes, reloads in ((4.0, 4.0, 0.0), (4.0, 3.0, 2.0), (1.0, 6.0, 0.0), (9.0, 0.5, 0.0)):
        clock, shown = Clock(), []
        decoder = Decoder(clock, takes)
        preview = SharpPreview(tmp_path, decoder, shown.append, lambda: True, expected, clock)
        began, stood = clock.now, []
        for number in range(1, 120):
            before = decoder.count
            clock.now += 5.0 + (reloads if number > 1 and stood[-1] else 0.0)
            preview(step(number))
            stood.append(decoder.count > before)
            spent = decoder.count * (takes + reloads)
            late = takes + reloads - expected  # a first forecast that was too low
            assert spent <= SHARE * (clock.now - began) + max(late, 0.0) + reloads, (expected, takes, number)
        assert decoder.count >= 5 and len(shown) == decoder.count, "it is used, too"
        assert spent <= SHARE * (clock.now - began) + reloads, "what a first one took too long is saved later"


def test_a_rough_preview_replaces_a_sharp_one_only_when_told_to(tmp_path):
    clock, shown, wanted = Clock(), [], [True]
    decoder = Decoder(clock, 1.0)
    preview = SharpPreview(tmp_path, decoder, shown.append, lambda: wanted[0], 1.0, clock)
    assert not preview(step(1)), "a tenth of no time: a rough one"
    clock.now += 10
    assert preview(step(2)) and Image.open(tmp_path / PREVIEW).n_frames > 0
    assert preview(step(3)) and decoder.count == 1, "the one that stands is kept until there is time for another"
    wanted[0] = False
    assert not preview(step(4))
    wanted[0] = True
    clock.now += 1
    assert not preview(step(5)), "a rough one stands now"
    assert [event.step for event in shown] == [2]


def test_what_cannot_be_decoded_or_written_is_tried_once_and_a_stop_goes_through(tmp_path):
    clock = Clock()
    for error in (StudioError("latents_not_finite", step=1, steps=2, phase="decode", cfg_scale=9.0), OSError("full")):
        decoder = Decoder(clock, 1.0)
        decoder.error = error
        preview = SharpPreview(tmp_path, decoder, [].append, lambda: True, 0.1, clock)
        for _ in range(3):
            clock.now += 1000
            assert not preview(step(1))
        assert decoder.count == 1
    decoder.error = Cancelled()
    preview = SharpPreview(tmp_path, decoder, [].append, lambda: True, 0.1, clock)
    clock.now += 1000
    with pytest.raises(Cancelled):
        preview(step(1))


def test_a_video_with_sharp_previews_has_the_same_bits(open_tiny, tmp_path, monkeypatch):
    engine = open_tiny("step-video-t2v")
    plain = make_request(engine, tmp_path)
    run(plain, engine)
    monkeypatch.setattr(sharp, "SHARE", 1e9)
    request, events = make_request(engine, tmp_path, "sharp"), []
    generate(request, engine, events.append, lambda: False, sharp=lambda: True)
    shown = [event.step for event in events if isinstance(event, Preview)]
    assert shown == [1, 2, 3, 4], "the last is a rough one: the video comes"
    assert torch.equal(final_latents(request), final_latents(plain))
    engine.memory.check_integrity()
