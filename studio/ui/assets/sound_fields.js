// The fields of the Sound tab: those of the chosen line or sound, and those of the whole track.
const LINE = [
  ["text", "area"], ["voice", "choice", "voices"], ["language", "choice", "languages"], ["style", "words"],
  ["start", "number"], ["gain_db", "range", -30, 12, 1], ["pan", "range", -1, 1, 0.1],
];
const LAYER = [
  ["sound", "choice", "sounds"], ["room", "choice", "rooms"], ["start", "number"], ["end", "number"],
  ["gain_db", "range", -40, 12, 1], ["pan", "range", -1, 1, 0.1], ["fade_in", "number"], ["fade_out", "number"], ["loop", "check"],
];
const WHOLE = [["duck_db", "number"], ["length", "choice", "lengths"], ["seed", "number"], ["subtitles", "check"]];
const isFile = (item) => item.sound !== undefined && !it.told.choices.sounds.some(([name]) => name === item.sound);
const fits = (item, name) =>
  !(name === "style" && item.voice.startsWith("robot")) && !(name === "loop" && !isFile(item));

const optionsOf = (family, value) => {
  const known = family === "lengths" ? [["picture", say("picture")], ["sound", say("as_sound")]] : it.told.choices[family];
  return known.some(([name]) => name === value) ? known : [...known, [value, value]]; // a file, a voice that is gone
};
const control = (kind, value, rest) => {
  if (kind === "area") return make("textarea", { rows: 3, value, placeholder: say("say_hint") });
  if (kind === "choice")
    return make("select", {}, ...optionsOf(rest[0], value).map(([name, words]) =>
      make("option", { value: name, textContent: words, selected: name === value })));
  if (kind === "check") return make("input", { type: "checkbox", checked: value });
  if (kind === "words") return make("input", { type: "text", value });
  if (kind === "number") return make("input", { type: "number", step: "any", min: 0, value });
  const [min, max, step] = rest;
  return make("input", { type: "range", min: Math.min(min, value), max, step, value });
};
const valueOf = (input) => {
  if (input.type === "checkbox") return input.checked;
  if (input.type === "number" || input.type === "range") return input.value.trim() === "" ? undefined : Number(input.value);
  return input.value;
};

// A field changes its item while it is moved or typed in; one step back undoes the whole of it.
const field = (item, [name, kind, ...rest]) => {
  const input = control(kind, item[name], rest), shown = make("output", { textContent: kind === "range" ? item[name] : "" });
  let before = null;
  const over = make("small", { className: "failed" });
  const count = () => {
    const length = name === "text" ? letters(input.value) : 0;
    over.textContent = length > LINE_LIMIT ? say("too_long").replace("{length}", length).replace("{limit}", LINE_LIMIT) : "";
  };
  count();
  input.name = name;
  input.addEventListener("input", () => {
    before ??= JSON.stringify(it.track);
    const value = valueOf(input);
    if (value === undefined || Number.isNaN(value)) return;
    item[name] = value;
    shown.textContent = kind === "range" ? value : "";
    count();
    drawBlocks();
  });
  input.addEventListener("change", () => {
    if (before !== null && before !== JSON.stringify(it.track)) remember(before);
    before = null;
    draw();
  });
  const hint = name === "voice" && it.told.choices.voices.every(([voice]) => voice.startsWith("robot")) ? [make("small", { textContent: say("voices_hint") })] : [];
  return make("label", { className: `field-${name} ${kind}` }, make("span", { textContent: say(name) }, shown), input, over, ...hint);
};

const drawFields = () => {
  const place = find(".fields"), item = chosenItem();
  if (!place) return;
  const typed = place.contains(document.activeElement) ? document.activeElement.name : "";
  const typing = typed && document.activeElement.type;
  if (typing === "textarea" && place.dataset.of === JSON.stringify(it.chosen)) return; // the caret stays where it is
  place.dataset.of = JSON.stringify(it.chosen);
  if (!item) { place.replaceChildren(...(items().length ? [make("p", { className: "nothing", textContent: say("choose") })] : [])); return; }
  const wanted = (it.chosen.kind === "lines" ? LINE : LAYER).filter(([name]) => fits(item, name));
  const gone = make("button", { type: "button", className: "tool-remove", textContent: say("remove"), onclick: remove });
  place.replaceChildren(...wanted.map((one) => field(item, one)), gone);
  if (typed) place.querySelector(`[name="${typed}"]`)?.focus();
};
const drawWhole = (place) => place.replaceChildren(...WHOLE.map((one) => field(it.track, one)));
