"""The page in Chromium with nano: opening, click to reaction, first preview, what an idle page costs, full galleries.

    python -m tests.bench.bench_page [--repeats 5] [--idle-seconds 60] [--entries 500 5000]
        [--only preview idle gallery]

app.py runs as its users start it, on the CPU, in a folder of its own. Times are the browser's own: from the click on
Generate to the first change of the page and to the first preview that is drawn (cold: the first video of a worker
that has just started; warm: the ones after it; null: the video was done before the page had drawn one). An idle page
is a visible one with a stopped job in view: requests, share of one core that its main thread and its renderer process
take; then the same page hidden. A full gallery has so
many finished jobs and as many that wait in a paused queue: from the address to the queue's rows, from a click on the
tab to its tiles, from the last letter of a search to what it found (which waits 200 ms for another letter), and the
same page and search of the queue alone, without html. Medians of the repeats, and each of them. The last line of stdout
is one JSON document, also appended to tests/bench/results/page.jsonl; its load is the machine's before the run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from studio.commands.page import QUEUE_FOLDER
from studio.queue.gallery import Gallery
from studio.queue.job import ENDED, WAITING, JobState
from studio.queue.jobs import HELD, JobQueue
from studio.queue.search import Search
from studio.video_writer import VideoWriter
from tests.bench.bench_networks import keep_line, machine
from tests.queue.test_jobs import SETTINGS
from tests.queue.test_pages import fill
from tests.ui.fake_backend import paint
from tests.ui.visitor import free_port, launched

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "bench" / "results" / "page.jsonl"
PARTS = ("preview", "idle", "gallery")
PATIENCE = 600.0  # seconds, on a machine that others use
UNFINISHED = (JobState.RUNNING, *WAITING)
WORD = "lighthouse"  # what is sought
WATCH = """() => {
    const seen = window.seen = { click: 0, reaction: 0, preview: 0 };
    document.addEventListener("click", (event) => {
        if (!event.target.closest("#generate")) return;
        Object.assign(seen, { click: performance.now(), reaction: 0, preview: 0 });
    }, true);
    new MutationObserver(() => {
        if (seen.click && !seen.reaction) requestAnimationFrame(() => { seen.reaction ||= performance.now(); });
    }).observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true });
    document.addEventListener("load", (event) => {
        const drawn = event.target.matches?.("#stage img[src*='/preview']") && event.target.naturalWidth;
        if (seen.click && drawn) seen.preview ||= performance.now();
    }, true);
}"""
HIDE = """() => {
    Object.defineProperty(document, "hidden", { get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def median(values: Sequence[float | None]) -> dict[str, Any]:
    """Of those measurements that there are, with all of them."""
    known = [value for value in values if value is not None]
    return {"median": round(statistics.median(known), 4) if known else None, "all": values}


def until(condition: Callable[[], Any]) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
    return answer


@contextmanager
def program(folder: Path) -> Iterator[tuple[str, float]]:
    """app.py on that output folder: its address, and the seconds until it told it."""
    port, began = free_port(), time.monotonic()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "app.py", "--port", str(port), "--output-dir", str(folder), "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        while "The page:" not in (line := process.stdout.readline() if process.stdout else ""):
            if not line:
                raise SystemExit("the page did not start")
        yield f"http://127.0.0.1:{port}", time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


def opened(browser: Any, url: str, ready: str = ".system") -> tuple[Any, float, float]:
    """A new visitor's page, the seconds until `ready` was there, and the MB that came over the wire."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US").new_page()
    page.set_default_timeout(1000 * PATIENCE)
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    size: list[float] = []
    wire.on("Network.loadingFinished", lambda event: size.append(event["encodedDataLength"]))
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector(ready, state="attached")
    seconds = time.monotonic() - began
    page.wait_for_timeout(1500)  # fonts and pictures behind it
    return page, seconds, sum(size) / 1e6


def previews(page: Any, queue: JobQueue, repeats: int) -> dict[str, Any]:
    """The first video of the worker, and those after it: reaction and first preview, in seconds from the click."""
    page.evaluate(WATCH)
    page.fill("#prompt textarea", "A red circle moves to the right.")
    page.wait_for_timeout(1000)
    found = []
    for _ in range(repeats + 1):
        page.click("#generate")
        until(lambda: queue.count(UNFINISHED))
        while not page.evaluate("window.seen.preview") and queue.count(UNFINISHED):
            page.wait_for_timeout(20)
        if queue.count(UNFINISHED):
            page.click("#stop")
        until(lambda: not queue.count(UNFINISHED))
        seen = page.evaluate("window.seen")
        found.append([(seen[name] - seen["click"]) / 1000 if seen[name] else None for name in ("reaction", "preview")])
        page.wait_for_timeout(3000)
    return {
        "reaction_seconds": median([reaction for reaction, _ in found]),
        "first_preview_cold_seconds": found[0][1],
        "first_preview_warm_seconds": median([preview for _, preview in found[1:]]),
    }


def idle(page: Any, seconds: float) -> dict[str, Any]:
    """What a page costs on which nothing happens: while it is seen, and hidden."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    wire = page.context.new_cdp_session(page)
    wire.send("Performance.enable")
    found: dict[str, Any] = {}
    for name in ("seen", "hidden"):
        if name == "hidden":
            page.evaluate(HIDE)
        page.wait_for_timeout(5000)
        asked.clear()
        before, busy, began = main_thread(wire), renderers(), time.monotonic()
        page.wait_for_timeout(1000 * seconds)
        wall = time.monotonic() - began
        found[name] = {
            "requests_per_minute": round(60 * len(asked) / wall, 2),
            "main_thread_share": round((main_thread(wire) - before) / wall, 4),
            "renderer_share_of_a_core": round((renderers() - busy) / wall, 4),
        }
    return found


def main_thread(wire: Any) -> float:
    """Seconds that the page's main thread has worked."""
    metrics = {one["name"]: one["value"] for one in wire.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def renderers() -> float:
    """Seconds of CPU that the renderer processes of this browser have taken; one page is open."""
    below = psutil.Process().children(recursive=True)
    return sum(sum(one.cpu_times()[:2]) for one in below if "--type=renderer" in one.cmdline())


def filled(folder: Path, count: int) -> JobQueue:
    """So many finished videos with pictures, every tenth with the word that is sought, and as many that wait."""
    queue = JobQueue(folder / QUEUE_FOLDER)
    fill(queue, count, folder.resolve())
    video, picture = folder / "one.mp4", folder / "one.jpg"
    writer = VideoWriter(video, 64, 64, 25, {})
    frames = paint(9, 64, 64, 3)
    writer.add(frames)
    writer.close()
    Image.fromarray(frames[4]).save(picture)
    for number in range(1, count + 1):
        for file in (video, picture):
            os.link(file, folder / f"{number}{file.suffix}")
    for file in (video, picture):
        file.unlink()
    queue.set_option(HELD, "1")
    queue.submit_all([replace(SETTINGS, model="nano", seed=seed) for seed in range(min(count, 500))])
    queue.turn("settings = json_set(settings, '$.prompt', ?)", "state = 'finished' AND created % 10 = 3", f"A {WORD}")
    return queue


def gallery(browser: Any, count: int, repeats: int) -> dict[str, Any]:
    """A gallery and a queue that are full."""
    with tempfile.TemporaryDirectory() as name:
        queue = filled(Path(name), count)
        alone, timed = Gallery(queue, Path(name).resolve()), []
        for search in (Search(), Search(WORD)):
            alone.list(ENDED, 60, 0, search)
            times = []
            for _ in range(repeats):
                began = time.monotonic()
                alone.count(ENDED, search)
                alone.list(ENDED, 60, 0, search)
                times.append(time.monotonic() - began)
            timed.append(median(times))
        opening, tab, sought = [], [], []
        with program(Path(name)) as (url, _):
            for _ in range(repeats):
                page, seconds, _ = opened(browser, url, ".entry")
                opening.append(seconds)
                tab.append(taken(page, page.get_by_role("tab", name="Gallery").click, 60))
                sought.append(taken(page, partial(page.locator("#search input").fill, WORD), min(60, count // 10)))
                page.context.close()
    return {
        "entries": count,
        "waiting": min(count, 500),
        "open_seconds": median(opening),
        "tab_seconds": median(tab),
        "search_seconds": median(sought),
        "page_of_60_alone_seconds": timed[0],
        "search_alone_seconds": timed[1],
    }


def taken(page: Any, act: Callable[[], Any], tiles: int) -> float:
    """Seconds from an act until the gallery shows so many tiles, other ones than before."""
    first = "(document.querySelector('#tiles [data-tile]')?.dataset.tile ?? '')"
    before = page.evaluate(first) if page.locator("#tiles").is_visible() else ""
    began = time.monotonic()
    act()
    page.wait_for_function(
        f"""([before, tiles]) => document.querySelector("#tiles")?.checkVisibility() && {first} && {first} !== before
            && document.querySelectorAll("#tiles [data-tile]").length === tiles""",
        arg=[before, tiles],
        polling="raf",
    )
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--entries", type=int, nargs="*", default=[500, 5000])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    found: dict[str, Any] = machine() | {"cores": os.cpu_count()}
    with launched() as browser:
        found["browser"] = browser.version
        if {"idle", "preview"} & set(options.only):
            with tempfile.TemporaryDirectory() as name, program(Path(name)) as (url, seconds):
                page, open_seconds, mb = opened(browser, url)
                found |= {"start_seconds": round(seconds, 3), "open_seconds": round(open_seconds, 3)}
                found |= {"page_mb": round(mb, 3)}
                if "preview" in options.only:
                    queue = JobQueue(Path(name) / QUEUE_FOLDER)
                    found |= previews(page, queue, options.repeats)
                if "idle" in options.only:
                    found["idle"] = idle(page, options.idle_seconds)
                page.context.close()
        if "gallery" in options.only:
            found["galleries"] = [gallery(browser, count, options.repeats) for count in options.entries]
    print(keep_line(RESULTS, found))


if __name__ == "__main__":
    main()
