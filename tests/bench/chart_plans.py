"""The newest lines of bench_plans.py as a picture and as the tables of docs/performance.md.

    python tests/bench/chart_plans.py

writes assets/charts/plans.svg and what stands between BEGIN and END in docs/performance.md. Needs no package: the
picture is an SVG, written by hand.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "bench" / "results" / "plans_modes.jsonl"
CHART = ROOT / "assets" / "charts" / "plans.svg"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- plans: written by tests/bench/chart_plans.py -->\n", "<!-- end of plans -->\n"
Row = Mapping[str, Any]
OFFICIAL = "exact 50 k13"
SHOWN = {  # fast and draft are one plan for both shifts
    OFFICIAL: "official, shift 13",
    "exact 50 k3": "official, shift 3",
    "fast 50 k13": "fast",
    "calibrated fast": "fast, calibrated",
    "draft 50 k13": "draft",
}
OWN = {"exact 20 k3": "exact, shift 3", "fast 20 k3": "fast", "draft 20 k3": "draft"}  # of nano's own 20 steps
JUDGED = SHOWN | {"calibrated draft": "draft, calibrated", "exact 20 k3": "nano's own 20 steps, shift 3"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 20, 54, 56
MOST_PASSES = 200
FEWEST_JUDGED = 20  # clips a row; marks of fewer tell nothing
CELL = ("text", 9.0, 17)  # of the picture


def newest(what: str) -> dict[str, Any]:
    """The last line of that kind ("error", "judge", "turbo", "time")."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["what"] == what][-1]


def errors_table(line: Mapping[str, Any], shown: Mapping[str, str]) -> str:
    """Markdown: a row per cell, a column per plan of `shown` (its words by name), mean (maximum)."""
    cells = list(dict.fromkeys((row["kind"], row["cfg"], row["frames"]) for row in line["rows"]))
    names = [name for name in shown if any(row["plan"] == name for row in line["rows"])]
    head = ["", "n", *(f"{shown[name]}, {_passes(line['rows'], name)} passes" for name in names)]
    body = []
    for kind, cfg, frames in cells:
        found = {row["plan"]: row for row in _rows(line["rows"], (kind, cfg, frames))}
        label = f"{_kind(kind)}, cfg {cfg:g}, {frames} frames"
        several = {name for name in names if " or " in _passes(line["rows"], name)}
        cells_here = [_cell(found.get(name), tell_passes=name in several) for name in names]
        body.append([label, str(found[names[0]]["n"]), *cells_here])
    return _table(head, body)


def judge_table(line: Mapping[str, Any], of: str) -> str:
    """Markdown: points against the first plan, with their interval."""
    rows: list[list[str]] = []
    for row in line["rows"]:
        against = row["against_official"]
        low, high = against["interval"]
        label, name = f"{_kind(row['kind'])}, cfg {row['cfg']:g}", JUDGED.get(row["plan"], row["plan"])
        points = f"{against['points']:+} ({low:+} to {high:+})"
        told = [str(row["passes"]), str(row["n"]), points, f"{row['psnr_to_official']:.1f} dB"]
        alike = name == JUDGED["calibrated draft"] and [label, JUDGED["draft 50 k13"], *told] in rows  # no choice
        if row["plan"] != line["rows"][0]["plan"] and not alike:
            rows.append([label, name, *told])
    return _table(["", "plan", "passes", "n", f"points against {of}", "PSNR to it, median"], rows)


def text() -> str:
    """What stands between BEGIN and END: every table with what it was measured on."""
    error, judge, turbo, time = map(newest, ("error", "judge", "turbo", "time"))
    lost = error["not_below_official"]
    chosen = "; ".join(
        f"{kind}: {found['fast']['nodes']} nodes (k {found['fast']['k']:g}, theta {found['fast']['theta']:g})"
        for kind, found in error["calibrations"].items()
    )
    check = error["reference_against_second_order"]
    checked = max(value for values in check["distance"].values() for value in values)
    parts = [
        f"{_origin(error)} Endpoint error at {error['size'][0]}x{error['size'][1]}, mean (maximum), against "
        f"Runge-Kutta of {error['reference_evaluations']} evaluations, at most {checked} from second order's end on "
        f"{check['nodes']} nodes. n: prompts, Chinese and English in turn. "
        f"Calibrated: {chosen or 'nothing was chosen'}.",
        errors_table(error, SHOWN),
        "Fast, and calibrated fast at shift 13, keep mean and maximum below those of the official 50 steps "
        + ("in every row." if not lost else f"but for {len(lost)}: {'; '.join(lost)}."),
        _single(error["rows"]),
        f"{_grown(error['rows'])} nano's own 20 steps, on the first prompts:",
        errors_table(error, OWN),
        *_judged(judge, "The judge's marks on the same clips and noise, 95 % interval", "the official 50 steps"),
        *_judged(turbo, "The judge on nano-turbo's 10 steps, distilled at guidance 1", "guidance 1"),
        f"{_origin(time)} Seconds of `generate`, exact and fast in turn at cfg 9, 50 steps:",
        time_table(time),
    ]
    return "\n\n".join(parts) + "\n"


