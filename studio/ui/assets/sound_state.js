// The Sound tab's track: what is edited, what can be undone, and what the program answers. `element`, `trigger`
// and `upload` are the editor's; sound_blocks.js draws the timeline, sound_fields.js the fields, sound_tools.js the buttons around them.
const STEP = 0.05, SHORTEST = 0.1, LONGEST = 600, KEPT = 100, LINE_LIMIT = 2000;
const EMPTY = { version: 1, lines: [], layers: [], duck_db: 9, length: "picture", subtitles: true, seed: 0 };
const it = { id: "", seconds: 1, track: structuredClone(EMPTY), past: [], future: [], chosen: null, uploads: {}, lengths: {}, sent: "", told: null };

const find = (selector) => element.querySelector(selector);
const say = (key) => it.told.says[key] ?? key;
const make = (tag, properties = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(properties.data ?? {})) made.dataset[name] = value;
  made.append(...inside);
  return made;
};
const title = (family, name) => (it.told.choices[family].find(([known]) => known === name) ?? [name, name])[1];
const round = (seconds) => Math.round(seconds / STEP) * STEP;
const tidy = (number) => Number(number.toFixed(3));
const between = (low, value, high) => Math.min(high, Math.max(low, value));

// How long a line takes to say: the robot's as it was measured (sound_lengths.js), else about.
const letters = (text) => [...text].length;
const lengthKey = ({ text, voice, language }) => JSON.stringify([text, voice, language]);
const lineSeconds = (line) => it.lengths[lengthKey(line)] ?? about(line.text);
const about = (words) => 0.4 + [...words].reduce((sum, char) => sum + (char > "\u2e80" ? 0.24 : 0.065), 0);
const endOf = (kind, item) => (kind === "lines" ? item.start + lineSeconds(item) : item.end);
const items = () => ["lines", "layers"].flatMap((kind) => it.track[kind].map((item, index) => ({ kind, index, item })));
const span = () => Math.min(LONGEST, Math.max(it.seconds, ...items().map(({ kind, item }) => endOf(kind, item))));
const chosenItem = () => (it.chosen ? it.track[it.chosen.kind][it.chosen.index] : undefined);

const remember = (before = JSON.stringify(it.track)) => {
  it.past.push(before);
  if (it.past.length > KEPT) it.past.shift();
  it.future = [];
};
const edit = (change) => {
  remember();
  change(it.track);
  draw();
};
const step = (from, to) => {
  if (!from.length) return;
  to.push(JSON.stringify(it.track));
  it.track = JSON.parse(from.pop());
  if (!chosenItem()) it.chosen = null;
  draw();
};
const undo = () => step(it.past, it.future);
const redo = () => step(it.future, it.past);
const add = (kind, item) => edit((track) => {
  track[kind].push(item);
  it.chosen = { kind, index: track[kind].length - 1 };
});
const remove = () => it.chosen && edit((track) => {
  track[it.chosen.kind].splice(it.chosen.index, 1);
  it.chosen = null;
});

const draw = () => {
  drawBlocks();
  drawFields();
  drawTools();
};

// A clip comes: another one brings its own sound; the one that was just made leaves what was edited meanwhile.
const mount = () => {
  const root = find(".sound[data-told]");
  if (!root) { it.id = ""; return; }
  if (root.childElementCount) return;
  const told = JSON.parse(root.dataset.told);
  const made = told.follows && told.follows === it.id, unchanged = JSON.stringify(it.track) === it.sent;
  if (told.id !== it.id && !(made && !unchanged)) it.track = { ...structuredClone(EMPTY), ...told.track };
  if (told.id !== it.id && !made) Object.assign(it, { past: [], future: [], uploads: {} });
  if (told.id !== it.id) it.chosen = chosenItem() ? it.chosen : null;
  Object.assign(it, { id: told.id, told, seconds: told.seconds });
  build(root);
  draw();
};

const heard = (told) => {
  const node = told.querySelector("[data-answer]");
  if (!node || !it.id) return;
  const { number, layers = [], file, written, draft: url, lengths } = JSON.parse(node.dataset.answer);
  if (number === told.answered) return;
  told.answered = number;
  if (lengths) learn(lengths);
  if (written !== undefined) takeWritten(written);
  if (url !== undefined) startDraft(url);
  if (layers.length) edit((track) => track.layers.push(...layers));
  if (file) {
    it.uploads[file.name] = file.path;
    const start = place();
    add("layers", newLayer(file.name, start, Math.min(LONGEST, start + Math.max(file.seconds, SHORTEST))));
  }
};
const ANSWERS = 4; // components for answers, which come after this one
const watchAnswers = setInterval(() => {
  const inner = ".sound-answer .sound-answer"; // gradio gives a class to the block and to what lies in it
  const answers = [...document.querySelectorAll(".sound-answer")].filter((one) => !one.matches(inner));
  if (answers.length < ANSWERS) return;
  clearInterval(watchAnswers);
  for (const one of answers)
    new MutationObserver(() => heard(one)).observe(one, { childList: true, subtree: true, attributes: true });
}, 100);
