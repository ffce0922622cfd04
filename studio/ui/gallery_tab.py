"""Everything that was made: play it, see how, use it again, resume or delete it. Read from disk at every look."""

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.queue.gallery import Entry
from studio.queue.job import ENDED, STOPPED, JobState
from studio.queue.kinds import JobKind
from studio.queue.marks import add_tags, tags_of
from studio.queue.search import Search, Sort
from studio.queue.trash import Trash
from studio.service.acts import Act, Order, act
from studio.service.disk_gauge import DiskGauge
from studio.service.media import first_image
from studio.service.sound import clip_of, has_words, track_of
from studio.service.submit import record_of_file
from studio.ui import gallery_tiles, job_panels, markup
from studio.ui.form_events import FormEvents
from studio.ui.labels import EVERY, FRAMES, LAST, Labels, Updates, clicked, html, react, visible_if
from studio.ui.made_of import made_of
from studio.ui.parts import choice
from studio.ui.player import player
from studio.ui.queue_rows import undo_bar
from studio.ui.strings import say
from studio.ui.theme import script

FILTERS = {
    "all": "gallery.all",
    "favourites": "gallery.favourites",
    "finished": "gallery.finished",
    "unfinished": "gallery.unfinished",
}
STATES = {"finished": (JobState.FINISHED,), "unfinished": STOPPED}  # of a filter; others show all
PAGE = 60  # entries shown at once
LONGEST_SEARCH = 200  # letters
# Words are sought when nobody has typed for a moment. A box of our own: gradio's sends its text as an event of its own
# kind, which the gate refuses.
SEARCHES = """let resting = 0;
element.addEventListener('input', (event) => {
    clearTimeout(resting);
    const said = (tag) => element.querySelector(tag).value;
    const ask = () => trigger('select', { words: said('input'), sort: said('select') });
    resting = setTimeout(ask, event.target.matches('select') ? 0 : 200);
})"""
# Of the chosen video: its star, and its tags when the field is left or Enter is pressed.
MARKS = """element.addEventListener('click', (event) => {
    const act = event.target.closest('[data-act]')?.dataset.act;
    if (act) trigger('select', { act });
});
element.addEventListener('change', (event) => trigger('select', { act: 'tag', tags: event.target.value }))"""
MARKS_OF_SEVERAL = (Act.STAR, Act.UNSTAR, Act.TAG, Act.REMOVE)
Data = Mapping[Component, Any]


