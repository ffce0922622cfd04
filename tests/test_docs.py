"""The documents name what is there: every file of the program, every linked file, every table's source."""

import json
import re

from studio.config import ROOT
from tests.bench import chart_plans

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "bench" / "results"


def test_the_architecture_names_every_file_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sections = re.split(r"^### (.+)$", text.partition("## Rooms and files")[2].partition("\n## ")[0], flags=re.M)
    named = {
        f"{room}/{name}"
        for room, section in zip(sections[1::2], sections[2::2], strict=True)
        for line in section.splitlines()
        if line.startswith("- ")
        for name in re.findall(r"`(\w+\.py)`(?=[,:])", line)
    }
    files = {path for room in ("models", "studio") for path in (ROOT / room).rglob("*.py")}
    there = {str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py"}
    assert sorted(there - named) == [], "not named"
    assert sorted(named - there) == [], "named, and not there"


def test_what_documents_point_to_is_there() -> None:
    """Links, and files named in backquotes with their folder. What is to come is told in one paragraph of its own."""
    gone = []
    for document in DOCUMENTS:
        text = re.sub(r"^What is to come.*?\n\n", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
        links = [link for link in re.findall(r'\]\(([^)#]+)\)|src="([^"]+)"', text) for link in link if link]
        paths = [document.parent / link for link in links if not link.startswith("http")]
        named = re.findall(r"`((?:models|studio|tests|configs|docs|assets)/[\w./-]+\w)`", text)
        paths += [ROOT / name for name in named]
        gone += [f"{document.name}: {path}" for path in paths if not path.exists()]
    assert not gone, "\n".join(gone)


def test_the_readme_stays_short_and_its_pictures_small() -> None:
    assert len(README.split()) < 900
    pictures = [path for path in (ROOT / "assets").rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".gif")]
    assert 0 < sum(path.stat().st_size for path in pictures) <= 5 * 2**20


def test_the_readme_keeps_its_two_commands() -> None:
    """One sets up and starts the studio, one sets up and passes the tests: each a line to paste, as CI runs it."""
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv")]
    start, test = commands
    assert start.endswith("pip install -r requirements.txt && python app.py --inbrowser")
    assert test.endswith("pip install -r requirements-test.txt && python -m pytest")
    steps = set(test.split(" && "))
    ran = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("pip install -q ", "pip install ")
    assert [step for step in steps if step not in ran] == []


def test_the_predicted_seconds_are_those_of_the_newest_results() -> None:
    newest = {}
    for line in (RESULTS / "plans.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        newest[row["quantize"]] = row["vram_ram_frames"]
    wrong = []
    for name in ("README.md", "docs/performance.md"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d+ GB \|", line)
        ]
        for vram, *cells in rows:
            ram = cells.pop(0) if cells[0].endswith("GB") else "64 GB"
            for cell, frames, mode in zip(cells, (51, 102, 204, 204), ("none", "none", "none", "int8"), strict=True):
                plan = newest[mode][f"{vram.split()[0]} {ram.split()[0]} {frames}"]
                sources = plan["sources"]
                on_disk = sources.get("direct", 0) + sources.get("cached", 0)
                blocks = [sources.get("resident", 0), sources.get("pinned", 0), on_disk]
                told = f"{plan['seconds_per_step']:.0f} s: {'+'.join(map(str, blocks))}"
                if told.removesuffix("+0" if len(cell.split("+")) == 2 else "?") != cell:
                    wrong.append(f"{name}, {vram} {ram} {frames} {mode}: {cell} is {told}")
        assert rows, name
    assert not wrong, "\n".join(wrong)


def test_every_result_that_performance_tells_has_its_line() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\b(\w+\.jsonl)\b", text))
    assert told and sorted(name for name in told if not (RESULTS / name).is_file()) == []


def test_the_lock_file_pins_what_the_requirements_pin() -> None:
    """All of it but torch, whose wheels differ by machine, each with a hash, and nothing of torch's own for CUDA."""
    pinned = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M)
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(lines), re.M))
    assert {name: version for name, version in pinned if name != "torch"}.items() <= locked.items(), "run .ci/lock"
    assert not [line for line in lines if not line.startswith("#") and "--hash=sha256:" not in line]
    assert not [name for name in locked if name in ("torch", "triton") or name.startswith(("nvidia-", "cuda-"))]


def test_tables_and_chart_of_the_speeds_are_those_of_the_newest_results() -> None:
    text = chart_plans.PAGE.read_text(encoding="utf-8")
    assert chart_plans.page(text) == text
    assert chart_plans.chart(chart_plans.newest("error")) == chart_plans.CHART.read_text(encoding="utf-8")
