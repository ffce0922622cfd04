"""The report of a run: one html file beside the clips, which opens from disk, in both languages, without foreign hosts.

A run of two recipes or more compares each further one with the first, prompt by prompt.
"""

from html import escape
from pathlib import Path
from urllib.parse import quote

from studio.evals.intervals import Interval
from studio.evals.results import Row, Run
from studio.evals.score_list import BY_KEY
from studio.evals.summary import ALL, SECONDS, Comparison, categories, compare, differing, table, worst
from studio.filenames import write_whole

FILE = "index.html"
ASSETS = Path(__file__).parent / "assets"
BAR_WIDTH = 150
POLICY = (  # nothing from elsewhere
    "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
UNITS = {  # in Chinese, where that is another word
    "0 or 1": "0 或 1", "levels of 255": "灰度级（0-255）", "ratio": "比值", "share": "比例", "number": "个数",
    "px at 544 px": "像素（短边 544）",
}  # fmt: skip
SECONDS_TITLE = ("Seconds per clip", "每个视频的秒数")


def write_report(run: Run) -> Path:
    """Write index.html into the run's folder; returns its path. Raises OSError."""
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    parts = (_settings, _scores, _comparisons, _by_category, _worst, _sheet, _formulas)
    body = "".join(part(run) for part in parts)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(run.title)}</title><style>{style}</style></head>
