"""`cluster start | join ADDRESS`: makes this machine the head of a Ray cluster, or adds its cards to one.

Whoever has a cluster's token runs anything on its machines: nothing starts without one.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from studio import PROGRAM
from studio.commands.starting import EVERY_ADDRESS, check_port
from studio.commands.worker_process import FLAGS
from studio.config import ROOT
from studio.errors import InputError, StudioError
from studio.queue.worker import Stop

FLAGS_VARIABLE = "STEP_VIDEO_STUDIO_FLAGS"  # the flags about its machine with which a node joined, as json
TOKEN_VARIABLE = "RAY_AUTH_TOKEN_PATH"
TOKEN_FILE = Path("~/.ray/auth_token")
GROUP = "gpus_per_video"  # what a node has of it: how many of its cards share each video
START_SECONDS = 120
CONNECT_SECONDS = 5.0


def run(options: argparse.Namespace) -> int:
    """Start or join, in the background. Raises StudioError where Ray does not start."""
    if find_spec("ray") is None:
        raise InputError("ray_missing")
    group = _group(options)
    if options.action == "start":
        check_port(EVERY_ADDRESS, options.port)
        if not token_path().is_file():
            token_path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            token_path().touch(mode=0o600)
            token_path().write_text(secrets.token_hex(32))
        _ray("start", "--head", f"--port={options.port}", "--include-dashboard=false", *group, options=options)
        print("Ray's processes on this machine listen on:")
        for program, address, port in listening(ray_folder()):
            print(f"  {address}:{port}  {program}")
        print("and each card's actor on one more, from 10002 on.")
        print(f"The token lies in {token_path()}. On every other machine, with this token there:")
        print(f"  {PROGRAM} cluster join THIS_MACHINE:{options.port}")
        print(f"Then, here:\n  {PROGRAM} --cluster 127.0.0.1:{options.port}")
        print("The cluster stays until each machine is told: ray stop")
        return 0
    if not token_path().is_file():
        raise InputError("cluster_token", file=str(token_path()))
    check_reachable(options.address)
    _ray("start", f"--address={options.address}", *group, options=options)
    print(f"This machine's cards make videos for {options.address}.")
    return 0


def token_path() -> Path:
    """Where the cluster's token lies on this machine."""
    return Path(os.environ.get(TOKEN_VARIABLE) or TOKEN_FILE).expanduser()


def environment(options: argparse.Namespace) -> dict[str, str]:
    """What Ray's processes of this machine are given: the token, this program, the flags about the machine."""
    given = {name: vars(options).get(name) for name in (*FLAGS, "gpus")}
    words = [
        word for name, value in given.items() if value is not None for word in (f"--{name.replace('_', '-')}", value)
    ]
    paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    token = {"RAY_AUTH_MODE": "token", TOKEN_VARIABLE: str(token_path())}
    return token | {FLAGS_VARIABLE: json.dumps([str(word) for word in words]), "PYTHONPATH": paths,
                    "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip


def work_cluster(queue_folder: Path, results: Path, options: argparse.Namespace, name: str, stop: Stop) -> int:
    """Work the queue on the cards of a cluster until `stop.asked`; returns the exit code."""
    if find_spec("ray") is None:
        raise InputError("ray_missing")
    if not token_path().is_file():
        raise InputError("cluster_token", file=str(token_path()))
    check_reachable(options.cluster)
    os.environ.update(environment(options))  # before Ray is imported, which reads it
    from studio.commands.cluster_worker import ClusterWorker, about
    from studio.commands.machine import studio_config
    from studio.queue.executor import Cluster, connect
    from studio.queue.jobs import JobQueue
    from studio.queue.upkeep import Upkeep

    connect(options.cluster)
    queue = JobQueue(queue_folder)
    upkeep = Upkeep(queue, studio_config(options))
    Cluster(queue, results, ClusterWorker, about(options), name, GROUP, upkeep).keep(stop)
    return 0


def ray_folder() -> str:
    """Where Ray is installed: what its processes have in their command lines."""
    spec = find_spec("ray")
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else "ray"


def listening(words: str) -> list[tuple[str, str, int]]:
    """(program, address, port), by port, of all TCP ports on which processes of this user listen that have `words` in
    their command lines. Processes that end meanwhile are left out."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if process.pid == os.getpid() or process.uids().real != os.getuid() or words not in " ".join(command):
                continue
            ports = [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            found |= {(_program(command), address, port) for address, port in ports}
    return sorted(found, key=lambda one: (one[2], one))


def _program(command: list[str]) -> str:
    """The script of an interpreter, else the program."""
    scripts = [word for word in command[1:] if word.endswith(".py")]
    return Path(scripts[0] if scripts and "python" in command[0] else command[0]).name


def check_reachable(address: str) -> None:
    """Raise InputError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("cluster_unreachable", address=address, reason=reason) from None


def _group(options: argparse.Namespace) -> list[str]:
    """What Ray is told where --gpus says how many cards share each video. Raises InputError for a bad value, or for
    more cards than are here.
    """
    if (given := vars(options).get("gpus")) is None:
        return []
    if "," in given:
        raise InputError("gpus_named", value=given)
    from studio.commands.gpus import gpu_devices

    return [f"--resources={json.dumps({GROUP: len(gpu_devices(options))})}"]


def _ray(*words: str, options: argparse.Namespace) -> None:
    program = Path(sys.executable).with_name("ray")
    command = [str(program), *words, "--disable-usage-stats"]
    given = os.environ | environment(options)
    try:
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        raise StudioError("cluster_failed", reason=f"no answer in {START_SECONDS} s") from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise StudioError("cluster_failed", reason=said[-1] if said else f"code {done.returncode}")
