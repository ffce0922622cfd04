"""Frames in memory are those that the recipe writes into a video."""

from pathlib import Path

import numpy as np
from PIL import Image

from studio.events import Event, PhaseStarted
from studio.pipeline import output
from studio.pipeline.frames import generate_frames
from studio.pipeline.generate import generate
from studio.pipeline.run import Request
from studio.settings import GenerationSettings
from tests.memory.tiny_model import with_texts_kept

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (90, 70, 3)).astype(np.uint8))
SMALL = {"num_frames": 17, "height": 64, "width": 64, "infer_steps": 2, "seed": 5}


def test_frames_are_the_bits_that_the_recipe_writes(open_tiny, tmp_path: Path, monkeypatch) -> None:
    """From text alone with guidance, and from a picture with a motion score and without guidance.

    The recipe keeps the texts' keys and values, before the first step; frames in memory project the texts in each.
    """
    written: list[np.ndarray] = []
    add = output.ResultWriter.add

    def noted(writer: output.ResultWriter, frames: np.ndarray) -> None:
        written.append(frames)
        add(writer, frames)

    monkeypatch.setattr(output.ResultWriter, "add", noted)
    for name, more, image in (
        ("step-video-t2v", {"cfg_scale": 4.0}, None),
        ("step-video-ti2v", {"first_image": "picture.png", "motion_score": 9.0, "cfg_scale": 1.0}, PICTURE),
    ):
        engine = open_tiny(name)
        settings = GenerationSettings(name, "a red ball", **SMALL, **more).resolve(engine.model)
        settings.check(engine.model, engine.moves)
        written.clear()
        memory, kept = engine.memory, dict[str, int]()

        def listen(event: Event, memory=memory, kept=kept) -> None:
            if isinstance(event, PhaseStarted):
                kept[event.phase] = memory.usage().text_bytes

        memory.set_plan(with_texts_kept(memory, memory.plan(settings.video_shape)))
        request = Request(settings, tmp_path / name, tmp_path / f"{name}.work", image)
        generate(request, engine, listen, lambda: False)
        assert kept["encode_text"] == 0 < kept["encode_image"] == kept["denoise"], kept
        memory.release()
        frames = generate_frames(settings, image, engine)
        assert frames.dtype == np.uint8 and frames.shape == (17, 64, 64, 3)
        assert np.array_equal(frames, np.concatenate(written)), name
