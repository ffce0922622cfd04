"""The recipe: text and perhaps a picture become a video. `generate` reads top to bottom."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.checkpoint import CheckpointError
from models.geometry import VideoShape
from models.scheduler import FlowMatchScheduler
from studio.config import CameraMove, ModelConfig
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Event, Finished, Notice, PhaseStarted, Preview, Progress
from studio.filenames import PREVIEW
from studio.media import crop_image, image_array
from studio.memory.manager import Condition, MemoryManager
from studio.messages import message
from studio.pipeline import output
from studio.pipeline.embeddings import EmbeddingCache
from studio.pipeline.latents_file import Saved, load_latents, save_latents
from studio.pipeline.preview import LatentColours, write_preview
from studio.prompt import ModelText, Tokenizer, compose, count, unread
from studio.settings import ResolvedSettings

SAVE_SECONDS = 20  # the latents on disk are at most this plus one step old
PREVIEW_SECONDS = 2  # between two previews, after the first steps
PREVIEW_STEPS = 3  # every one of the first steps has one

# Of the provenance: with all of these as they were, a rerun has the same bits.
DECIDE_THE_BITS = ("device", "torch", "dtype", "quantize", "attention")

_log = logging.getLogger(__name__)
Emit = Callable[[Event], None]
IsCancelled = Callable[[], bool]


@dataclass(frozen=True)
class Engine:
    """A model opened on this machine: what the recipe needs besides the request.

    text_fingerprint names both encoders and their tokenizers; provenance (fingerprints of every part, device, torch,
    dtype, attention backend, program version) is written into the file, so that a rerun can promise the same bits.
    """

    model: ModelConfig
    moves: Mapping[str, CameraMove]
    memory: MemoryManager
    tokenizers: Mapping[str, Tokenizer]
    embeddings: EmbeddingCache
    colours_path: Path
    text_fingerprint: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What to make and where: `stem` is the result's path without suffix, `workdir` holds latents and preview.

    image: the upright first image at any size (media.read_image), or None.
    """

    settings: ResolvedSettings
    stem: Path
    workdir: Path
    image: Image.Image | None = None
    keep_latents: bool = False


@dataclass
class _Run:
    """One execution of the recipe: whom to tell, when to stop, how long each phase took."""

    engine: Engine
    emit: Emit
    cancelled: IsCancelled
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.memory.reset_peaks()
        self.engine.memory.notify = self.notify

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.check()
        self.emit(PhaseStarted(name))
        began = monotonic()
        yield
        self.seconds[name] = round(monotonic() - began, 3)

    def notify(self, code: str, **values: Any) -> None:
        self.emit(Notice(code, values, message(code, values)))

    def check(self) -> None:
        if self.cancelled():
            raise Cancelled

    def progress(self, phase: str, step: int, steps: int, seconds: float, done: int) -> None:
        """`done` of `step` were done in `seconds`; the others came from a resumed run."""
        left = seconds / done * (steps - step) if done else None
        usage = self.engine.memory.usage()
        self.emit(Progress(phase, step, steps, seconds, left, usage.vram_bytes, usage.ram_bytes))


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn what models/ says of bad weight files into this program's own errors."""
    try:
        yield
    except CheckpointError as error:
        raise StudioError("checkpoint", reason=str(error)) from error


@file_errors()
def generate(request: Request, engine: Engine, emit: Emit, cancelled: IsCancelled) -> Finished:
    """Make the video. Settings must be checked.

    Raises StudioError (Cancelled included); the latents of the last whole step are then in `request.workdir`, and the
    same call goes on from them with the same bits.
    """
    run, settings = _Run(engine, emit, cancelled), request.settings
    output.check_place(request.stem.parent, settings)
    output.check_folder(request.workdir)
    engine.memory.require(video_shape(settings))
    text = compose(settings, engine.model, engine.moves)

    with run.phase("encode_text"):
        conditions = _encode_text(run, text, settings.cfg_scale)
    with run.phase("encode_image"):
        picture = crop_image(request.image, settings.height, settings.width) if request.image else None
        image_latents = _encode_image(run, picture, settings)
        colours = _latent_colours(run, settings)
    provenance = {**engine.provenance, "first_image_sha256": picture_hash(picture)}
    with run.phase("denoise"):
        latents = _denoise(run, request, conditions, image_latents, colours, provenance)
    return _finish(run, request, latents, picture, provenance)


@file_errors()
def decode(request: Request, latents: torch.Tensor, engine: Engine, emit: Emit, cancelled: IsCancelled) -> Finished:
    """Finish from latents (1, f, c, h, w): the last two phases of `generate` alone."""
    run = _Run(engine, emit, cancelled)
    output.check_place(request.stem.parent, request.settings)
    picture = crop_image(request.image, request.settings.height, request.settings.width) if request.image else None
    provenance = {**engine.provenance, "first_image_sha256": picture_hash(picture)}
    return _finish(run, request, latents, picture, provenance)


