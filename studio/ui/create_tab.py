"""The left half of the page: the form. Picture, words, preset, length and shape first, all else in one drawer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.camera_advice import better_score, other_move
from studio.config import ModelConfig
from studio.errors import StudioError
from studio.messages import message
from studio.prompt import EncoderCount
from studio.prompt_builder import is_long
from studio.service.backend import Backend
from studio.service.uploads import Uploads
from studio.settings import CENTRED, GenerationSettings, ResolvedSettings
from studio.ui import form, form_changes, form_panels, markup, speeds
from studio.ui.absent_panel import AbsentPanel
from studio.ui.chat_panel import ChatPanel
from studio.ui.check_panel import CheckPanel
from studio.ui.difference import form_values
from studio.ui.drawer import drawer_head, drawer_search
from studio.ui.labels import PICKS, Labels, Updates, html, merge, visible_if
from studio.ui.parts import choice, file_place, number, slider
from studio.ui.strings import say, say_move
from studio.ui.theme import script
from studio.ui.words_panel import WordsPanel, prefix_offer
from studio.wildcards import has_wildcards, with_words_drawn

TICKS = """element.addEventListener('click', (event) => {
    const tick = event.target.closest('[data-score]');
    if (tick) trigger('select', { score: tick.dataset.score });
})"""

PICTURES, SETTINGS = "image/*", ".mp4,.png,.json"  # what the file pickers offer


Field = gr.Textbox | gr.HTML


class CreateTab:
    """The form's components by setting name (`fields`) and what surrounds them, and what they show when."""

    def __init__(
        self, backend: Backend, uploads: Uploads, labels: Labels, language: gr.HTML, store: gr.BrowserState
    ) -> None:
        self.backend, self.uploads, self.labels, self.language, self.store = backend, uploads, labels, language, store
        self.fields: dict[str, Field] = {}
        self.check = CheckPanel(backend, language)
        self._build_words()
        self._build_picture()
        self._build_presets()
        self._build_drawer()
        self._build_start()

    def _build_words(self) -> None:
        label = self.labels.add
        self.model_style = html(elem_classes="invisible")
        self.fields["model"] = label(choice(elem_id="model"), label="model")
        self.model_note = html()
        self.absent = AbsentPanel(self.backend, self.language)
        self.fields["prompt"] = label(
            gr.Textbox(lines=4, max_lines=12, elem_id="prompt", interactive=True), label="prompt"
        )
        self.meters = html(js_on_load=PICKS)
        self.chat = ChatPanel(self.backend, self.fields["prompt"], self.language)

    def _build_picture(self) -> None:
        with gr.Column(elem_id="picture", elem_classes="field"):
            self.picture_title = html()
            self.first_image = self.labels.add(file_place(PICTURES, elem_id="first-image"), label="image")
            self.figure = html(visible="hidden", elem_id="crop", js_on_load=script("crop.js"))
            for name in form.CROP:  # crop.js writes them
                self.fields[name] = number(value=CENTRED, visible="hidden", elem_id=name.replace("_", "-"))
            self.remove = self.labels.add(
                gr.Button(size="sm", visible=False, elem_id="remove-picture"), value="image.remove"
            )
        self.picture_size = gr.Textbox(visible="hidden")  # "WIDTHxHEIGHT" of the uploaded picture, "" for none

    def _build_presets(self) -> None:
        label = self.labels.add
        self.preset = label(choice(elem_id="preset"), label="preset")
        with gr.Row(elem_id="shape-row"):
            self.fields["num_frames"] = label(choice(as_list=True, elem_id="length", scale=2), label="length")
            self.fields["size"] = label(choice(elem_id="size", scale=3), label="size")

    def _build_drawer(self) -> None:
        label, fields = self.labels.add, self.fields
        self.drawer_head = html(elem_id="drawer-head", js_on_load=script("drawer.js"))
        with gr.Column(elem_id="drawer"):
            self.search = html(elem_id="drawer-search")
            self.words = WordsPanel()
            self._build_motion()
            fields["default_speed"] = gr.Textbox(visible="hidden")
            fields["speed"] = label(choice(as_list=True, elem_id="speed"), label="speed")
            fields["seed"] = label(
                gr.Textbox(max_lines=1, elem_id="seed", min_width=120, interactive=True),
                label="seed",
                placeholder="seed.placeholder",
            )
            with gr.Row():
                for name, key in (("infer_steps", "steps"), ("cfg_scale", "cfg"), ("time_shift", "shift")):
                    fields[name] = label(number(min_width=90, elem_id=key), label=key)
            fields["guidance_schedule"] = label(choice(as_list=True, elem_id="guidance"), label="guidance")
            fields["magic_words"] = label(choice(as_list=True, elem_id="magic"), label="magic", info="magic.info")
            fields["negative_prompt"] = label(
                gr.Textbox(lines=2, max_lines=6, elem_id="negative", interactive=True),
                label="negative",
                info="negative.info",
                placeholder="negative.placeholder",
            )
            with gr.Column(elem_id="row-restore"):
                self.restore_title = html()
                self.restore = label(file_place(SETTINGS, elem_id="restore-file"), label="restore")
            with gr.Column(elem_id="row-receives"):
                self.receives = html(elem_id="receives")
            self.check.build_row()

    def _build_motion(self) -> None:
        label = self.labels.add
        with gr.Column(elem_id="row-camera"):
            self.fields["camera_move"] = label(choice(elem_id="camera"), label="camera")
            self.fields["camera_speed"] = label(choice(as_list=True, elem_id="camera-speed"), label="camera.speed")
            self.camera_note = html(js_on_load=TICKS)
        with gr.Column(elem_id="row-motion"):
            self.fields["motion_score"] = label(
                slider(0, form.MOTION_LIMIT, value=5, step=0.5, elem_id="motion"), label="motion"
            )
            self.motion_ticks = html(elem_id="ticks", js_on_load=TICKS)

    def _build_start(self) -> None:
        label = self.labels.add
        # Where page.js lays files that were dropped anywhere.
        self.inbox = label(file_place(SETTINGS, elem_id="inbox", visible="hidden"), label="restore")
        with gr.Column(elem_id="start"):
            self.edit_bar = html(elem_id="edit-bar", visible="hidden", js_on_load=PICKS)
            # A file's settings and the first image that it carries, until the choice is made.
            self.pending = gr.Textbox(visible="hidden")
            self.pending_image = self.labels.add(file_place(PICTURES, visible="hidden"), label="image")
            # The record of the video that the form was filled from, or "": with all its settings it is made again.
            self.record = gr.Textbox(visible="hidden")
            self.differs = html(elem_id="differs", js_on_load=PICKS)
            self.message = html(elem_id="message")
            self.frame_bar = html(elem_id="frame-bar", js_on_load=script("frame_wait.js"))
            with gr.Row(elem_id="plan-row"):
                self.plan = html(elem_id="plan")
                self.fix = gr.Button(visible=False, size="sm", elem_id="fix", scale=0, min_width=150)
            with gr.Row():
                self.generate = label(gr.Button(variant="primary", elem_id="generate", scale=3), value="generate")
                self.stop = label(gr.Button(elem_id="stop", scale=1, min_width=90, interactive=False), value="stop")

    @property
    def inputs(self) -> set[Component]:
        """What the form's handlers read; the uploaded picture is added only where its bytes matter."""
        return {*self.fields.values(), self.picture_size, self.language}

    @property
    def refreshed(self) -> set[Component]:
        """What `refresh` changes."""
        notes = {self.model_note, self.camera_note, self.meters, self.receives, self.preset, self.drawer_head}
        return {*notes, self.plan, self.fix, self.store, self.fields["speed"], self.fields["default_speed"]}

    @property
    def shown(self) -> set[Component]:
        """What `show` changes."""
        zones = {self.first_image, self.restore}
        extra = {self.motion_ticks, self.picture_title, self.restore_title, self.model_style, self.search}
        return {*self.fields.values(), *extra, *zones, *self.refreshed, self.record}

    def values(self, data: Mapping[Component, Any]) -> form.Values:
        """The form values of a handler's input."""
        return {name: data[component] for name, component in self.fields.items()}

    def picture(self, data: Mapping[Component, Any]) -> bytes | None:
        """The uploaded picture, as its file was sent. Raises InputError where it is gone."""
        return self.uploaded(data[self.first_image])

    def uploaded(self, path: str | None) -> bytes | None:
        """The bytes of the file in a drop zone, None for an empty one. Raises InputError where the file is gone."""
        return self.uploads.read(path) if path else None

    def model(self, values: form.Values) -> ModelConfig:
        """The chosen model."""
        return self.backend.models.get(values["model"]) or self.backend.first_model()

    def show(self, values: form.Values, has_image: bool, language: str, *, words: bool = False) -> Updates:
        """Put values into the form, each with the choices and the state it then has; typed words only on request. A
        speed that is only the default is the one of the form as it then is."""
        model, grey = self.model(values), self._grey(has_image)
        values = speeds.with_default(values, model, has_image, self.backend)
        choices: dict[str, form.Choices] = {
            "model": self._models(model, grey, language),
            "camera_move": [(say_move(key, language), key) for key in ("", *self.backend.camera_moves)],
            "num_frames": form.length_choices(model, values["num_frames"], language, values["speed"]),
            "size": form.size_choices(model, values["size"], language),
            "guidance_schedule": form.guidance_choices(language),
            "magic_words": form.magic_choices(language),
            "camera_speed": form.camera_speed_choices(language),
        }
        updates: Updates = {
            self.fields[name]: gr.update(value=value) | ({"choices": choices[name]} if name in choices else {})
            for name, value in values.items()
            if words or name not in ("prompt", "seed")
        }
        lines = say("prompt.placeholder" if model.sources else "prompt.placeholder.small", language)
        updates[self.fields["prompt"]] = updates.get(self.fields["prompt"], gr.update()) | gr.update(placeholder=lines)
        motion = form.motion_state(model, has_image, values["motion_score"], language)
        updates[self.fields["motion_score"]] |= gr.update(
            interactive=motion.enabled, info=motion.info, maximum=motion.limit
        )
        hint = say("image.unused", language, model=model.title[language]) if not model.takes_image else ""
        hint = say("image.optional", language) if model.takes_image and model.takes_text_alone else hint
        failed = say("upload.failed", language, mb=self.backend.config.upload_limit_mb)
        updates[self.fields["camera_speed"]] |= gr.update(visible=visible_if(bool(model.sources)))
        updates[self.fields["magic_words"]] |= gr.update(visible=visible_if(bool(model.magic_words)))
        updates[self.fields["speed"]] |= gr.update(
            info=say("speed.info", language), visible=visible_if(not model.turbo)
        )
        updates |= {
            zone: gr.update(words={"drop": say(key, language), "failed": failed})
            for zone, key in ((self.first_image, "image.drop"), (self.restore, "restore.drop"))
        }
        updates[self.first_image] |= gr.update(visible=model.takes_image and not has_image or "hidden")
        updates |= {
            self.motion_ticks: form_panels.motion_ticks(motion.limit, motion.enabled, language),
            self.picture_title: form_panels.zone_title(say("image", language), hint),
            self.restore_title: form_panels.zone_title(say("restore", language), ""),
            self.search: drawer_search(language),
            self.model_style: form_panels.model_style(name for name, reason in grey.items() if reason),
        }
        return merge(updates, self.refresh(values, has_image, language))

    def _grey(self, has_image: bool) -> dict[str, str]:
        """Model name -> the key of why it cannot be used just now, "" where it can."""
        models, installed = self.backend.models, self.backend.installed()
        unfit = {name: "model.text_alone" for name, model in models.items() if has_image and not model.takes_image}
        unfit |= dict.fromkeys(self.backend.defects(), "model.broken")
        return {name: unfit.get(name, "") if installed[name] else "model.missing" for name in models}

    def models_again(self, data: Mapping[Component, Any]) -> Updates:
        """The choice of models, after one was fetched."""
        chosen, language = self.model({"model": data[self.fields["model"]]}), data[self.language]
        grey = self._grey(bool(data[self.picture_size]))
        return {self.fields["model"]: gr.update(choices=self._models(chosen, grey, language))}

    def _models(self, chosen: ModelConfig, grey: Mapping[str, str], language: str) -> form.Choices:
        """The models that are here; a file may have brought settings of another one."""
        installed = self.backend.installed()
        shown = [model for model in self.backend.menu() if installed[model.name] or model is chosen]
        return [(form_panels.model_words(model, grey[model.name], language), model.name) for model in shown]

    def refresh(self, values: form.Values, has_image: bool, language: str) -> Updates:
        """What follows from the form: a speed that is only the default, the preset's name, texts for the model, plan,
        and the copy the browser keeps."""
        model, presets, before = self.model(values), self.backend.presets, values
        values = speeds.with_default(values, model, has_image, self.backend)
        move = self.backend.camera_moves.get(values["camera_move"])
        said = form_values(values, self.backend.models, language)
        changes = [(name, said[name]) for name in form_changes.changed(values, model, presets, has_image)]
        updates: Updates = {
            self.store: values,
            self.model_note: form_panels.model_note(model, language),
            self.camera_note: form_panels.camera_note(
                move, str(values["camera_speed"]) if model.sources else "", self._advice(values, has_image), language
            ),
            self.drawer_head: drawer_head(changes, language),
            self.preset: self._presets({}, values, language),
            self.fields["speed"]: self._speeds({}, values, has_image, language),
            self.fix: gr.update(visible=False),
        }
        if values["speed"] != before["speed"]:  # else no late answer undoes what was chosen meanwhile
            changed: Updates = {self.fields[name]: gr.update(value=values[name]) for name in ("speed", "default_speed")}
            updates = merge(updates, changed)
        try:
            asked = form.collect(values, self.backend.models, has_image)
            settings = self._drawn(asked).resolve(model)
            problems = settings.problems(model, self.backend.camera_moves)
            if unknown := [problem for problem in problems if problem.code == "camera_unknown"]:
                raise unknown[0]  # no text can be made with it
            report = self.backend.count_tokens(settings, language)
            updates |= {
                self.meters: form_panels.meters(report, language)
                + form_panels.other_meters(self._counts_of_absent(asked, language), language)
                + (prefix_offer(language) if is_long(asked.prompt) else ""),
                self.receives: form_panels.receives(report, language, self._told_of_drawing(asked, language)),
            }
            return merge(updates, self._plan(settings, values, language))
        except StudioError as error:
            return updates | {self.plan: form_panels.plan_problem([markup.sentence(error, language)])}

    def _counts_of_absent(self, asked: GenerationSettings, language: str) -> dict[str, Sequence[EncoderCount]]:
        """Title -> what each encoder reads of the form's prompt, for the other models that are not here."""
        counts: dict[str, Sequence[EncoderCount]] = {}
        installed = self.backend.installed()
        for model in self.backend.menu():
            if not installed[model.name] and model.name != asked.model:
                image = form.PICTURE if model.takes_image else None
                other = replace(asked, model=model.name, first_image=image, motion_score=None)
                report = self.backend.count_tokens(self._drawn(other).resolve(model), language)
                counts[model.title[language]] = report.tokens
        return counts

    def _advice(self, values: form.Values, has_image: bool) -> tuple[str, float | None]:
        """What of the prompt goes against the camera move, and the motion score that suits it better."""
        move, moves = str(values["camera_move"] or ""), self.backend.camera_moves
        scored = self.model(values).variant(has_image).motion_score
        score = better_score(move, values["motion_score"], moves) if scored else None
        return other_move(str(values["prompt"] or ""), move, moves), score

    def _drawn(self, asked: GenerationSettings) -> GenerationSettings:
        """With its words drawn: by its seed, or while there is none by seed 0, so that the text does not flicker."""
        if not has_wildcards(asked.prompt):
            return asked
        seed = 0 if asked.seed is None else asked.seed
        return with_words_drawn(replace(asked, seed=seed), self.backend.word_lists())

    def _told_of_drawing(self, asked: GenerationSettings, language: str) -> str:
        if not has_wildcards(asked.prompt):
            return ""
        return say("receives.drawn" if asked.seed is None else "receives.drawn_by_seed", language)

    def _plan(self, settings: ResolvedSettings, values: form.Values, language: str) -> Updates:
        model = self.model(values)
        if not self.backend.installed()[model.name]:
            return {self.plan: form_panels.plan_missing(model, language)}
        if reason := self.backend.defects().get(model.name):
            return {self.plan: form_panels.plan_problem([message("checkpoint", {"reason": reason}, language)])}
        problems = settings.problems(model, self.backend.camera_moves)
        wrong = [problem for problem in problems if problem.code != "prompt_empty"]
        told: Updates = {self.plan: form_panels.plan_problem([markup.sentence(problem, language) for problem in wrong])}
        if {problem.code for problem in wrong} - {"image_needed"}:
            return told
        plan = self.backend.plan(settings)
        costs = speeds.costs(settings, plan, model, self.backend)
        updates: Updates = {
            self.plan: form_panels.plan_line(plan, language),
            self.preset: self._presets(costs, values, language),
            self.fields["speed"]: self._speeds(costs, values, settings.first_image is not None, language),
        }
        if wrong:  # a picture is yet to come: what the presets cost is known
            return updates | told
        if not plan["fits"] and (frames := self.fitting_frames(settings, model)):
            words = say("plan.shorten", language, seconds=markup.seconds_words(frames))
            updates[self.fix] = gr.update(visible=True, value=words)
        return updates

    def _speeds(
        self, costs: Mapping[str, float | None], values: form.Values, has_image: bool, language: str
    ) -> dict[str, Any]:
        calibrated = speeds.is_calibrated(values, self.model(values), has_image, self.backend)
        return gr.update(choices=speeds.choices(values, costs, calibrated, language))

    def _presets(self, costs: Mapping[str, float | None], values: form.Values, language: str) -> dict[str, Any]:
        presets = self.backend.presets
        choices = form.preset_choices(presets, self.model(values).name, costs, language)
        return gr.update(value=form.preset_of(values, presets), choices=choices)

    def fitting_frames(self, settings: ResolvedSettings, model: ModelConfig) -> int | None:
        """The longest shorter video that fits, None where none does."""
        lengths = [frames for _, frames in form.length_choices(model, None, "en") if frames < settings.num_frames]
        return next((n for n in reversed(lengths) if self.backend.plan(replace(settings, num_frames=n))["fits"]), None)

    def asked(self, data: Mapping[Component, Any], has_image: bool) -> GenerationSettings:
        """The settings a click asks for. Raises InputError for what can be none."""
        return form.collect(self.values(data), self.backend.models, has_image)

    def complain(self, errors: Sequence[StudioError], language: str) -> Updates:
        """Sentences above the button; no error clears them."""
        return {self.message: markup.alert([markup.sentence(error, language) for error in errors])}
