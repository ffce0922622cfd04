// The buttons of the Sound tab: what can be added, undo and redo, the scene in words, and making the sound.
const newLayer = (sound, start, end) => ({
  sound, start: tidy(start), end: tidy(end), gain_db: -6, fade_in: 0.05, fade_out: 0.05, pan: 0, loop: true, room: "dry",
});
const newLine = (start) => ({ text: "", start: tidy(start), voice: "robot", language: "auto", gain_db: 0, pan: 0, style: "" });
const place = () => { // where something new begins: at the playhead, or at the beginning where that is at the end
  const at = round(video()?.currentTime ?? 0);
  return at < it.seconds - 0.2 ? at : 0;
};
const button = (name, act, kind = "") => make("button", { type: "button", className: `tool-${name} ${kind}`, textContent: say(name), onclick: act });
const menu = (name, family, act) => {
  const made = make("select", { className: `tool-${name}` }, make("option", { value: "", textContent: say(name) }),
    ...it.told.choices[family].map(([value, words]) => make("option", { value, textContent: words })));
  made.setAttribute("aria-label", say(name));
  made.addEventListener("change", () => {
    const { value } = made;
    made.value = "";
    if (value) act(value);
  });
  return made;
};

const chooser = () => { // a file goes to the program, which answers with a layer
  const input = make("input", { type: "file", accept: "audio/*,video/mp4" });
  input.addEventListener("change", async () => {
    try {
      trigger("select", { do: "file", path: (await upload(input.files[0])).path });
    } catch {
      find(".tools").after(make("p", { className: "failed", textContent: say("file_failed") }));
    }
  });
  return input;
};

const buildTools = () => {
  const start = () => place();
  find(".tools").append(
    button("line_new", () => {
      add("lines", newLine(start()));
      find(".fields textarea")?.focus();
    }),
    menu("layer_new", "sounds", (sound) => add("layers", newLayer(sound, start(), Math.max(Math.min(start() + 3, it.seconds), start() + 0.5)))),
    button("file_new", () => chooser().click()),
    menu("preset_new", "presets", (name) => trigger("select", { do: "preset", name, seconds: String(it.seconds) })),
    button("undo", undo), button("redo", redo),
  );
  const words = make("textarea", { rows: 3, placeholder: say("scene_hint"), name: "scene" });
  words.setAttribute("aria-label", say("scene"));
  const scene = make("details", { className: "scene", open: Boolean(it.sceneOpen) }, make("summary", { textContent: say("scene") }), words,
    button("scene_read", () => trigger("select", { do: "scene", text: words.value })));
  words.value = it.scene ?? "";
  words.addEventListener("input", () => { it.scene = words.value; });
  scene.addEventListener("toggle", () => { it.sceneOpen = scene.open; });
  find(".below").append(...buildChat(), scene, make("div", { className: "whole" }),
    make("div", { className: "ask" }, button("draft", askDraft), button("make", ask, "primary"), button("without", () => trigger("select", { do: "without" }))));
};
const ask = () => {
  document.activeElement?.blur?.(); // what is being typed counts
  it.sent = JSON.stringify(it.track);
  trigger("select", { do: "make", track: it.sent, uploads: JSON.stringify(it.uploads) });
};
const drawTools = () => {
  const [back, forth] = [find(".tools .tool-undo"), find(".tools .tool-redo")];
  if (!back) return;
  back.disabled = !it.past.length;
  forth.disabled = !it.future.length;
  find(".ask .tool-without").hidden = !it.told.track;
  find(".ask .tool-make").disabled = !it.track.lines.length && !it.track.layers.length;
  drawDraft();
  drawChat();
  drawWhole(find(".below .whole"));
};

element.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("textarea, input[type=text]")) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) redo(); else undo();
});

new MutationObserver(mount).observe(element, { childList: true, subtree: true });
mount(); // a tab is drawn when it is chosen, with what it shows by then