def _encode_text(run: _Run, text: ModelText, cfg_scale: float) -> list[Condition]:
    """The conditional text first, then the unconditional one; guidance 1 needs the first alone."""
    texts = [text.positive] if cfg_scale == 1 else [text.positive, text.negative]
    tails = unread(text.positive, run.engine.tokenizers)
    for cut in count(text.positive, run.engine.tokenizers):
        if len(tails.get(cut.encoder, "")) > len(run.engine.model.magic_words):  # words of the user's own are lost
            run.notify("text_cut", encoder=cut.encoder, limit=cut.limit, cut=cut.cut)
    cache, fingerprint = run.engine.embeddings, run.engine.text_fingerprint
    known = {text: cache.get(text, fingerprint) for text in texts}
    if fresh := [text for text in dict.fromkeys(texts) if known[text] is None]:
        for text, embeds in zip(fresh, _run_encoders(run, fresh), strict=True):
            known[text] = embeds
            cache.put(text, fingerprint, embeds)
    return [Condition(**known[text]) for text in texts]


def _run_encoders(run: _Run, texts: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Each encoder is on the device once for all texts; step_llm reads the valid tokens only (it is causal)."""
    memory, tokenizers = run.engine.memory, run.engine.tokenizers
    llm_ids = [torch.tensor([tokenizers["step_llm"].encode(text).ids]) for text in texts]
    llm = memory.step_llm(llm_ids, cancelled=run.cancelled)
    run.check()
    padded = [tokenizers["clip"].encode(text).padded() for text in texts]
    clip = memory.clip([(torch.tensor([ids]), torch.tensor([mask])) for ids, mask in padded])
    for prompt_embeds, clip_embeds in zip(llm, clip, strict=True):
        yield {"prompt_embeds": prompt_embeds, "clip_embeds": clip_embeds}


def _encode_image(run: _Run, picture: Image.Image | None, settings: ResolvedSettings) -> torch.Tensor | None:
    """The picture's latent in frame 0 and zeros after it: (1, f, c, h, w). Its mean, so the result is deterministic
    (the official server samples the posterior with an unseeded generator)."""
    if picture is None:
        return None
    video = video_shape(settings)
    with run.engine.memory.vae(video) as vae:
        first = vae.encode_image(torch.from_numpy(image_array(picture))[None, None])
    return torch.cat([first, first.new_zeros(1, video.latent_frames - 1, *first.shape[2:])], 1)


def _latent_colours(run: _Run, settings: ResolvedSettings) -> LatentColours:
    path = run.engine.colours_path
    if found := LatentColours.load(path):
        return found
    with run.engine.memory.vae(video_shape(settings)) as vae:
        fitted = LatentColours.fit(vae.encode_moments)
    fitted.store(path)
    return fitted


def _denoise(
    run: _Run,
    request: Request,
    conditions: list[Condition],
    image_latents: torch.Tensor | None,
    colours: LatentColours,
    provenance: Mapping[str, Any],
) -> torch.Tensor:
    """Noise to latents by Euler steps: (1, f, c, h, w) float32. Goes on from the work folder's latents, if any."""
    settings, video = request.settings, video_shape(request.settings)
    scheduler = FlowMatchScheduler(settings.infer_steps, settings.time_shift)
    saved = resume_point(request, provenance)
    began = saved_at = previewed_at = monotonic()
    with run.engine.memory.transformer(video) as transformer:
        if saved is None:
            saved = Saved(noise(settings, transformer.latent_channels), 0)
        latents, start = saved.latents, saved.step
        for step in range(start, settings.infer_steps):
            time = float(scheduler.times[step])
            try:
                velocities = transformer.velocities(
                    latents,
                    time,
                    conditions,
                    image_latents=image_latents,
                    motion_score=settings.motion_score,
                    cancelled=run.cancelled,
                )
            except Cancelled:
                save_latents(request.workdir, Saved(latents, step), settings, provenance)
                raise
            velocity = guide(velocities, settings.cfg_scale)
            if step < PREVIEW_STEPS or monotonic() - previewed_at > PREVIEW_SECONDS:
                _show(run, request.workdir / PREVIEW, colours.frames(latents + (1 - time) * velocity), step + 1)
                previewed_at = monotonic()
            latents = scheduler.step(velocity, latents, step)
            if monotonic() - saved_at > SAVE_SECONDS:
                _save_on_the_way(request, Saved(latents, step + 1), provenance)
                saved_at = monotonic()
            run.progress("denoise", step + 1, settings.infer_steps, monotonic() - began, step + 1 - start)
    save_latents(request.workdir, Saved(latents, settings.infer_steps), settings, provenance)
    return latents


def _show(run: _Run, path: Path, frames: np.ndarray, step: int) -> None:
    """A preview. Where it cannot be written (a full disk), the video is still made."""
    try:
        write_preview(path, frames)
    except OSError as error:
        _log.warning("no preview of step %d: %s", step, error)
    else:
        run.emit(Preview(step, path.name))


def _save_on_the_way(request: Request, saved: Saved, provenance: Mapping[str, Any]) -> None:
    """Latents to go on from. Where they cannot be written now, there will be a next time."""
    try:
        save_latents(request.workdir, saved, request.settings, provenance)
    except StudioError as error:
        _log.warning("the latents of step %d are not saved: %s", saved.step, error)


def _finish(
    run: _Run, request: Request, latents: torch.Tensor, picture: Image.Image | None, provenance: Mapping[str, Any]
) -> Finished:
    """Decode piece by piece straight into the file, then put the finished files in their places."""
    settings, began = request.settings, monotonic()
    record = output.record(settings, provenance, request.stem)
    with output.ResultWriter(request.stem, settings, record, picture) as writer:
        with run.phase("decode"), run.engine.memory.vae(video_shape(settings)) as vae:
            for piece in vae.decode_chunks(latents):
                run.check()
                writer.add(to_uint8(piece))
                run.progress("decode", writer.frames, settings.num_frames, monotonic() - began, writer.frames)
        with run.phase("write"):
            if request.keep_latents:
                save_latents(request.workdir, Saved(latents, settings.infer_steps), settings, provenance)
                writer.keep(request.workdir)
            usage = run.engine.memory.usage()
            path = writer.finish(run.seconds, asdict(usage))
    return Finished(str(path), settings.seed, run.seconds, usage.vram_peak_bytes, usage.ram_peak_bytes)


def resume_point(request: Request, provenance: Mapping[str, Any]) -> Saved | None:
    """The latents an earlier run of exactly this request left in its work folder."""
    found = load_latents(request.workdir)
    if found is None:
        return None
    same_files = found.provenance == dict(provenance)
    same_settings = replace(found.settings, first_image=None) == replace(request.settings, first_image=None)
    return found.saved if same_files and same_settings else None


def noise(settings: ResolvedSettings, channels: int) -> torch.Tensor:
    """The starting latents of a seed: (1, f, c, h, w) float32, drawn on the CPU so that every device starts equal.

    By numpy: torch.randn draws other numbers on a CPU without AVX2 (tests/bench/LOG.md).
    """
    shape = video_shape(settings).latent_shape(channels)
    drawn = np.random.Generator(np.random.PCG64(settings.seed)).standard_normal(shape)
    return torch.from_numpy(drawn.astype(np.float32))


def guide(velocities: list[torch.Tensor], cfg_scale: float) -> torch.Tensor:
    """Classifier-free guidance in float32: away from the unconditional velocity, towards the conditional one."""
    if len(velocities) == 1:
        return velocities[0]
    conditional, unconditional = velocities
    return unconditional + cfg_scale * (conditional - unconditional)


def to_uint8(frames: torch.Tensor) -> np.ndarray:
    """Frames (t, 3, H, W) in -1..1 -> uint8 (t, H, W, 3), rounded down as officially."""
    return ((frames.float().clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).cpu().numpy()


def video_shape(settings: ResolvedSettings) -> VideoShape:
    """The size of the video the settings ask for."""
    return VideoShape(settings.num_frames, settings.height, settings.width)


def picture_hash(picture: Image.Image | None) -> str | None:
    """sha256 of the cropped picture's pixels."""
    return hashlib.sha256(picture.tobytes()).hexdigest() if picture else None


def check_rerun(record: Mapping[str, Any], request: Request, engine: Engine) -> None:
    """Raise InputError where a file's picture or model is not what this request would use."""
    if "model_fingerprint" not in record:
        raise InputError("metadata_missing", reason="it does not tell which model files it was made with")
    picture = crop_image(request.image, request.settings.height, request.settings.width) if request.image else None
    if record.get("first_image_sha256") != picture_hash(picture):
        raise InputError("rerun_picture")
    if record.get("model_fingerprint") != engine.provenance["model_fingerprint"]:
        raise InputError("rerun_model", model=engine.model.name)


def rerun_changes(record: Mapping[str, Any], engine: Engine) -> dict[str, tuple[Any, Any]]:
    """What else decides the bits and is not as it was when the file was made: name -> (then, now)."""
    pairs = {name: (record.get(name), engine.provenance[name]) for name in DECIDE_THE_BITS}
    return {name: (then, now) for name, (then, now) in pairs.items() if then != now}
