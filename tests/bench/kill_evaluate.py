"""24 prompts x 2 recipes x 2 seeds of nano through two kill -9: python -m tests.bench.kill_evaluate FOLDER [RECIPES]

The command is `evaluate nano --recipe nano,nano-draft --seeds 2 --to FOLDER`. It is killed with its worker once a third
and once two thirds of the clips are there; a third start ends it. Says how long each start lived, that every clip is
there once, and where the report is.
"""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from studio.config import ROOT
from studio.evals.results import read_run
from studio.evals.run import CLIPS

CLIPS_ASKED, LOOK_SECONDS = 24 * 2 * 2, 0.5


def main() -> None:
    """Start, kill, start, kill, start."""
    folder, recipes = Path(sys.argv[1]), (sys.argv[2:] or ["nano,nano-draft"])[0]
    words = ["evaluate", "nano", "--recipe", recipes, "--seeds", "2", "--to", str(folder)]
    for enough in (CLIPS_ASKED // 3, 2 * CLIPS_ASKED // 3, None):
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), *words])
        while process.poll() is None and (enough is None or made(folder) < enough):
            time.sleep(LOOK_SECONDS)
        if process.poll() is None:
            tree = [*psutil.Process(process.pid).children(recursive=True), process]
            for one in tree:
                one.kill()
        code = process.wait()
        print(f"ended with {code} after {time.monotonic() - began:.0f} s, {made(folder)} clips", flush=True)
    rows = read_run(folder).rows
    there = {row.clip for row in rows if row.clip and (folder / row.clip).is_file()}
    print(f"{len(there)} clips of {len(rows)} tasks, {made(folder)} files; {folder / 'index.html'}")
    assert len(there) == len(rows) == made(folder) == CLIPS_ASKED


def made(folder: Path) -> int:
    """Clips that are whole."""
    return len(list((folder / CLIPS).glob("*.mp4")))


if __name__ == "__main__":
    main()
