"""Evaluations and blind tests of the page: its flags about the machine go on to the command that makes them."""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from studio.commands.cli import build_parser
from studio.commands.devices import worker_devices
from studio.commands.evaluate import checked_tasks
from studio.commands.machine import engine_options, studio_config
from studio.commands.worker_process import FLAGS, START, flags
from studio.config import ModelConfig, StudioConfig
from studio.evals.blind_tests import BlindTests
from studio.evals.evaluate_routes import EvaluateRoutes
from studio.evals.evaluations import Evaluations
from studio.service.endpoints import Endpoints, joined

FOLDER = "evaluations"  # in the folder of results


@contextmanager
def evaluation_endpoints(
    options: argparse.Namespace,
    config: StudioConfig,
    models: Mapping[str, ModelConfig],
    installed: Callable[[], Mapping[str, bool]],
) -> Iterator[Endpoints]:
    """Routes and tabs. At the end the evaluation that is being made is stopped; it goes on later."""
    machine = flags({name: vars(options).get(name) for name in FLAGS if name != "quantize"})

    def command(words: Sequence[str]) -> list[str]:
        return [*START, *words, "--until-stdin-ends", *machine]

    def check(words: Sequence[str]) -> int:
        asked = build_parser().parse_args([*words, *machine])
        return len(checked_tasks(asked, studio_config(asked), worker_devices(engine_options(asked).device)[0].device))

    evaluations = Evaluations(config.output_dir / FOLDER, command, check)
    with tempfile.TemporaryDirectory() as stripped:
        tests = BlindTests(evaluations.folder, Path(stripped))
        try:
            yield joined(EvaluateRoutes(evaluations, models, installed).endpoints(), tests.endpoints())
        finally:
            evaluations.close()