def _judged(line: Mapping[str, Any], what: str, of: str) -> list[str]:
    """A table, or that there are too few clips for one."""
    count = min(row["n"] for row in line["rows"])
    if count < FEWEST_JUDGED:
        return [f"{what}: not told, since {count} clips a row were judged; {FEWEST_JUDGED} are the fewest."]
    return [f"{_origin(line)} {what}:", judge_table(line, of)]


def time_table(line: Mapping[str, Any]) -> str:
    """Markdown: fast over exact, by clock and by processor time."""
    rows = []
    for kind in ("text", "image"):
        ratio, means = line[kind]["fast_over_exact"], line[kind]["means"]
        both = [f"{means[speed]['denoise_processor']:.1f} s" for speed in ("exact", "fast")]
        shares = [f"{ratio[name]:.2f}" for name in ("passes", "denoise_processor", "denoise", "whole_processor")]
        rows.append([_kind(kind), str(line[kind]["n"]), *both, *shares])
    head = ["", "pairs", "denoising, exact", "fast", "fast / exact: passes", "denoising, processor time"]
    return _table([*head, "denoising, by the clock", "whole video, processor time"], rows)


def page(words: str) -> str:
    """docs/performance.md with the tables in place of the ones in `words`."""
    before, _, rest = words.partition(BEGIN)
    return f"{before}{BEGIN}\n{text()}\n{END}{rest.partition(END)[2]}"


def _origin(line: Mapping[str, Any]) -> str:
    """Which run a table is of."""
    prints = ", ".join(sorted({found[:12] for found in line["fingerprints"].values()}))
    quick = " --quick, a rehearsal," if line["quick"] else ""
    return f"bench_plans.py{quick} {line['when'][:10]}, checkpoints {prints}, load {line['load']:.0f}."


def _single(rows: Sequence[Row]) -> str:
    """On how many prompts a plan is above the official steps."""

    def told(name: str, shift: str) -> str:
        found = [row for row in rows if row["plan"] == name]
        return f"{sum(row['above_official'][shift] for row in found)} of {sum(row['n'] for row in found)}"

    return (
        f"Single prompts on which the error is above that of the official steps: fast {told('fast 50 k13', 'k13')} at "
        f"shift 13 and {told('fast 50 k13', 'k3')} at shift 3, calibrated fast "
        f"{told('calibrated fast', 'k13')} at shift 13."
    )


def _grown(rows: Iterable[Row]) -> str:
    """In how many runs of each plan a velocity grew beyond the bound."""
    runs = {name: [row for row in rows if row["plan"] == name] for name in SHOWN}
    told = [
        f"{SHOWN[name]} {sum(row['grown'] for row in found)} of {sum(row['n'] for row in found)}"
        for name, found in runs.items()
        if found
    ]
    return f"Runs in which a velocity grew beyond the bound: {', '.join(told)}."


def _kind(kind: str) -> str:
    return "T2V" if kind == "text" else "TI2V"


