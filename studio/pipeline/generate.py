"""The recipe: text and perhaps a picture become a video. `generate` reads top to bottom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from models.geometry import CHUNK_FRAMES, VideoShape
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Finished
from studio.memory.sessions import TransformerSession
from studio.pipeline import output
from studio.pipeline.encode import Conditioning, encode_image, encode_text
from studio.pipeline.evaluation_plan import EvaluationPlan, Node, plan_of
from studio.pipeline.finite import refuse
from studio.pipeline.latents_file import EARLIER, EarlierRun, LatentsFile, check_whole, earlier_run, resume_plan
from studio.pipeline.observers import GrowthWatch, LatentsSaver, PreviewWriter
from studio.pipeline.rank_roles import Roles
from studio.pipeline.rerun import cropped_picture, provenance_of
from studio.pipeline.run import (
    Emit,
    Engine,
    IsCancelled,
    Request,
    Run,
    WantsFinish,
    WantsSharp,
    file_errors,
    to_the_end,
)
from studio.pipeline.sampler import Passes, SamplerState, denoise, noise
from studio.pipeline.seam import Seam
from studio.pipeline.sharp import SharpPreview, never
from studio.prompt import compose

if TYPE_CHECKING:
    from studio.pipeline.ranks import Ranks  # needs omegaconf, which a machine with torch alone may lack

OF_THE_STEPS = ("plan", "forwards", EARLIER)  # what saved latents tell


@file_errors()
def generate(
    request: Request,
    engine: Engine,
    emit: Emit,
    cancelled: IsCancelled,
    finish: WantsFinish = to_the_end,
    *,
    sharp: WantsSharp = never,
) -> Finished:
    """Make the video. Settings must be checked.

    finish: asked after every step; once it is true, the clean estimate of that step is decoded, the notice
    `finished_early` and the file tell so, and the latents in `request.workdir` go on to the whole video another time.
    sharp: asked after every step; while it is true, previews are decoded (sharp.py).
    Raises StudioError (Cancelled included); the latents of the last whole step are then in `request.workdir`, and the
    same call resumes from them with the same bits; on another device or version it goes on as well, and tells so.
    """
    run, settings = Run(engine, emit, cancelled, finish, sharp), request.settings
    output.check_place(request.stem.parent, settings)
    output.check_folder(request.workdir)
    engine.memory.require(settings.video_shape)
    text = compose(settings, engine.model, engine.moves)
    stopped = resume_plan(request.workdir, settings, engine.provenance["model_fingerprint"])
    plan = request.plan or stopped or plan_of(settings, engine.calibrations)
    roles = roles_of(engine, settings.video_shape, plan)

    with run.phase("encode_text"):
        texts = encode_text(run, text, guided=plan.is_guided)
        own = texts if roles is None else texts[roles.texts(0)]
        engine.memory.keep_texts(settings.video_shape, own, cancelled=cancelled)
    with run.phase("encode_image"):
        picture = cropped_picture(request)
        conditioning = Conditioning(texts, encode_image(run, picture, settings.video_shape), settings.motion_score)
    provenance = provenance_of(engine, picture) | {"plan": plan.to_dict(), "forwards": plan.forwards}
    earlier = _usable(run, earlier_run(request.workdir, settings, provenance))
    if earlier is not None and (parts := earlier.earlier_steps()):
        provenance[EARLIER] = parts
    state = None if earlier is None else earlier.saved.state
    with engine.colours.beside(engine.memory.ram_room(settings.video_shape)):
        with run.phase("denoise"):
            latents, measured = _denoise(run, request, plan, conditioning, provenance, state)
        finished = _finish(run, request, latents, picture, provenance, measured)
    if engine.colours.missing:
        with engine.memory.vae(settings.video_shape) as vae:
            engine.colours.fit(vae)
    return finished


@file_errors()
def decode(request: Request, saved: LatentsFile, engine: Engine, emit: Emit, cancelled: IsCancelled) -> Finished:
    """Finish from saved latents: the last two phases of `generate` alone. Settings must be checked.

    Raises InputError for latents of a run that did not come to its end: what is left of the noise would be decoded.
    """
    run = Run(engine, emit, cancelled)
    check_whole(saved)
    output.check_place(request.stem.parent, request.settings)
    _check_channels(saved, engine)
    picture = cropped_picture(request)
    told: dict[str, Any] = {name: saved.provenance[name] for name in OF_THE_STEPS if name in saved.provenance}
    told |= {"velocity_growths": saved.state.growths} if told else {}
    return _finish(run, request, saved.state.latents, picture, provenance_of(engine, picture) | told, {})


@file_errors()
def decode_frame(
    saved: LatentsFile,
    number: int,
    engine: Engine,
    emit: Emit,
    cancelled: IsCancelled,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """Frame `number`, counted from 1, of saved latents: uint8 (H, W, 3). Raises InputError where there is none.

    before: of a video that follows another one, the frame (H, W, 3) that it goes on from; frames are then those that
    are seen (seam.py).
    """
    run, shape, first = Run(engine, emit, cancelled), saved.settings.video_shape, 0
    _check_channels(saved, engine)
    seam = None if before is None else Seam(before, shape.frames)
    count = shape.frames - (seam is not None and shape.frames > 1)
    if not 1 <= number <= count:
        raise InputError("part_empty", first=number, last=number, frames=count)
    with run.phase("decode"), engine.memory.vae(shape) as vae:
        for piece in vae.decode_chunks(saved.state.latents, output.pixels, partial(refuse, "decode")):
            run.check()
            frames = piece.numpy() if seam is None else seam(piece.numpy())
            if number <= first + len(frames):
                return np.asarray(frames[number - 1 - first])
            first += len(frames)
    raise ValueError("the latents have fewer frames than their settings say")


def _check_channels(saved: LatentsFile, engine: Engine) -> None:
    found, known = saved.state.latents.shape[2], engine.memory.latent_channels
    if found != known:
        raise InputError("latents_channels", found=found, known=known, model=saved.settings.model)


def _usable(run: Run, earlier: EarlierRun | None) -> EarlierRun | None:
    """The earlier run where this one may go on from it; tells where that changes something.

    Raises StudioError where its latents are to be finished early and are of another model or picture.
    """
    if earlier is None or not earlier.changed:
        return earlier
    told = {"step": earlier.saved.state.step, "what": ", ".join(sorted(earlier.changed))}
    if earlier.is_usable:
        run.notify("resumed_elsewhere", **told)
        return earlier
    if run.finish():
        raise StudioError("latents_of_others", **told)
    if told["step"]:
        run.notify("begun_anew", **told)
    return None


def _denoise(
    run: Run,
    request: Request,
    plan: EvaluationPlan,
    conditioning: Conditioning,
    provenance: dict[str, Any],
    state: SamplerState | None,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Noise, or the state of an earlier run, to latents (1, f, c, h, w) float32, and what the file says of the steps.

    Where the job is to finish early, the latents are the last step's clean estimate.
    """
    settings, steps, began = request.settings, len(plan.nodes), monotonic()
    preview = PreviewWriter(request.workdir, run.engine.colours.now, run.emit)
    sharp, watch = _sharp_preview(run, request), GrowthWatch(run.notify)
    saver = LatentsSaver(request.workdir, settings, provenance)
    roles = roles_of(run.engine, settings.video_shape, plan)
    with _passes(run, settings.video_shape, conditioning, plan) as (transformer, passes):
        if state is None:
            state = SamplerState(noise(settings.video_shape, transformer.latent_channels, settings.seed), 0)
        first, estimate = state.step, None
        watch(state)
        try:
            for step in denoise(state, plan, passes):
                state = step.state
                watch(state)
                if roles is not None or state.step == steps or not sharp(step):
                    preview(step)
                saver(step)
                done, left = plan.passes(first, state.step), plan.passes(state.step, steps)
                run.progress("denoise", state.step, steps, monotonic() - began, (done, left))
                if state.step < steps and run.finish():
                    estimate = step.clean_estimate()
                    break
        except StudioError as error:
            if isinstance(error, Cancelled) or roles is not None:  # what ends one of several devices ends the video
                saver.save(state)
            raise
    saver.save(state)
    done = plan.passes(first, state.step)
    seconds = round((monotonic() - began) / done, 4) if done else None
    measured: dict[str, Any] = {"seconds_per_pass": seconds, "velocity_growths": state.growths}
    if roles is not None:
        measured |= roles.record()
    if estimate is None:
        return state.latents, measured
    run.notify("finished_early", step=state.step, steps=steps)
    early = {"step": state.step, "steps": steps}
    return estimate, measured | {"finished_early": early, "forwards": plan.forwards_of(state.step)}


