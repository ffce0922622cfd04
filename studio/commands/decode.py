"""`decode`: a video from saved latents."""

import argparse
from dataclasses import replace

from studio.commands.machine import engine_options, find_model, hold_device, opened, studio_config
from studio.commands.signals import STOPPING, stopping
from studio.commands.terminal import ProgressBar, print_result
from studio.commands.user_files import original_inside, read_picture, result_stem
from studio.config import load_camera_moves
from studio.pipeline.engine import usable_folders
from studio.pipeline.generate import decode
from studio.pipeline.latents_file import read_latents
from studio.pipeline.run import Request


def run(options: argparse.Namespace) -> int:
    """Finish a video from saved latents."""
    config, asked = studio_config(options), engine_options(options)
    moves = load_camera_moves()
    found = read_latents(options.latents, lambda settings: settings.check(find_model(settings.model, config), moves))
    settings, model = found.settings, find_model(found.settings.model, config)
    image, has_image = read_picture(options.first_image, config), settings.first_image is not None
    request = Request(settings, result_stem(options.output, settings, config), options.latents.parent, image)
    usable_folders(model, has_image, config, asked)  # a model that is missing is said before the device is waited for
    with stopping(STOPPING) as stop, hold_device(asked, stop), ProgressBar() as bar:
        with opened(model, has_image, config, asked, bar.show) as engine:
            request = replace(request, original=original_inside(options.first_image, config, bar.show))
            finished = decode(request, found, engine, bar.show, stop.is_set)
    print_result(finished)
    return 0
