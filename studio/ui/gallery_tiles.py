"""The gallery's page as html: the search, the tiles, the bar for those that are chosen, the marks of one."""

from collections.abc import Callable, Sequence

from studio.queue.disk import Use
from studio.queue.gallery import Entry
from studio.queue.job import Job
from studio.queue.search import Sort
from studio.queue.trash import MOST_BYTES
from studio.service.acts import Act
from studio.ui.job_panels import card, job_card
from studio.ui.markup import media_url, text
from studio.ui.strings import say
from studio.units import GB


def tiles(
    entries: Sequence[Entry],
    chosen: str,
    language: str,
    *,
    searched: bool = False,
    may_change: Callable[[Job], bool] = lambda job: True,
) -> str:
    """A page of the gallery, or of what a search found of it. may_change: which jobs have marks and can be chosen."""
    acts = [entry.job is not None and may_change(entry.job) for entry in entries]
    cards = "".join(_tile(entry, chosen, language, may_act) for entry, may_act in zip(entries, acts, strict=True))
    if not cards:
        return f'<p class="nothing">{say("gallery.nothing" if searched else "gallery.empty", language)}</p>'
    return f'{_bar(language) if any(acts) else ""}<div class="grid">{cards}</div>'


def search_box(language: str) -> str:
    """The field for words and the choice of an order."""
    words, order = text(say("gallery.search", language)), text(say("gallery.sort", language))
    options = "".join(f'<option value="{sort}">{text(say(f"sort.{sort}", language))}</option>' for sort in Sort)
    return (
        f'<div class="find"><input type="search" placeholder="{words}" aria-label="{words}" autocomplete="off">'
        f'<select aria-label="{order}">{options}</select></div>'
    )


def place(start: int, shown: int, count: int, language: str) -> str:
    """Which entries of the gallery are on the page."""
    words = say("gallery.place", language, first=start + 1, last=start + shown, count=count)
    return f'<span class="place">{words}</span>'


def disk(use: Use, latents_gb: float, originals_gb: float, language: str) -> str:
    """What everything here takes on disk, and up to how much of it is kept."""
    parts: list[tuple[str, int, float | None]] = [
        ("disk.videos", use.videos, None),
        ("disk.originals", use.originals, originals_gb),
        ("disk.latents", use.latents, latents_gb),
        ("disk.trash", use.trash, MOST_BYTES / GB),
    ]
    said = []
    for key, size, limit in parts:
        words = f"{say(key, language)} {f'{size / GB:.1f} GB' if size >= GB / 10 else f'{size / 2**20:.1f} MB'}"
        said.append(f"{words} {say('disk.limit', language, gb=f'{limit:g} GB')}" if limit is not None else words)
    return f'<p class="disk">{text(" · ".join(said))}</p>'


def marks(entry: Entry, language: str, may_act: bool) -> str:
    """Favourite and tags of the chosen entry; of a result that no job knows there are none."""
    if entry.job is None or not may_act:
        return ""
    tags, label = ", ".join(entry.job.tags), text(say("gallery.tags", language))
    field = f'<input type="text" value="{text(tags)}" placeholder="{label}" aria-label="{label}" autocomplete="off">'
    return f'<div class="marks">{_star(entry.job.favourite, language)}{field}</div>'


def _tile(entry: Entry, chosen: str, language: str, may_act: bool) -> str:
    job, buttons = entry.job, ""
    if job is not None and may_act:
        label = text(say("gallery.choose", language, prompt=job.settings.prompt[:60]))
        check = f'<button type="button" class="check" aria-pressed="false" aria-label="{label}"></button>'
        buttons = check + _star(job.favourite, language)
    inside = job_card(job, chosen, language) if job else _result_card(entry, chosen)
    return f'<div class="tile" data-tile="{entry.id}">{inside}{buttons}</div>'


def _result_card(entry: Entry, chosen: str) -> str:
    picture = media_url(entry.id, "poster") if entry.poster else ""
    plays = bool(entry.path and entry.path.suffix == ".mp4")
    return card(entry.id, picture, "", entry.settings.prompt, entry.id == chosen, plays=plays)


def _star(favourite: bool, language: str) -> str:
    act, label = Act.UNSTAR if favourite else Act.STAR, text(say("gallery.favourite", language))
    told = f'data-act="{act}" aria-pressed="{str(favourite).lower()}" aria-label="{label}" title="{label}"'
    return f'<button type="button" class="star" {told}>{"★" if favourite else "☆"}</button>'


def _bar(language: str) -> str:
    """What can be done with all chosen tiles; gallery.js shows it while there are any and counts them."""
    acts = ((Act.STAR, "gallery.favourite"), (Act.UNSTAR, "gallery.unstar"), (Act.REMOVE, "gallery.delete"))
    label = text(say("gallery.tags", language))
    add, clear = text(say("gallery.tag", language)), text(say("gallery.clear", language))
    compare = text(say("compare", language))
    buttons = "".join(
        f'<button type="button" data-act="{act}">{text(say(key, language))}</button>' for act, key in acts
    )
    return (
        f'<div class="picked" hidden><span>{text(say("gallery.chosen", language))} <output>0</output></span>{buttons}'
        f'<input type="text" placeholder="{label}" aria-label="{label}" autocomplete="off">'
        f'<button type="button" data-act="{Act.TAG}">{add}</button>'
        f'<button type="button" data-act="compare">{compare}</button>'
        f'<button type="button" data-act="clear">{clear}</button></div>'
    )