class GalleryTab:
    """Tiles, and the chosen one in full. The page keeps the chosen id alone."""

    def __init__(self, events: FormEvents, labels: Labels, tabs: gr.Tabs) -> None:
        self.events, self.backend, self.tabs = events, events.backend, tabs
        self.language, self.gauge = events.create.language, DiskGauge()
        self.chosen = gr.Textbox(visible="hidden", elem_id="chosen")
        self.start = gr.Textbox("0", visible="hidden")  # how many newer entries come before the page
        self.filter = labels.add(
            choice([(key, key) for key in FILTERS], value="all", untitled=True, elem_id="filter"),
            label="gallery.filter",
        )
        self.search = gr.Textbox("", visible="hidden")  # the words that the page of tiles was found by
        self.sort = gr.Textbox("", visible="hidden")
        self.search_box = html(elem_id="search", js_on_load=SEARCHES)
        with gr.Row(elem_id="gallery"):
            with gr.Column(elem_id="detail", scale=5):
                self.message = html(elem_id="gallery-message")
                self.undo = html(elem_id="gallery-undo", js_on_load=script("undo.js"))
                self.player = html(elem_id="player", js_on_load=FRAMES)
                with gr.Row(elem_id="gallery-actions"):
                    self.download = html(visible="hidden")
                    self.buttons = {
                        key: labels.add(
                            gr.Button(
                                size="sm", visible=False, min_width=90, variant="stop" if key == "sure" else "secondary"
                            ),
                            value=word,
                        )
                        for key, word in (
                            ("use", "gallery.use"),
                            ("sound", "sound.open"),
                            ("resume", "resume"),
                            ("remake", "gallery.remake"),
                            ("folder", "gallery.folder"),
                            ("delete", "gallery.delete"),
                            ("sure", "gallery.delete_sure"),
                            ("keep", "gallery.keep"),
                        )
                    }
                self.marks = html(elem_id="marks", js_on_load=MARKS)
                self.table = html()
            with gr.Column(scale=6):
                self.grid = html(elem_id="tiles", js_on_load=script("gallery.js"))
                with gr.Row(elem_id="pager"):
                    turn: dict[str, Any] = {"size": "sm", "visible": False, "scale": 0, "min_width": 90}
                    self.newer = labels.add(gr.Button(elem_id="newer", **turn), value="gallery.newer")
                    self.place = html(elem_id="place")
                    self.older = labels.add(gr.Button(elem_id="older", **turn), value="gallery.older")
                self.disk = html(elem_id="disk")

    def opened(self, data: Data) -> Updates:
        """The tab is shown: its tiles, and what all of it takes on disk."""
        use = self.gauge.look(self.backend.queue, self.backend.gallery)
        limits = self.backend.config.latents_gb, self.backend.config.originals_gb
        return {**self.tiles(data), self.disk: gallery_tiles.disk(use, *limits, data[self.language])}

    @property
    def inputs(self) -> set[Component]:
        return {self.chosen, self.filter, self.search, self.sort, self.start, self.language}

    @property
    def detail(self) -> set[Component]:
        """What `show` changes."""
        return {self.player, self.table, self.marks, self.download, self.message, self.chosen, *self.buttons.values()}

    @property
    def outputs(self) -> set[Component]:
        """What `look` changes."""
        return {self.filter, self.search_box, *self.paged, *self.detail}

    @property
    def paged(self) -> set[Component]:
        """What `tiles` changes."""
        return {self.grid, self.start, self.newer, self.place, self.older}

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler; `refresh(event)` lets the page look at the queue once the event is done."""
        buttons = self.buttons
        react(self.grid.select, self.pick, self.inputs, self.outputs, **LAST)
        react(self.filter.input, self.filtered, self.inputs, self.outputs)
        react(self.search_box.select, self.searched, self.inputs, {*self.paged, self.search, self.sort}, **LAST)
        react(self.newer.click, self.turn_newer, self.inputs, self.paged)
        react(self.older.click, self.turn_older, self.inputs, self.paged)
        refresh(react(buttons["delete"].click, self.remove, self.inputs, {*self.outputs, self.undo}))
        refresh(react(self.undo.select, self.bring_back, self.inputs, {*self.outputs, self.undo}))
        refresh(react(self.grid.edit, self.marked, self.inputs, {*self.outputs, self.undo}, **EVERY))
        refresh(
            react(self.marks.select, self.marked_one, self.inputs, {*self.paged, self.marks, self.message}, **EVERY)
        )
        refresh(react(buttons["remake"].click, self.remake, self.inputs, {*self.outputs, self.undo}))
        react(buttons["folder"].click, self.show_folder, self.inputs, {self.message})
        react(buttons["keep"].click, self.look, self.inputs, self.outputs)
        refresh(react(buttons["sure"].click, self.delete, self.inputs, self.outputs))
        refresh(react(buttons["resume"].click, self.resume, self.inputs, self.outputs))
        create = self.events.create
        form_outputs = {*create.shown, *self.events.picture, create.message, self.tabs}
        react(self.player.select, self.frame, {*create.inputs, self.language}, {*self.events.framed, self.tabs})
        react(buttons["use"].click, self.use, self.inputs, {*form_outputs, *self.outputs})

    def open(self, language: str) -> Updates:
        """For a new visitor: the newest entries, none chosen."""
        nothing: dict[Component, Any] = {self.chosen: "", self.search: "", self.sort: ""}
        return self.look({**nothing, self.filter: "all", self.start: "0", self.language: language})

    def look(self, data: Data) -> Updates:
        """The tiles and the chosen entry as they are now."""
        kind, language = data[self.filter], data[self.language]
        choices = [(say(word, language), key) for key, word in FILTERS.items()]
        return {
            **self.tiles(data),
            self.filter: gr.update(choices=choices, value=kind if kind in FILTERS else "all"),
            self.search_box: gallery_tiles.search_box(language),
            **self.show(data[self.chosen], language),
        }

    def tiles(self, data: Data, turn: int = 0) -> Updates:
        """A page of tiles alone, `turn` pages further: what is being watched plays on."""
        states, language = STATES.get(data[self.filter], ENDED), data[self.language]
        search = self._search(data)
        count = self.backend.gallery.count(states, search)
        last = max(count - 1, 0) // PAGE * PAGE
        start = min(max(_start(data[self.start]) + turn * PAGE, 0), last)
        entries = self.backend.gallery.list(states, PAGE, start, search)
        return {
            self.grid: gallery_tiles.tiles(
                entries,
                data[self.chosen],
                language,
                searched=bool(search.sought) or search.favourites,
                may_change=self.backend.may_change,
            ),
            self.start: str(start),
            self.newer: gr.update(visible=start > 0),
            self.place: gallery_tiles.place(start, len(entries), count, language) if count > PAGE else "",
            self.older: gr.update(visible=start < last),
        }

    def turn_newer(self, data: Data) -> Updates:
        return self.tiles(data, -1)

    def turn_older(self, data: Data) -> Updates:
        return self.tiles(data, 1)

    def searched(self, data: Data, event: gr.EventData) -> Updates:
        """Other words and another order begin at the first entry; what is being watched plays on."""
        words, sort = clicked(event, "words")[:LONGEST_SEARCH], clicked(event, "sort")[:16]
        found: dict[Component, Any] = {self.search: words, self.sort: sort}
        return self.tiles({**data, self.start: "0", **found}) | found

    def _search(self, data: Data) -> Search:
        known = {str(sort): sort for sort in Sort}
        sort = known.get(str(data[self.sort]), Sort.NEWEST)
        return Search(str(data[self.search] or "")[:LONGEST_SEARCH], data[self.filter] == "favourites", sort)

    def filtered(self, data: Data) -> Updates:
        """Another filter begins at its newest entry."""
        return self.look({**data, self.start: "0"})

    def show(self, chosen: str, language: str) -> Updates:
        """The chosen entry: its video, its settings, what can be done with it."""
        entry = self.backend.gallery.get(chosen) if chosen else None
        job = entry.job if entry else None
        owner, resumable = self.backend.may_change(job), bool(job and job.resumable)
        visible = {"use": entry is not None, "resume": owner and resumable, "delete": owner and entry is not None}
        visible["remake"] = owner and bool(job and job.kind is JobKind.VIDEO)
        visible["folder"] = self.backend.show_folder is not None and bool(entry and entry.path)
        visible["sound"] = clip_of(self.backend, entry.id if entry else "") is not None
        link = job_panels.download(entry.id, language) if entry and entry.path else ""
        return {
            self.chosen: entry.id if entry else "",
            self.player: self._play(entry, language),
            self.table: self._table(entry, language) if entry else "",
            self.marks: gallery_tiles.marks(entry, language, owner) if entry else "",
            self.message: "",
            self.download: gr.update(value=link, visible=visible_if(bool(link))),
            **{button: gr.update(visible=visible.get(key, False)) for key, button in self.buttons.items()},
        }

    def pick(self, data: Data, event: gr.EventData) -> Updates:
        return self.look({**data, self.chosen: clicked(event, "id")})

    def remove(self, data: Data) -> Updates:
        """A job's video goes into the trash, with ten seconds to undo; one that no job knows asks once more."""
        entry = self.backend.gallery.get(data[self.chosen])
        if entry is not None and entry.job is None:
            asked = ("sure", "keep")
            return {button: gr.update(visible=key in asked) for key, button in self.buttons.items()}
        updates = self._act(self._asked(Act.REMOVE), data)
        if entry is None or self.backend.gallery.get(entry.id) is not None:
            return updates
        return updates | {self.undo: undo_bar(entry.id, entry.settings.prompt, data[self.language])}

    def bring_back(self, data: Data, event: gr.EventData) -> Updates:
        """Undo the last removal."""
        ids = _ids(event, "id")
        try:
            for id in ids if self.backend.owner() else []:
                self._asked(Act.UNDO)(id)
        except StudioError as error:
            return self._say(markup.sentence(error, data[self.language]), data)
        return self.look({**data, self.chosen: ids[0] if ids else ""}) | {self.undo: ""}

    def marked(self, data: Data, event: gr.EventData) -> Updates:
        """A star of a tile was clicked, or an act of the bar for all chosen tiles."""
        asked, language, queue = clicked(event, "act"), data[self.language], self.backend.queue
        jobs = [job for id in _ids(event, "ids") if (job := queue.get(id))]
        ids = [job.id for job in jobs if self.backend.may_change(job)]
        if asked not in MARKS_OF_SEVERAL or not ids:
            return self.look(data)
        try:
            if asked == Act.TAG:
                add_tags(queue, ids, tags_of(clicked(event, "tags")))
            done = [id for id in ids if asked != Act.TAG and self._asked(Act(asked))(id)]
        except StudioError as error:
            return self._say(markup.sentence(error, language), data)
        undo = undo_bar(" ".join(done), say("gallery.several", language, count=len(done)), language)
        return self.look(data) | ({self.undo: undo} if asked == Act.REMOVE and done else {})

    def marked_one(self, data: Data, event: gr.EventData) -> Updates:
        """Star or tags of the chosen video; it plays on."""
        asked, tags, language = clicked(event, "act"), tags_of(clicked(event, "tags")), data[self.language]
        queue, told = self.backend.queue, ""
        try:
            if asked in (Act.STAR, Act.UNSTAR, Act.TAG) and self.backend.owner():
                act(queue, Trash(queue), Order(Act(asked), data[self.chosen], tags=tuple(tags)))
        except StudioError as error:
            told = markup.alert([markup.sentence(error, language)])
        entry = self.backend.gallery.get(data[self.chosen])
        shown = gallery_tiles.marks(entry, language, self.backend.may_change(entry.job)) if entry else ""
        return {**self.tiles(data), self.marks: shown, self.message: told}

    def remake(self, data: Data) -> Updates:
        """The same once more with another seed; this one goes into the trash, with ten seconds to undo."""
        entry = self.backend.gallery.get(data[self.chosen])
        updates = self._act(self._asked(Act.REMAKE), data)
        if entry is None or self.backend.gallery.get(entry.id) is not None:
            return updates
        return updates | {self.undo: undo_bar(entry.id, entry.settings.prompt, data[self.language])}

    def show_folder(self, data: Data) -> Updates:
        """The video's folder in this machine's own window, where the page is for this machine alone."""
        entry, show = self.backend.gallery.get(data[self.chosen]), self.backend.show_folder
        if show is None or entry is None or entry.path is None:
            return {self.message: markup.alert([say("gallery.gone", data[self.language])])}
        try:
            show(entry.path.parent)
        except StudioError as error:
            return {self.message: markup.alert([markup.sentence(error, data[self.language])])}
        return {self.message: ""}

    def delete(self, data: Data) -> Updates:
        """Remove the chosen entry with its files."""
        return self._act(self.backend.gallery.delete, data)

    def resume(self, data: Data) -> Updates:
        """Let a stopped or failed job go on."""
        return self._act(self.backend.queue.resume, data)

    def _asked(self, asked: Act) -> Callable[[str], bool]:
        queue, lists = self.backend.queue, self.backend.word_lists
        return lambda id: act(queue, Trash(queue), Order(asked, id), lists)

    def _act(self, act: Callable[[str], Any], data: Data) -> Updates:
        if (entry := self.backend.gallery.get(data[self.chosen])) is None:
            return self._gone(data)
        try:
            if self.backend.may_change(entry.job):
                act(data[self.chosen])
        except StudioError as error:
            return self._say(markup.sentence(error, data[self.language]), data)
        return self.look(data)

    def _gone(self, data: Data) -> Updates:
        return self._say(say("gallery.gone", data[self.language]), data)

    def _say(self, words: str, data: Data) -> Updates:
        return self.look(data) | {self.message: markup.alert([words])}

    def use(self, data: Data) -> Updates:
        """Back to the form, filled with this entry."""
        entry = self.backend.gallery.get(data[self.chosen])
        if entry is None:
            return self._gone(data)
        picture = first_image(self.backend, entry.id)
        record = record_of_file(entry.settings, entry.path) if entry.path else {}
        filled = self.events.fill_from(entry.settings.asked(), picture, data[self.language], record)
        return filled | {self.tabs: gr.update(selected="create")}

    def frame(self, data: Data, event: gr.EventData) -> Updates:
        """A frame of the chosen video becomes the first image of the form."""
        return self.events.frames.given(data, event) | {self.tabs: gr.update(selected="create")}

    def _play(self, entry: Entry | None, language: str) -> str:
        if entry is None:
            return f'<div class="screen blank"><span>{say("gallery.pick", language)}</span></div>'
        if entry.job and entry.state != JobState.FINISHED:
            return job_panels.stage(entry.job, 0, language)
        settings = entry.settings
        shown = (entry.id, entry.path, entry.poster is not None, settings.prompt, settings.num_frames)
        inside = player(*shown, language, has_words(track_of(entry)))
        return f'<div class="screen" style="{job_panels.ratio(entry.settings)}">{inside}</div>'

    def _table(self, entry: Entry, language: str) -> str:
        model = self.backend.models.get(entry.settings.model)
        title = model.title[language] if model else entry.settings.model
        return made_of(entry, title, language) + job_panels.settings_table(entry.settings, title, language)


def _ids(event: gr.EventData, name: str) -> list[str]:
    """The ids that a click says, as many as a page has."""
    return clicked(event, name).split()[:PAGE]


def _start(value: object) -> int:
    """The first entry of a page as the browser says it, 0 where that is no number."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