<body><header><h1>{escape(run.title)}</h1><span class="soft">{_counts(run)}</span>
<button id="language" type="button">中文</button></header>
<main>{body}</main>
<dialog><div class="top"><p id="told"></p><button id="before" type="button">←</button>
<button id="after" type="button">→</button><button id="close" type="button">✕</button></div>
<div id="players"></div></dialog>
<script>{script}</script></body></html>
"""
    path = run.folder / FILE
    write_whole(path, page.encode())
    return path


def both(english: str, chinese: str) -> str:
    """A text in both languages, of which the page shows one; escaped."""
    return f'<span lang="en">{escape(english)}</span><span lang="zh">{escape(chinese)}</span>'


def number(value: float) -> str:
    """Three digits that count."""
    size = abs(value)
    return (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )


def _counts(run: Run) -> str:
    made, failed = sum(row.clip is not None for row in run.rows), sum(row.error is not None for row in run.rows)
    cases = len({row.case for row in run.rows})
    return both(
        f"{cases} prompts, {made} of {len(run.rows)} clips, {failed} failed",
        f"{cases} 条提示词，{len(run.rows)} 个视频中已生成 {made} 个，失败 {failed} 个",
    )


def _section(english: str, chinese: str, body: str, note: tuple[str, str] | None = None) -> str:
    said = f'<p class="soft">{both(*note)}</p>' if note else ""
    return f"<section><h2>{both(english, chinese)}</h2>{said}{body}</section>" if body else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = []
    for first, *cells in rows:
        others = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f'<tr><td class="name">{first}</td>{others}</tr>')
    return f'<div class="card"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def _settings(run: Run) -> str:
    """Where the recipes differ; of a single one, what it is."""
    names = list(run.recipes)
    if len(names) == 1:
        only = run.recipes[names[0]]
        told = ", ".join(f"{key} {value}" for key, value in dict(only.get("settings") or {}).items())
        return f"<p>{escape(names[0])}: {escape(str(only.get('model')))}, {escape(told or '-')}</p>"
    rows = [
        [escape(name), *(escape(", ".join(sorted(values.get(recipe, {"-"})))) for recipe in names)]
        for name, values in differing(run.recipes, run.rows).items()
    ]
    return _section("Where the recipes differ", "配方差异", _table(["", *map(escape, names)], rows))


def _scores(run: Run) -> str:
    note = (
        "Mean with its 95 % interval; a prompt counts once, whatever its seeds. ↑: more is better, ↓: less is.",
        "均值及 95% 置信区间；每条提示词无论多少种子只计一次。↑ 表示越大越好，↓ 表示越小越好。",
    )
    return _section("Scores", "评分", _interval_table(run, ALL, bars=True), note)


def _by_category(run: Run) -> str:
    found = [
        f"<details><summary>{escape(category)}</summary>{_interval_table(run, category)}</details>"
        for category in categories(run)
        if category != ALL
    ]
    return _section("By category", "按类别", "".join(found))


def _interval_table(run: Run, category: str, bars: bool = False) -> str:
    tables = {recipe: table(run, recipe, category) for recipe in run.recipes}
    rows = []
    for key in (*BY_KEY, SECONDS):
        found = {recipe: known[key] for recipe, known in tables.items() if key in known}
        if found:
            low, high = _range(list(found.values()))
            cells = []
            for recipe in run.recipes:
                cell = _interval(found[recipe]) if recipe in found else "-"
                cells.append(cell + (_bar(found[recipe], low, high) if bars and recipe in found else ""))
            rows.append([_title(key), *cells])
    return _table(["", *map(escape, run.recipes)], rows)


def _title(key: str) -> str:
    if key == SECONDS:
        return f"{both(*SECONDS_TITLE)} <small>s ↓</small>"
    score = BY_KEY[key]
    arrow = {1: " ↑", -1: " ↓", 0: ""}[score.better]
    return f"{both(*score.title)} <small>{_unit(score.unit)}{arrow}</small>"


def _unit(unit: str) -> str:
    return both(unit, UNITS.get(unit, unit))


def _interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return number(found.mean)
    return f"{number(found.mean)} <small>[{number(found.low)}, {number(found.high)}] n={found.count}</small>"


def _range(found: list[Interval]) -> tuple[float, float]:
    ends = [value for one in found for value in (one.mean, one.low, one.high) if value is not None]
    return min(ends), max(ends)


def _bar(found: Interval, low: float, high: float) -> str:
    """Mean and interval on a scale that the recipes share."""
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(6 + (value - low) / width * (BAR_WIDTH - 12), 1)

    line = ""
    if found.low is not None and found.high is not None:
        line = f'<line x1="{place(found.low)}" x2="{place(found.high)}" y1="7" y2="7"/>'
    axis = f'<line class="axis" x1="0" x2="{BAR_WIDTH}" y1="7" y2="7"/>'
    dot = f'<circle cx="{place(found.mean)}" cy="7" r="4"/>'
    return f'<svg class="bar" viewBox="0 0 {BAR_WIDTH} 14">{axis}{line}{dot}</svg>'


def _comparisons(run: Run) -> str:
    """Each further recipe against the first."""
    first, *others = run.recipes
    parts = []
    for other in others:
        found = compare(run, first, other)
        rows = [[_title(key), _difference(key, one), _record(key, one)] for key, one in found.items()]
        head = ["", f"{escape(other)} − {escape(first)}", both("better / equal / worse", "更好 / 相同 / 更差")]
        parts.append(_table(head, rows))
    note = (
        "The same prompts and seeds, differences prompt by prompt. Coloured where the 95 % interval leaves 0 out; of "
        "twenty scores one does so by chance.",
        "相同的提示词和种子，逐条比较差值。95% 区间不含 0 时着色；二十项中约有一项会偶然如此。",
    )
    return _section("Compared", "比较", "".join(parts), note)


def _difference(key: str, found: Comparison) -> str:
    better = -1 if key == SECONDS else BY_KEY[key].better
    kind = ""
    if found.difference.decides and better:
        kind = "better" if found.difference.mean * better > 0 else "worse"
    return f'<span class="{kind}">{_interval(found.difference)}</span>'


def _record(key: str, found: Comparison) -> str:
    directed = key == SECONDS or BY_KEY[key].better
    return f"{found.wins} / {found.ties} / {found.losses}" if directed else "-"


def _worst(run: Run) -> str:
    cells = []
    for bad in worst(run):
        reasons = ("、".join(BY_KEY[key].title[1] for key in bad.by), ", ".join(BY_KEY[key].title[0] for key in bad.by))
        cells.append(_clip(bad.row, f"<br>{both(reasons[1], reasons[0])}"))
    note = (
        "By all scores that have a better side, against the spread of this run; the two that count most are named.",
        "依据所有有优劣方向的评分，与本次评测的离散程度相比；列出影响最大的两项。",
    )
    return _section("The worst ten", "最差的十个", f'<div class="clips">{"".join(cells)}</div>' if cells else "", note)


def _sheet(run: Run) -> str:
    by_case: dict[str, list[Row]] = {}
    for row in run.rows:
        by_case.setdefault(row.case, []).append(row)
    parts = []
    for case, rows in by_case.items():
        category = f" · {escape(rows[0].category)}" if rows[0].category else ""
        picture = next((row.picture for row in rows if row.picture), None)
        first = _picture(picture) if picture else ""
        clips = "".join(_clip(row) for row in rows)
        words = escape(str(rows[0].settings.get("prompt")))
        parts.append(
            f'<div class="case"><p><small>{escape(case)}{category}</small><br>{words}</p>'
            f'<div class="clips">{first}{clips}</div></div>'
        )
    return _section("Every clip", "全部视频", "".join(parts), ("Click a clip to see its recipes side by side, in step.",
                    "点击视频可并排同步播放各配方的结果。"))  # fmt: skip


def _picture(path: str) -> str:
    image = f'<img loading="lazy" src="{quote(path)}" alt="">'
    return f"<figure>{image}<figcaption>{both('first image', '首帧图片')}</figcaption></figure>"


def _clip(row: Row, words: str = "") -> str:
    seed = escape(f"{row.recipe} · {row.settings.get('seed')}")
    if row.clip is None:
        error = row.error or {}
        why = both(error["en"], error["zh"]) if error else both("not made yet", "尚未生成")
        return f'<figure><div class="missing">{why}</div><figcaption>{seed}</figcaption></figure>'
    pair = escape(f"{row.case}/{row.seed_number}")
    data = f'data-clip="{quote(row.clip)}" data-pair="{pair}" data-recipe="{escape(row.recipe)}"'
    told = f'data-prompt="{escape(str(row.settings.get("prompt")))}"'
    image = f'<img loading="lazy" src="{quote(row.poster or "")}" alt="">'
    settings = quote(row.clip.rpartition(".")[0] + ".json")
    link = f'<a href="{settings}">{both("settings", "设置")}</a>'
    button = f'<button type="button" {data} {told}>{image}</button>'
    return f"<figure>{button}<figcaption>{seed} · {link}{words}</figcaption></figure>"


def _formulas(run: Run) -> str:
    measured = {key for row in run.rows for key, value in (row.scores or {}).items() if value is not None}
    rows = [
        [f"{both(*score.title)} <small>{_unit(score.unit)}</small>",
         f'<span style="white-space:normal">{both(*score.formula)}<br><small>{escape(score.source)}</small></span>']
        for key, score in BY_KEY.items()
        if key in measured
    ]  # fmt: skip
    return _section("What the scores are", "评分说明", _table(["", ""], rows))
