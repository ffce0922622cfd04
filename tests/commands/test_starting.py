"""What a start of the page says, and when: the port is looked at before anything that takes seconds is imported."""

import socket
import subprocess
import sys

from studio.config import ROOT
from tests.ui.visitor import free_port

# `main`, where running a command tells its module and what was imported by then.
START = """
import sys
from types import SimpleNamespace
from studio.commands import cli

def heavy():
    return [name for name in ("torch", "gradio", "fastapi") if name in sys.modules]

cli.import_module = lambda name: SimpleNamespace(run=lambda options: print(name, heavy()) or 0)
sys.exit(cli.main(sys.argv[1:]))
"""


def start(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    command = [sys.executable, "-c", START, *map(str, words)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def test_a_taken_port_is_told_and_a_start_announced_before_anything_heavy_is_imported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for words in ((), ("--listen",)):
            code, out, told = start("--port", port, *words)
            assert (code, out) == (1, ""), "the page's module was not imported"
            assert f"Port {port} of" in told and "choose another with --port" in told
    port = free_port()
    code, out, told = start("--port", port)
    assert (code, out) == (0, "studio.commands.page []\n"), told
    assert f"on port {port}" in told and "some seconds" in told
    assert start("queue", "list") == (0, "studio.commands.queue []\n", ""), "it opens no page"
