"""Videos on a real Ray cluster, two nodes on this machine: an actor is killed, a node goes, and all finish the same."""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from studio.commands.cli import build_parser, main
from studio.commands.cluster import GROUP, environment, listening
from studio.commands.devices import WorkerDevice, worker_commands
from studio.config import ROOT, load_models, load_studio
from studio.media import read_metadata_file, read_video
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.refused import read_refused
from studio.queue.trash import KEPT_SECONDS, Trash
from studio.queue.upkeep import Upkeep
from studio.queue.worker import WORKER, Stop
from studio.settings import GenerationSettings
from tests.commands.real_studio import until
from tests.queue.fake_clock import START, FakeClock

PATIENCE = 500.0  # seconds; an actor imports PyTorch on a crowded machine
JOBS, STEPS = 20, 8
SMALL = {"num_frames": 17, "height": 64, "width": 64}


def machine(folder: Path, gpus: str | None = None) -> argparse.Namespace:
    """The flags with which every node joins."""
    return argparse.Namespace(output_dir=folder / "node", device="cpu", ram=2, model_dir=folder / "models", gpus=gpus)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all clusters of this process: Ray reads the file once and keeps what it held."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(32))
    return token


@pytest.fixture
def nodes(
    tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """Two nodes; a parameter is how many cards share each video there."""
    group = getattr(request, "param", None)
    if find_spec("ray") is None:  # not imported before its environment is there
        pytest.skip('Ray is not installed (pip install "ray==2.60.0")')
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    for name, value in environment(machine(tmp_path, group)).items():
        monkeypatch.setenv(name, value)
    shared = {"resources": {GROUP: int(group)}} if group else {}
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False} | shared)
    made.add_node(num_cpus=1, **shared)
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_all_jobs_finish_the_same_though_an_actor_and_a_node_die(nodes: Any, tmp_path: Path) -> None:
    from studio.commands.cluster_worker import ClusterWorker, about
    from studio.queue.executor import Cluster, connect

    connect(nodes.address)
    queue, stop = JobQueue(tmp_path / "queue"), Stop()
    cluster = Cluster(queue, tmp_path / "results", ClusterWorker, about(machine(tmp_path)), "cluster")
    thread = threading.Thread(target=cluster.keep, args=(stop,), daemon=True)
    thread.start()
    wanted = GenerationSettings("nano", "a red circle moves to the left", infer_steps=STEPS, seed=5, **SMALL)
    jobs = [queue.submit(wanted.resolve(load_models()["nano"])) for _ in range(JOBS)]

    def at_work(count: int) -> list[Job]:
        running = [job for job in queue.list([JobState.RUNNING]) if job.progress and job.progress.phase == "denoise"]
        return running if len(running) >= count else []

    first = until(lambda: at_work(2), PATIENCE)
    assert len({job.worker for job in first}) == 2
    actors = [process for process in psutil.process_iter() if process.name().startswith("ray::ClusterWor")]
    actors[0].kill()
    # The killed actor's job is done before the node goes: a fast machine could lose it twice.
    until(lambda: all(queue.get(id).state == JobState.FINISHED for id in ids(first)), PATIENCE)
    until(lambda: queue.count([JobState.FINISHED]) >= JOBS // 2, PATIENCE)
    nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
    until(lambda: queue.count([JobState.FINISHED]) == JOBS, PATIENCE)
    stop.asked = True
    thread.join()
    made = [queue.get(id) for id in ids(jobs)]
    assert sorted(queue.get(id).attempts for id in ids(first)) == [1, 2], "the job of the actor that died waited again"
    assert sum(job.attempts for job in made) <= JOBS + 2 and len({job.worker for job in made}) == 2
    frames = [read_video(Path(job.result.path)) for job in made]
    assert all(np.array_equal(one, frames[0]) for one in frames) and frames[0].shape == (17, 64, 64, 3)
    assert all(Path(job.result.path).parent == tmp_path / "results" for job in made)
    alone = [
        f"--{name.replace('_', '-')}={value}" for name, value in asdict(wanted).items() if name in ("seed", *SMALL)
    ]
    local = ["generate", "--device=cpu", "--model=nano", f"--prompt={wanted.prompt}", f"--infer-steps={STEPS}", *alone]
    told = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *local, f"--output={tmp_path}/alone.mp4", f"--output-dir={tmp_path}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert np.array_equal(read_video(tmp_path / "alone.mp4"), frames[0]), "a video of this machine alone is the same"


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["2"], indirect=True)
def test_the_cards_of_a_machine_share_each_video(nodes: Any, tmp_path: Path) -> None:
    from studio.commands.cluster_worker import ClusterWorker, about
    from studio.queue.executor import Cluster, connect

    connect(nodes.address)
    queue, stop = JobQueue(tmp_path / "queue"), Stop()
    cluster = Cluster(queue, tmp_path / "results", ClusterWorker, about(machine(tmp_path)), "cluster", GROUP)
    thread = threading.Thread(target=cluster.keep, args=(stop,), daemon=True)
    thread.start()
    wanted = GenerationSettings("nano", "a red circle", infer_steps=STEPS, seed=5, **SMALL)
    jobs = [queue.submit(wanted.resolve(load_models()["nano"])) for _ in range(2)]
    until(lambda: queue.count([JobState.FINISHED]) == 2, PATIENCE)
    stop.asked = True
    thread.join()
    for job in (queue.get(id) for id in ids(jobs)):
        assert read_metadata_file(Path(job.result.path))["gpus"] == 2 and job.attempts == 1
        assert any(notice.code == "gpus_shared" for notice in job.notices)


