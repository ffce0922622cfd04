"""`decode`: a video from saved latents."""

import argparse
from dataclasses import replace

from PIL import Image

from studio.commands.machine import engine_options, find_model, hold_device, opened, studio_config
from studio.commands.signals import STOPPING, stopping
from studio.commands.terminal import ProgressBar, print_result
from studio.commands.user_files import original_inside, read_picture, result_stem
from studio.config import ModelConfig, load_camera_moves
from studio.filenames import write_whole
from studio.media import png_bytes
from studio.pipeline.engine import EngineOptions, usable_folders
from studio.pipeline.generate import decode, decode_frame
from studio.pipeline.latents_file import LatentsFile, check_whole, read_latents
from studio.pipeline.run import Request


def run(options: argparse.Namespace) -> int:
    """Finish a video from saved latents."""
    config, asked = studio_config(options), engine_options(options)
    moves = load_camera_moves()
    found = read_latents(options.latents, lambda settings: settings.check(find_model(settings.model, config), moves))
    check_whole(found)
    settings, model = found.settings, find_model(found.settings.model, config)
    image, has_image = read_picture(options.first_image, config), settings.first_image is not None
    if options.frame is not None:
        return _frame(options, found, model, asked)
    request = Request(settings, result_stem(options.output, settings, config), options.latents.parent, image)
    usable_folders(model, has_image, config, asked)  # a model that is missing is said before the device is waited for
    with stopping(STOPPING) as stop, hold_device(asked, stop), ProgressBar() as bar:
        with opened(model, has_image, config, asked, bar.show) as engine:
            request = replace(request, original=original_inside(options.first_image, config, bar.show))
            finished = decode(request, found, engine, bar.show, stop.is_set)
    print_result(finished)
    return 0


def _frame(options: argparse.Namespace, found: LatentsFile, model: ModelConfig, asked: EngineOptions) -> int:
    """One frame as a png, exactly as it is decoded."""
    config, has_image = studio_config(options), found.settings.first_image is not None
    stem = result_stem(options.output, replace(found.settings, num_frames=1), config)
    usable_folders(model, has_image, config, asked)
    with stopping(STOPPING) as stop, hold_device(asked, stop), ProgressBar() as bar:
        with opened(model, has_image, config, asked, bar.show) as engine:
            frame = decode_frame(found, options.frame, engine, bar.show, stop.is_set)
    path = stem.with_name(f"{stem.name}.png")
    write_whole(path, png_bytes(Image.fromarray(frame)))
    print(path)
    return 0