def chart(line: Mapping[str, Any]) -> str:
    """Error over passes of one cell as an SVG; the official plan is marked."""
    rows = _rows(line["rows"], CELL)
    shown = [row for row in rows if row["passes"] <= MOST_PASSES and row["plan"] in (*SHOWN, *_curves(rows))]
    low, high = min(row["mean"] for row in shown) / 1.5, max(row["mean"] for row in shown) * 1.5

    def at(row: Row) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * row["passes"] / MOST_PASSES
        share = math.log(row["mean"] / low) / math.log(high / low)
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [*_frame(low, high), *_head(line, rows)]
    for start, colour in (("exact", "#b45309"), ("rule", "#0e7490")):
        points = sorted((at(row) for row in shown if row["plan"] in _curves(rows, start)), key=lambda point: point[0])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    for (x, y), row, words in _labels(shown, at):
        big, left = row["plan"] == OFFICIAL, row["plan"] == "calibrated fast"
        place = (x - 10, y + 16) if left else (x + 10, y + (34 if row["plan"] == "draft 50 k13" else -8))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{7 if big else 5}" fill="#111827"/>')
        told, anchor = f"{words}: {row['mean']:.3f}", "end" if left else "start"
        parts.append(_text(*place, told, size=13, anchor=anchor, bold=big))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">' + (
        "\n".join(["", *parts, "</svg>", ""])
    )


def _labels(
    rows: Iterable[Row], at: Callable[[Row], tuple[float, float]]
) -> Iterator[tuple[tuple[float, float], Row, str]]:
    """Points with a name; plans that are the same one share theirs."""
    names = {OFFICIAL: "official, 50 steps", "fast 50 k13": "fast", "calibrated fast": "fast, calibrated"}
    names["draft 50 k13"] = "draft"
    found: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        if row["plan"] in names:
            found.setdefault(at(row), []).append(row)
    for place, same in found.items():
        words = "fast, calibrated or not" if len(same) > 1 else names[same[0]["plan"]]
        yield place, same[0], words


def _curves(rows: Iterable[Row], start: str = "") -> set[str]:
    """Plans on the two lines: the official sampler at more steps and fewer, and rules with other numbers of nodes."""
    found = {row["plan"] for row in rows if row["plan"].endswith(" k13")}
    lines = {"exact": {n for n in found if n.startswith("exact ")}, "rule": {n for n in found if n.startswith("rule ")}}
    lines["rule"] |= found & {"fast 50 k13"}
    return lines[start] if start else lines["exact"] | lines["rule"]


def _head(line: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    kind, cfg, frames = CELL
    counts = [max(row["n"] for row in rows), min(row["n"] for row in rows)]
    title = f"Endpoint error over passes of the transformer: nano {_kind(kind)}, cfg {cfg:g}, {frames} frames, shift 13"
    note = f"mean of {counts[0]} held-out prompts (the lines: {counts[1]}); checkpoint "
    note += next(iter(line["fingerprints"].values()))[:12]
    return [_text(LEFT, 24, title, size=15, bold=True), _text(LEFT, 42, note, size=12)]


def _frame(low: float, high: float) -> list[str]:
    """Background, axes, grid."""
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    bottom = HEIGHT - BOTTOM
    for passes in range(0, MOST_PASSES + 1, 20):
        x = LEFT + (WIDTH - LEFT - RIGHT) * passes / MOST_PASSES
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#e5e7eb"/>')
        parts.append(_text(x, bottom + 18, str(passes), size=12, anchor="middle"))
    marks = [step * 10.0**power for power in range(-6, 2) for step in (1, 2, 5)]
    for mark in (mark for mark in marks if low <= mark <= high):
        y = bottom - (bottom - TOP) * math.log(mark / low) / math.log(high / low)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d1d5db"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{mark:g}", size=12, anchor="end"))
    parts.append(_text(WIDTH / 2, HEIGHT - 14, "passes (conditional and unconditional)", size=13, anchor="middle"))
    parts.append(
        _text(WIDTH - RIGHT - 6, TOP + 18, "orange: official sampler; blue: refined nodes, second order", 12, "end")
    )
    return parts


def _text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#111827"{weight}>{words}</text>'
    )


def _rows(rows: Iterable[Row], cell: tuple[str, float, int]) -> list[Row]:
    return [row for row in rows if (row["kind"], row["cfg"], row["frames"]) == cell]


def _passes(rows: Iterable[Row], name: str) -> str:
    counts = sorted({row["passes"] for row in rows if row["plan"] == name})
    return " or ".join(map(str, counts))


def _cell(row: Row | None, *, tell_passes: bool) -> str:
    if row is None:
        return "-"
    passes = f", {row['passes']} passes" if tell_passes else ""
    return f"{row['mean']:.4f} ({row['max']:.3f}){passes}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def main() -> None:
    """Draw and write."""
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(chart(newest("error")), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