def _sharp_preview(run: Run, request: Request) -> SharpPreview:
    """Decodes on the device, between two steps."""
    memory, video = run.engine.memory, request.settings.video_shape

    def decode_first(latents: torch.Tensor) -> np.ndarray:
        with memory.vae(video) as vae:
            pieces = []
            for piece in vae.decode_chunks(latents, output.pixels, partial(refuse, "decode")):
                run.check()
                pieces.append(piece.numpy())
            return np.concatenate(pieces)

    first = replace(video, frames=min(video.frames, CHUNK_FRAMES))
    return SharpPreview(request.workdir, decode_first, run.emit, run.sharp, memory.decode_seconds(first))


@contextmanager
def _passes(
    run: Run, video: VideoShape, conditioning: Conditioning, plan: EvaluationPlan
) -> Iterator[tuple[TransformerSession, Passes]]:
    """The transformer on this device, and the passes, which other ranks share where there are any."""
    ranks, roles = run.engine.ranks, roles_of(run.engine, video, plan)
    with run.engine.memory.transformer(video) as transformer:
        if ranks is None or roles is None:
            yield transformer, conditioning.passes(transformer, run.cancelled, last=plan.nodes[-1])
            return
        with ranks.passes(run.engine.memory, transformer, conditioning, plan, (video, roles), run.cancelled) as passes:
            yield transformer, _telling(run, video, ranks, passes)


