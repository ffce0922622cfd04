"""A backend without models: the real queue and gallery, and a thread that plays the worker with painted frames."""

import json
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from studio import filenames
from studio.commands.page import plan_in_file
from studio.commands.sound_desk import sound_desk
from studio.config import load_camera_moves, load_examples, load_models, load_presets, load_studio
from studio.events import Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.prompt import EncoderCount, compose
from studio.queue.gallery import Gallery
from studio.queue.job import FINISHED_EARLY, STOPS, Job, JobState, Request
from studio.queue.jobs import JobQueue
from studio.service.backend import Backend, DiskNeed, TextReport
from studio.service.downloads import Downloads
from studio.service.rights import maker
from studio.service.uploads import Uploads
from studio.settings import ResolvedSettings
from studio.units import GB
from studio.video_writer import VideoWriter

LIMITS = {"step_llm": 320, "clip": 77}
FAIL_WORD = "fail"  # a prompt that holds it fails


def paint(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """A sunrise over hills and water: uint8 (frames, height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : width / height : width * 1j][:2]
    hue = random.uniform(0, 1)
    top = np.array([0.10 + 0.25 * hue, 0.22, 0.42 - 0.1 * hue])
    low = np.array([0.98, 0.72 - 0.2 * hue, 0.48 + 0.2 * hue])
    pictures = []
    for frame in range(frames):
        t = frame / max(frames - 1, 1)
        picture = top + (low - top) * (np.clip(y / 0.62, 0, 1) ** 1.3)[..., None]
        sun = np.exp(-(((x - width / height * (0.35 + 0.3 * t)) ** 2 + (y - 0.5 + 0.22 * t) ** 2) / 0.012))
        picture = picture + sun[..., None] * np.array([0.6, 0.5, 0.3])
        for layer in range(3):
            phase, scale = random.uniform(0, 6), 2.2 + 1.3 * layer
            ridge = 0.50 + 0.05 * layer + 0.05 * np.sin(scale * (x + 0.06 * t * layer) + phase + seed) * np.cos(1.7 * x)
            shade = np.array([0.20, 0.30, 0.40]) * (1 - 0.25 * layer)
            picture = np.where((y > ridge)[..., None], shade + 0.25 * (1 - layer / 3) * low * 0.6, picture)
        random = np.random.default_rng(seed)
        random.uniform(0, 1)
        ripples = 0.5 + 0.5 * np.sin(90 * (y - 0.66).clip(0) ** 0.6 + 31.4 * t + 6 * x)
        water = (
            np.array([0.16, 0.27, 0.36])
            + 0.35 * (ripples * np.exp(-(((x - width / height * 0.5) ** 2) / 0.25)))[..., None] * low
        )
        picture = np.where((y > 0.66)[..., None], water, picture)
        pictures.append((picture.clip(0, 1) * 255).astype(np.uint8))
    return np.stack(pictures)


@dataclass
class Pace:
    """How fast the played worker is: seconds per denoising step, and a fixed number of steps (None: as asked)."""

    step_seconds: float = 0.02
    steps: int | None = 6


class Player(threading.Thread):
    """Works the queue like the worker process, without a model."""

    def __init__(self, queue: JobQueue, output_dir: Path, pace: Pace) -> None:
        super().__init__(daemon=True)
        self.queue, self.output_dir, self.pace = queue, output_dir, pace
        self._ending = threading.Event()

    def end(self) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.is_set():
            if job := self.queue.claim():
                self._play(job)
            else:
                time.sleep(0.02)
        self.queue.interrupt_running()

    def _stopped(self, job: Job) -> bool:
        return self._ending.is_set() or self.queue.request(job.id) in STOPS

    def _play(self, job: Job) -> None:
        settings, tell = job.settings, lambda event: self.queue.record(job.id, event)
        small = paint(6, settings.height // 2, settings.width // 2, settings.seed % 997)
        for phase in ("encode_text", "encode_image"):
            tell(PhaseStarted(phase))
            time.sleep(self.pace.step_seconds)
        if FAIL_WORD in settings.prompt:
            tell(Failed("disk_full", {"folder": "/1", "free_gb": 0.5, "need_gb": 2.0}, "the disk is full"))
            return
        tell(PhaseStarted("denoise"))
        steps, began = self.pace.steps or settings.infer_steps, time.time()
        for step in range(1, steps + 1):
            for _ in range(max(int(self.pace.step_seconds / 0.02), 1)):
                time.sleep(min(self.pace.step_seconds, 0.02))
                if self._stopped(job):
                    if not self._ending.is_set():
                        self.queue.stopped(job.id)
                    return
            self._preview(job, small, step / steps)
            tell(Preview(step, filenames.PREVIEW))
            if self.queue.request(job.id) == Request.FINISH and step < steps:
                tell(Notice(FINISHED_EARLY, {"step": step, "steps": steps}, "early"))
                break
            spent = time.time() - began
            tell(Progress("denoise", step, steps, spent, spent / step * (steps - step), 19 * GB, 24 * GB))
        self._finish(job, tell)

    def _preview(self, job: Job, frames: np.ndarray, done: float) -> None:
        noise = np.random.default_rng(0).normal(0, 90 * (1 - done) ** 1.5, frames.shape)
        side = 1 + round(9 * (1 - done))
        pictures = []
        for frame in (frames + noise).clip(0, 255).astype(np.uint8):
            picture = Image.fromarray(frame)
            tiny = picture.resize((picture.width // side, picture.height // side))
            pictures.append(tiny.resize((picture.width, picture.height), Image.Resampling.BICUBIC))
        path = job.folder / "preview.tmp"
        pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:], duration=160, loop=0, method=0)
        path.replace(job.folder / filenames.PREVIEW)

    def _finish(self, job: Job, tell) -> None:
        settings = job.settings
        tell(PhaseStarted("decode"))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / f"{job.id}.mp4"
        record = {"program": "step-video-studio", "settings": asdict(replace(settings, first_image=None))}
        frames = paint(min(settings.num_frames, 34), settings.height, settings.width, settings.seed % 997)
        writer = VideoWriter(path, settings.height, settings.width, 25, record)
        writer.add(frames)
        writer.close()
        tell(PhaseStarted("write"))
        Image.fromarray(frames[len(frames) // 2]).save(filenames.beside(path, ".jpg"), quality=88)
        filenames.beside(path, ".json").write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        tell(Finished(str(path), settings.seed, {"denoise": 1.0}, 19 * GB, 24 * GB))


class FakeBackend:
    """Builds a Backend in `folder`, and plays its worker when asked to."""

    def __init__(self, folder: Path, pace: Pace | None = None, installed: tuple[str, ...] = ("nano",)) -> None:
        self.folder, self.pace = folder, pace or Pace()
        self.models, self.moves = load_models(), load_camera_moves()
        self.names = installed
        self.vram_limit_gb = 80.0
        queue = JobQueue(folder / ".queue", maker=maker)
        self.uploads = Uploads(folder / "uploads", 64 * 2**20, 2**30)
        self.player: Player | None = None
        self.calibrated: dict[str | tuple[str, bool], float] = {}  # model, or with whether it takes a picture: guidance
        self.counted: tuple[str, ...] = ()  # models whose tokenizers alone are here
        self.is_owner, self.trouble, self.token_error = True, None, None
        self.backend = Backend(
            queue=queue,
            gallery=Gallery(queue, folder),
            config=load_studio(output_dir=folder, upload_limit_mb=8),
            models=self.models,
            camera_moves=self.moves,
            presets=load_presets(),
            examples=load_examples(),
            downloads=Downloads(self.download_command, lambda name: (0, 0)),
            disk=lambda name: DiskNeed(98 * GB, 512 * GB),
            installed=lambda: {name: name in self.names for name in self.models},
            count_tokens=self.count_tokens,
            plan=self.plan,
            usage=self.usage,
            sound=sound_desk(folder),
            calibrated=lambda name, has_image, guidance, shift, schedule: (
                guidance <= self.calibrated.get((name, has_image), self.calibrated.get(name, 0.0))
                and (shift >= 3 and schedule == "constant")
            ),
            rerun_plan=plan_in_file,
            owner=lambda: self.is_owner,
            trouble=lambda: self.trouble,
        )

    def start_over(self, folder: Path) -> None:
        """The same page on an empty queue: building a page takes longer than a test."""
        self.folder, self.vram_limit_gb = folder, 80.0
        self.is_owner, self.trouble, self.token_error = True, None, None
        queue = JobQueue(folder / ".queue", maker=maker)
        object.__setattr__(self.backend, "queue", queue)
        object.__setattr__(self.backend, "gallery", Gallery(queue, folder))

    def play(self) -> Player:
        self.player = Player(self.backend.queue, self.folder, self.pace)
        self.player.start()
        return self.player

    def download_command(self, model: str, source: str, tokenizers_only: bool) -> list[str]:
        return ["false"]

    def count_tokens(self, settings: ResolvedSettings, language: str) -> TextReport:
        if self.token_error:
            raise self.token_error
        model = self.models[settings.model]
        sent = compose(settings, model, self.moves)
        if model.name not in (*self.names, *self.counted):
            return TextReport(sent.positive, sent.negative)
        counts, unread = [], {}
        for name, limit in LIMITS.items():
            used = len(sent.positive) + 2
            counts.append(EncoderCount(name, min(used, limit), limit, max(used - limit, 0)))
            unread[name] = sent.positive[limit - 2 :]
        return TextReport(sent.positive, sent.negative, tuple(counts), unread)

    def plan(self, settings: ResolvedSettings) -> dict:
        vram = 4 + settings.num_frames * settings.height * settings.width / 544 / 992 / 204 * 11
        seconds = settings.infer_steps * settings.num_frames * settings.height * settings.width / 3e6
        seconds *= {"exact": 1.0, "fast": 0.58, "draft": 0.24}[settings.speed]
        return {
            "fits": vram <= self.vram_limit_gb,
            "vram_peak_gb": vram,
            "ram_peak_gb": 21.3,
            "seconds_per_step": seconds / settings.infer_steps,
            "seconds_total": seconds,
            "remedy": {"en": "Lower num_frames or raise --vram.", "zh": "请减少 num_frames 或提高 --vram。"},
        }

    def usage(self) -> dict:
        busy = bool(self.backend.queue.list(states=(JobState.RUNNING,), limit=1))
        return {
            "vram_gb": 19.2 if busy else 0.6,
            "vram_total_gb": 24.0,
            "ram_gb": 31.5 if busy else 9.4,
            "ram_total_gb": 64.0,
        }
