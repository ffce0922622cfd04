"""What every command starts with: the machine's config, the model that is meant, its device, the opened model."""

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from studio.commands.starting import EVERY_ADDRESS
from studio.commands.streams import tell
from studio.config import ModelConfig, StudioConfig, load_camera_moves, load_models, load_studio, model_named
from studio.events import Event, Notice, PhaseStarted, notice
from studio.memory.plan import WeightMode
from studio.messages import clean
from studio.pipeline.engine import EngineOptions, is_installed, open_engine, pick_device
from studio.pipeline.run import Engine
from studio.queue.locks import DeviceLock, runtime_folder

_CONFIG_FLAGS = {
    "model_dir": "model_dir",
    "output_dir": "output_dir",
    "vram": "vram_gb",
    "ram": "ram_gb",
    "port": "port",
    "clip": "clip_dir",
}


def studio_config(options: argparse.Namespace) -> StudioConfig:
    """configs/studio.yaml with the command line's values."""
    given = vars(options)
    values = {field: given[flag] for flag, field in _CONFIG_FLAGS.items() if given.get(flag) is not None}
    if given.get("listen"):
        values["host"] = EVERY_ADDRESS
    return load_studio(**values)


def engine_options(options: argparse.Namespace) -> EngineOptions:
    """--device, --offload, --quantize and --attention as given, else their defaults."""
    given = vars(options)
    asked = EngineOptions(weights=WeightMode(given.get("quantize") or WeightMode.NONE))
    return replace(asked, **{name: given[name] for name in ("device", "offload", "attention") if given.get(name)})


def card_options(options: argparse.Namespace) -> EngineOptions:
    """engine_options of a plan: --vram asks about a card, whether this machine has one or not."""
    asked = engine_options(options)
    return replace(asked, device="cuda") if asked.device == "auto" and "vram" in vars(options) else asked


def find_model(name: str | None, config: StudioConfig) -> ModelConfig:
    """The named model; without a name the first one that is installed, nano coming last. Raises InputError."""
    models = load_models()
    if name is None:
        return next((model for model in models.values() if is_installed(model, config.model_dir)), models["nano"])
    return model_named(name, models)


@contextmanager
def hold_device(
    options: EngineOptions, stop: threading.Event, purpose: str = "generate on the command line"
) -> Iterator[None]:
    """Hold the device; where another process has it, say so and wait. Raises Cancelled when stopped meanwhile."""
    device = pick_device(options.device)
    lock = DeviceLock(runtime_folder(), str(device), purpose)

    def name(holder: str) -> None:
        tell(f"Waiting for {device}, in use by {clean(holder) or 'another process'}.")

    lock.wait(name, stop.is_set)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opened(
    model: ModelConfig, has_image: bool, config: StudioConfig, options: EngineOptions, emit: Callable[[Event], None]
) -> Iterator[Engine]:
    """The model for one job, its memory released afterwards. The device must be held: its free memory is read here."""
    emit(PhaseStarted("load"))
    engine = open_engine(model, has_image, load_camera_moves(), config, options)
    try:
        yield engine
    finally:
        engine.memory.release()


def notices(engine: Engine, options: EngineOptions) -> list[Notice]:
    """What is to be known of the options before a job: whether products in int8, if asked for, are any faster here."""
    if options.weights is not WeightMode.INT8_COMPUTE:
        return []
    speeds = engine.memory.speeds
    return [notice("compute_speed", int8=speeds.int8_tflops or 0.0, usual=speeds.tflops)]