@pytest.mark.slow
def test_another_token_another_version_and_other_models_make_nothing(nodes: Any, tmp_path: Path) -> None:
    other = tmp_path / "other-token"
    other.write_text(secrets.token_hex(32))
    command = [sys.executable, str(ROOT / "app.py"), "worker", "--queue", str(tmp_path / "elsewhere"),
               "--cluster", nodes.address]  # fmt: skip
    stranger = os.environ | {"RAY_AUTH_TOKEN_PATH": str(other)}
    with subprocess.Popen(command, env=stranger, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert f"There is no cluster at {nodes.address} that takes this token" in process.stderr.read()
    assert process.returncode == 1

    from studio.commands.cluster_worker import ClusterWorker, about
    from studio.queue.executor import Cluster, connect

    connect(nodes.address)
    queue, own = JobQueue(tmp_path / "queue"), about(machine(tmp_path))
    wanted = GenerationSettings("nano", "a circle", infer_steps=STEPS, seed=5, **SMALL)
    job = queue.submit(wanted.resolve(load_models()["nano"]))
    stop, clock, trash = Stop(), FakeClock(), Trash(queue)
    trash.remove(queue.submit(wanted.resolve(load_models()["nano"])).id)
    clock.seconds = time.time() - START + KEPT_SECONDS + 60
    upkeep = Upkeep(JobQueue(queue.folder, clock=clock), load_studio(), clock)
    head = own | {"version": "0.0.1", "nano": "of another file"}
    cluster = Cluster(queue, tmp_path / "results", ClusterWorker, head, "cluster", upkeep=upkeep)
    thread = threading.Thread(target=cluster.keep, args=(stop,), daemon=True)
    thread.start()
    told = until(lambda: len(found := read_refused(queue.folder)) == 2 and found, PATIENCE)
    assert all("differs in: nano, version." in why.text for why in told.values())
    assert queue.get(job.id).state == JobState.QUEUED and queue.get(job.id).attempts == 0
    assert trash.list() == [], "the head removes for good what was removed long ago"
    stop.asked = True
    thread.join()
    assert read_refused(queue.folder) == {}


def ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_what_cannot_start_or_join_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray itself is never started here: each is refused before."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        start, join, page = ["cluster", "start", "--port", str(port)], ["cluster", "join"], ["worker", "--queue", "x"]
        place = ["--output-dir", str(tmp_path)]
        # A worker that hears its parent end ends its process 20 s later; here that would be pytest's.
        monkeypatch.setattr("studio.queue.worker.Stop.listen", lambda self: None)
        monkeypatch.setattr("studio.commands.cluster.find_spec", lambda name: None)
        refused = [(start, 2, 'pip install ".[cluster]"'), (join + ["a:1"], 2, "Ray is not installed")]
        check_refused(refused, place, capsys)
        monkeypatch.setattr("studio.commands.cluster.find_spec", lambda name: object())
        check_refused([(join + ["a:1"], 2, "no token in"), (start, 1, f"Port {port}")], place, capsys)
        cpu = [*place, "--device", "cpu"]
        named = [(start + ["--gpus", "0,1"], 2, "not which (0,1)"), (join + ["a:1", "--gpus", "x"], 2, "value x of")]
        check_refused(named, cpu, capsys)
        assert not (tmp_path / "token").exists(), "no token for a head that did not start"
        (tmp_path / "token").write_text("x")
    for address in (f"127.0.0.1:{port}", "127.0.0.1", "127.0.0.1:99999999", ":"):
        check_refused([(join + [address], 2, f"no cluster at {address}")], place, capsys)
    page += ["--cluster", f"127.0.0.1:{port}", "--queue", str(tmp_path / "queue")]
    check_refused([(page, 2, f"no cluster at 127.0.0.1:{port}")], place, capsys)


def test_every_port_that_listens_is_found_by_its_program() -> None:
    script = "import socket; found = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]; " + (
        "print(*(one.getsockname()[1] for one in found), flush=True); input()"
    )
    mark = f"mark-{secrets.token_hex(8)}"
    command = [sys.executable, "-c", script, mark, "gcs.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        ports = sorted(int(port) for port in other.stdout.readline().split())
        assert listening(mark) == [("gcs.py", "127.0.0.1", port) for port in ports] and len(ports) == 2
        other.stdin.close()
    assert listening(mark) == []


def check_refused(cases: list[tuple[list[str], int, str]], place: list[str], capsys: Any) -> None:
    for words, code, said in cases:
        capsys.readouterr()
        assert (main([*words, *place]), said in capsys.readouterr().err) == (code, True), words


def test_nodes_are_given_the_token_the_program_and_their_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    given = environment(machine(tmp_path))
    assert given["RAY_AUTH_MODE"] == "token" and given["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    assert given["RAY_USAGE_STATS_ENABLED"] == "0" and str(ROOT) in given["PYTHONPATH"].split(os.pathsep)
    words = json.loads(given["STEP_VIDEO_STUDIO_FLAGS"])
    told = vars(build_parser().parse_args(["worker", "--queue", "x", *words]))
    assert (told["device"], told["ram"], told["model_dir"]) == ("cpu", 2.0, tmp_path / "models")
    given = environment(machine(tmp_path, "2"))
    assert (
        build_parser().parse_args(["worker", "--queue", "x", *json.loads(given["STEP_VIDEO_STUDIO_FLAGS"])]).gpus == "2"
    )
    options = build_parser().parse_args(["--cluster", "10.0.0.1:6379"])
    commands = worker_commands(options, tmp_path, [WorkerDevice(WORKER, "cpu")], load_studio())
    assert list(commands) == ["cluster"] and commands["cluster"][-4:] == [
        "--name", "cluster", "--cluster", "10.0.0.1:6379"]  # fmt: skip