def _telling(run: Run, video: VideoShape, ranks: "Ranks", passes: Passes) -> Passes:
    """The passes; after the first step the notice `gpus_shared` names the cards and what each was promised."""
    told: list[str] = []

    def run_passes(latents: torch.Tensor, node: Node) -> Sequence[torch.Tensor]:
        found = passes(latents, node)
        if not told:
            told.extend(promise.words() for promise in ranks.promises(run.engine, video))
            run.notify("gpus_shared", count=ranks.count, cards=", ".join(told))
        return found

    return run_passes


def roles_of(engine: Engine, video: VideoShape, plan: EvaluationPlan) -> Roles | None:
    """Who computes what of a video, where several devices share it. Raises InputError where they cannot."""
    if engine.ranks is None:
        return None
    return engine.ranks.roles(engine.memory.attention_heads, video, guided=plan.is_guided)


@contextmanager
def _elsewhere(run: Run, video: VideoShape, latents: torch.Tensor) -> Iterator[Callable[[int], torch.Tensor | None]]:
    """The chunks that other ranks decode, where there are any."""
    if (ranks := run.engine.ranks) is None:
        yield lambda chunk: None
        return
    with ranks.decoding(latents, video, run.engine.memory.dtype, run.cancelled) as elsewhere:
        yield elsewhere


def _finish(
    run: Run,
    request: Request,
    latents: torch.Tensor,
    picture: Image.Image | None,
    provenance: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> Finished:
    """Decode piece by piece straight into the file, then put the finished files in their places.

    measured: of the denoising, for the file.
    """
    settings, began, decoded = request.settings, monotonic(), 0
    seam = Seam(np.asarray(picture), settings.num_frames) if request.seam and picture is not None else None
    told = {**provenance, **measured} | ({} if seam is None else {"seam": True})
    record = output.record(settings, told, request.stem)
    with output.ResultWriter(request.stem, settings, record, picture, request.original) as writer:
        with (
            run.phase("decode"),
            run.engine.memory.vae(settings.video_shape) as vae,
            _elsewhere(run, settings.video_shape, latents) as elsewhere,
        ):
            # Bytes on the device already: a quarter of float32's to copy.
            for piece in vae.decode_chunks(latents, output.pixels, partial(refuse, "decode"), elsewhere):
                run.check()
                frames, decoded = piece.numpy(), decoded + len(piece)
                writer.add(frames if seam is None else seam(frames))
                work = decoded, settings.num_frames - decoded
                run.progress("decode", decoded, settings.num_frames, monotonic() - began, work)
        with run.phase("write"):
            if request.keep_latents:
                writer.keep(request.workdir)
            usage = run.engine.memory.usage()
            if request.keep_last_frame:
                writer.keep_last_frame(request.workdir)
            path = writer.finish(run.seconds, asdict(usage))
    return Finished(str(path), settings.seed, run.seconds, usage.vram_peak_bytes, usage.ram_peak_bytes)
