"""What happens in the form: a model or preset is chosen, a picture comes or goes, settings come back from a file."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from studio.config import model_named
from studio.embedded import embedded_picture
from studio.errors import InputError, StudioError
from studio.media import crop_box, looks_like_photo, read_image, read_metadata
from studio.service.submit import Record, check, made_again, record_of
from studio.settings import GenerationSettings, Speed
from studio.ui import form, form_changes, form_panels, markup
from studio.ui.create_tab import CreateTab
from studio.ui.difference import difference, difference_panel
from studio.ui.frame_panel import FramePanel
from studio.ui.labels import EVERY, LAST, Updates, clicked, merge, react
from studio.ui.strings import say

THUMBNAIL_PIXELS = 640
QUIET = ("model", "speed", "default_speed")  # what follows from these comes with the answer that changes them
LONGEST_SETTINGS = 100_000  # letters of a file's settings while they wait for an answer
Data = Mapping[Component, Any]
NOTHING: Record = MappingProxyType({})


def read_record(text: object) -> dict[str, Any]:
    """A record as the browser has it. Raises InputError where it is no object."""
    try:
        record = json.loads(str(text)[:LONGEST_SETTINGS]) if text else {}
    except (ValueError, RecursionError) as error:
        raise InputError("settings_unreadable", reason=str(error)) from None
    if not isinstance(record, dict):
        raise InputError("settings_unreadable", reason="they are not an object of fields")
    return record


def _written(record: Record) -> str:
    return json.dumps(dict(record), ensure_ascii=False) if record else ""


class FormEvents:
    """Handlers of the form on the left."""

    def __init__(self, create: CreateTab) -> None:
        self.create, self.backend = create, create.backend
        self.picture = {create.first_image, create.figure, create.remove, create.picture_size}
        self.frames = FramePanel(self)

    @property
    def framed(self) -> set[Component]:
        """What a frame that becomes the first image changes."""
        return {*self.create.shown, *self.picture, self.create.message, self.create.frame_bar}

    def wire(self) -> None:
        """Attach every handler. `input` events come from people alone, so that no answer triggers another. What follows
        from the form waits for `change` of every field: gradio 6's text fields send `input` for key presses only, not
        for pasted, deleted or Chinese words. It is one event for all: an answer fills the fields one after another, and
        what the first of them asks for must not arrive after what the last one does.
        """
        create, fields = self.create, self.create.fields
        outputs = {*create.shown, *self.picture, create.message}
        with_bytes = {*create.inputs, create.first_image}
        waiting = {create.pending, create.pending_image, create.differs}
        answering = {*with_bytes, create.pending, create.pending_image}
        react(fields["model"].input, self.model_chosen, with_bytes, outputs)
        react(create.drawer_head.select, self.reset, create.inputs, create.shown)
        react(create.chat.panel.select, create.chat.acted, create.chat.inputs, {*create.chat.outputs, fields["prompt"]})
        react(fields["magic_words"].input, self.magic_chosen, create.inputs, create.shown)
        react(fields["speed"].input, self.speed_chosen, create.inputs, create.shown)
        react(create.preset.input, self.preset_chosen, {*with_bytes, create.preset}, outputs)
        react(create.first_image.upload, self.picture_given, with_bytes, outputs)
        frame_bar = create.frame_bar.select  # a click counts also while the bar's own question is under way
        react(frame_bar, self.frames.answered, create.inputs, self.framed, **EVERY)
        react(create.remove.click, self.picture_removed, create.inputs, outputs)
        react(fields["size"].input, self.size_chosen, with_bytes, {*outputs, *create.refreshed})
        for zone in (create.restore, create.inbox):
            react(zone.upload, self.settings_given, {*with_bytes, zone}, {*outputs, *waiting, zone})
        react(create.differs.select, self.settings_answered, answering, {*outputs, *waiting})
        react(create.fix.click, self.fixed, create.inputs, {*create.shown, create.message})
        for place in (create.motion_ticks, create.camera_note):
            react(place.select, self.tick_chosen, create.inputs, create.shown)
        changes = partial(gr.on, [field.change for name, field in fields.items() if name not in QUIET])
        react(changes, self.typed, create.inputs, create.refreshed, **LAST)

    def typed(self, data: Data) -> Updates:
        """Something changed: what follows from it is shown, the rest stays as it is."""
        return self.create.refresh(*self._state(data))

    def model_chosen(self, data: Data) -> Updates:
        values, has_image, language = self._state(data)
        changed = form.change_model(values, self.create.model(values), self.backend.models)
        return merge(self.create.show(changed, has_image, language), self.drawn_again(data, changed))

    def magic_chosen(self, data: Data) -> Updates:
        values, has_image, language = self._state(data)
        changed = form.change_magic(values, self.create.model(values), self.backend.models)
        return self.create.show(changed, has_image, language)

    def speed_chosen(self, data: Data) -> Updates:
        values, has_image, language = self._state(data)
        return self.create.show(form.change_speed(values) | form.CHOSEN, has_image, language)

    def preset_chosen(self, data: Data) -> Updates:
        values, has_image, language = self._state(data)
        preset = self.backend.presets.get(data[self.create.preset])
        values = form.with_preset(values, preset) | form.CHOSEN if preset else values
        return merge(self.create.show(values, has_image, language), self.drawn_again(data, values))

    def reset(self, data: Data, event: gr.EventData) -> Updates:
        """A chip of the drawer: a changed field, or all, as before."""
        values, has_image, language = self._state(data)
        model, presets = self.create.model(values), self.backend.presets
        values = form_changes.reset(values, clicked(event, "id"), model, presets, has_image)
        return self.create.show(values, has_image, language, words=True)

    def tick_chosen(self, data: Data, event: gr.EventData) -> Updates:
        values, has_image, language = self._state(data)
        known = {str(score): score for score in form_panels.MOTION_TICKS}
        score = known.get(clicked(event, "score"), values["motion_score"])
        return self.create.show({**values, "motion_score": score}, has_image, language)

    def fixed(self, data: Data) -> Updates:
        """Take the length the plan offered."""
        values, has_image, language = self._state(data)
        try:
            asked = self.create.asked(data, has_image)
        except InputError as error:
            return self.create.complain([error], language)
        model = self.backend.models[asked.model]
        settings = asked.resolve(model)
        problems = settings.problems(model, self.backend.camera_moves)
        if wrong := [problem for problem in problems if problem.code != "prompt_empty"]:  # which no plan needs
            return self.create.complain(wrong, language)
        frames = self.create.fitting_frames(settings, model) or settings.num_frames
        return self.create.show({**values, "num_frames": frames}, has_image, language)

    def picture_given(self, data: Data) -> Updates:
        """Check the uploaded bytes, choose the size of its shape, show what will be used of it."""
        values, _, language = self._state(data)
        try:
            picture = self.create.picture(data)
            if picture is None:
                return self.picture_removed(data)
            image = self._read(picture)
        except InputError as error:
            return {**self._no_picture(), **self.create.complain([error], language)}
        model = self.create.model(values)
        values |= {"size": form.nearest_size(model, *image.size), **form.uncropped()}
        shapes_only = model.takes_image and not model.sources and looks_like_photo(image)
        warning = [say("image.shapes_only", language, model=model.title[language])] if shapes_only else []
        return merge(
            self._show_picture(image, values, language),
            self.create.show(values, True, language),
            {self.create.message: markup.alert(warning, "warn")},
        )

    def picture_removed(self, data: Data) -> Updates:
        values, _, language = self._state(data)
        return merge(self._no_picture(), self.create.show(values | form.uncropped(), False, language))

    def size_chosen(self, data: Data) -> Updates:
        """Another size crops the picture elsewhere."""
        return {**self.create.refresh(*self._state(data)), **self.drawn_again(data)}

    def drawn_again(self, data: Data, changed: form.Values | None = None) -> Updates:
        """The picture with its crop and its caption as language and form now are. changed: the form that will be."""
        values, has_image, language = self._state(data)
        values = values if changed is None else changed
        try:
            picture = self.create.picture(data) if has_image else None
            return {self.create.figure: self._figure(self._read(picture), values, language)} if picture else {}
        except InputError as error:
            return {**self._no_picture(), **self.create.complain([error], language)}

    def settings_given(self, data: Data) -> Updates:
        """Show what a file that this program wrote would change. Nothing in it is opened or trusted: same checks."""
        language = data[self.create.language]
        zone = self.create.inbox if self.create.inbox in data else self.create.restore
        nothing: Updates = {**self._nothing_pending(), zone: gr.update(value=None)}
        try:
            given = self.create.uploaded(data[zone]) or b""
            settings, record = self._read_file(read_metadata(given))
            picture = self._carried(given) if settings.first_image is not None else None
        except StudioError as error:
            return nothing | self.create.complain([error], language)
        if panel := self._difference(data, settings, picture):
            own = replace(settings, first_image=None if settings.first_image is None else form.PICTURE)
            waits = json.dumps({**record, "settings": asdict(own)}, ensure_ascii=False)
            kept = None if picture is None else str(self.create.uploads.keep(picture, "first_image"))
            shown = {self.create.pending: waits, self.create.pending_image: kept, self.create.differs: panel}
            return nothing | shown | {self.create.message: ""}
        return merge(nothing, self._apply(data, settings, record, picture))

    def _nothing_pending(self) -> Updates:
        return {self.create.pending: "", self.create.pending_image: None, self.create.differs: ""}

    def _carried(self, given: bytes) -> bytes | None:
        """The first image inside a video that was given, checked as any picture is. Raises InputError."""
        picture = embedded_picture(io.BytesIO(given), self.backend.config.upload_limit_mb << 20)
        if picture is not None:
            self._read(picture)
        return picture

    def settings_answered(self, data: Data, event: gr.EventData) -> Updates:
        """The form takes the file's settings, or stays as it is. They come from the browser: same checks again."""
        nothing = self._nothing_pending()
        if clicked(event, "id") != "apply" or not data[self.create.pending]:
            return nothing
        try:
            settings, record = self._read_file(read_record(data[self.create.pending]))
            picture = self.create.uploaded(data[self.create.pending_image])
        except StudioError as error:
            return nothing | self.create.complain([error], data[self.create.language])
        return nothing | self._apply(data, settings, record, picture)

    def difference_again(self, data: Data) -> Updates:
        """The difference as language and form now are."""
        try:
            settings, _ = self._read_file(read_record(data[self.create.pending]))
            picture = self.create.uploaded(data[self.create.pending_image])
            return {self.create.differs: self._difference(data, settings, picture)}
        except StudioError:
            return {self.create.differs: ""}

    def _difference(self, data: Data, settings: GenerationSettings, picture: bytes | None) -> str:
        then, models = form.fill(settings, self.backend.models[settings.model]), self.backend.models
        language = data[self.create.language]
        rows = difference(self.create.values(data), then, models, language)
        if picture is not None and self.create.picture(data) != picture:
            was = data[self.create.picture_size].replace("x", " × ")
            size = " × ".join(map(str, self._read(picture).size))
            rows.append((say("image", language), was, say("restore.inside", language, size=size)))
        return difference_panel(rows, language)

    def _apply(self, data: Data, settings: GenerationSettings, record: Record, picture: bytes | None) -> Updates:
        _, has_image, language = self._state(data)
        wants_image = settings.first_image is not None
        key = "restore.image" if wants_image and not has_image and picture is None else "restore.done"
        done = [say(key, language)]
        if record:
            done.append(say("restore.plan", language, count=len(record["plan"]["nodes"])))
        told: Updates = {self.create.message: markup.alert(done, "good")}
        if picture is not None:
            return self.fill_from(settings, picture, language, record) | told
        values = form.fill(settings, self.backend.models[settings.model])
        kept = {} if wants_image or not has_image else self._no_picture()
        return merge(
            kept,
            self.create.show(values, wants_image and has_image, language, words=True),
            self.drawn_again(data, values) if wants_image else {},
            {self.create.record: _written(record)},
            told,
        )

    def fill_from(
        self, settings: GenerationSettings, data: bytes | None, language: str, record: Record = NOTHING
    ) -> Updates:
        """The form as it was when a video was asked for. `data`: its picture, as uploaded. record: see submit."""
        try:
            model = model_named(settings.model, self.backend.models)
        except InputError as error:
            return self.create.complain([error], language)
        values = form.fill(settings, model)
        updates = self._no_picture()
        if data is not None:
            path = self.create.uploads.keep(data, "first_image")
            updates = self._show_picture(self._read(data), values, language)
            updates[self.create.first_image] = gr.update(value=str(path))
        return merge(
            updates,
            self.create.show(values, data is not None, language, words=True),
            self.create.complain([], language),
            {self.create.record: _written(record)},
        )

    def use_picture(self, data: Data, picture: bytes, said: str) -> Updates:
        """Make the program's own picture the first image; words stay, a model without pictures makes way. said: what
        is told."""
        values, _, language = self._state(data)
        if not self.create.model(values).takes_image:
            installed = self.backend.installed()
            fit = [model for model in self.backend.menu() if model.takes_image and installed[model.name]]
            if not fit:
                wrong = InputError("image_unused", model=values["model"], other="step-video-ti2v")
                return self.create.complain([wrong], language)
            values = form.change_model(values, fit[0], self.backend.models)
        image = self._read(picture)
        values |= {"size": form.nearest_size(self.create.model(values), *image.size), **form.uncropped()}
        path = self.create.uploads.keep(picture, "first_image")
        updates = self._show_picture(image, values, language)
        updates[self.create.first_image] = gr.update(value=str(path))
        return merge(
            updates,
            self.create.show(values, True, language, words=True),
            {self.create.message: markup.alert([said], "good")},
        )

    def _state(self, data: Data) -> tuple[form.Values, bool, str]:
        return self.create.values(data), bool(data[self.create.picture_size]), data[self.create.language]

    def _read(self, data: bytes) -> Image.Image:
        return read_image(data, self.backend.config.image_limit_megapixels)

    def _read_file(self, given: dict[str, Any]) -> tuple[GenerationSettings, dict[str, Any]]:
        """The settings in what a file says of itself, and its record for `submit`, {} where the settings say all.

        Raises InputError for settings that cannot run, and for a plan that is none.
        """
        settings = GenerationSettings.from_record(given)
        settings = replace(settings, speed=settings.speed or Speed.EXACT.value)  # of before there were speeds
        resolved = check(self.backend, settings)
        record = record_of(resolved, given)
        return settings, record if made_again(self.backend, record, resolved) else {}

    def _show_picture(self, image: Image.Image, values: form.Values, language: str) -> Updates:
        return {
            self.create.figure: gr.update(value=self._figure(image, values, language), visible=True),
            self.create.remove: gr.update(visible=True),
            self.create.picture_size: f"{image.width}x{image.height}",
        }

    def _no_picture(self) -> Updates:
        return {
            self.create.first_image: gr.update(value=None, visible=True),
            self.create.figure: gr.update(value="", visible="hidden"),
            self.create.remove: gr.update(visible=False),
            self.create.picture_size: "",
        }

    def _figure(self, image: Image.Image, values: form.Values, language: str) -> str:
        width, height = form.size_or_first(values["size"], self.create.model(values))
        box = crop_box(image.size, height, width, form.crop_place(values))
        small = image.copy()
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=82)
        url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return form_panels.crop_figure(url, box, image.size, language)
