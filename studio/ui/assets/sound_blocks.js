// The timeline of the Sound tab: a strip of frames with the wave on it, a block for every line and sound, the playhead.
const video = () => find(".sound video");
const percent = (seconds) => `${(100 * seconds) / span()}%`;
const NUDGE = 0.1; // seconds of an arrow key

const build = (root) => {
  const { urls, says } = it.told;
  const film = make("div", { className: "film", tabIndex: 0 }, make("i", { className: "frames" }), make("i", { className: "wave" }));
  film.setAttribute("role", "slider");
  film.setAttribute("aria-label", says.seek);
  film.setAttribute("aria-valuemin", 0);
  film.firstChild.style.backgroundImage = `url("${urls.strip}")`;
  film.lastChild.style.setProperty("--wave", `url("${urls.wave}")`);
  film.lastChild.hidden = !it.told.track;
  const timeline = make("div", { className: "timeline" }, film, make("div", { className: "lanes" }), make("i", { className: "playhead" }),
    make("p", { className: "timeline-note" }));
  endDraft(); // of the player before this one
  timeline.lastChild.setAttribute("role", "status");
  timeline.setAttribute("role", "group");
  timeline.setAttribute("aria-label", says.timeline.replace("{prompt}", says.prompt.slice(0, 80)));
  const player = make("video", { src: urls.result, controls: true, playsInline: true, preload: "metadata", poster: urls.poster });
  player.setAttribute("aria-label", says.prompt.slice(0, 120));
  if (urls.words) player.append(make("track", { kind: "captions", src: urls.words, label: says.words, default: true }));
  root.append(
    make("div", { className: "screen-and-fields" }, player, make("div", { className: "fields" })),
    make("div", { className: "tools" }), timeline, make("div", { className: "below" }),
  );
  player.addEventListener("loadedmetadata", () => { // the file knows best, also of a video that was finished early
    if (player.duration && player.duration !== Infinity && it.seconds !== player.duration) { it.seconds = player.duration; drawBlocks(); }
  });
  for (const kind of ["timeupdate", "seeked", "pause"]) player.addEventListener(kind, drawHead);
  const follow = () => { drawHead(); if (!player.paused && player.isConnected) requestAnimationFrame(follow); };
  player.addEventListener("play", follow);
  inStep(player);
  wireFilm(film);
  wireBlocks(find(".lanes"));
  buildTools();
};

const drawHead = () => {
  const at = video()?.currentTime ?? 0, head = find(".playhead");
  if (!head) return;
  head.style.left = percent(at);
  find(".film").setAttribute("aria-valuenow", tidy(at));
  find(".film").setAttribute("aria-valuemax", tidy(it.seconds));
};

const seek = (seconds) => { video().currentTime = between(0, seconds, Math.max(it.seconds - 0.02, 0)); drawHead(); };
const wireFilm = (film) => {
  const to = (event) => {
    const box = film.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * span());
  };
  film.addEventListener("pointerdown", (event) => { film.setPointerCapture(event.pointerId); to(event); });
  film.addEventListener("pointermove", (event) => film.hasPointerCapture(event.pointerId) && to(event));
  film.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -NUDGE, ArrowRight: NUDGE }[event.key];
    if (way) { event.preventDefault(); seek(video().currentTime + way); }
  });
};

// Rows that hold what does not overlap: lines first, sounds under them.
const rows = () => {
  const found = [];
  const all = items().map((one) => ({ ...one, start: one.item.start, end: endOf(one.kind, one.item) }));
  for (const kind of ["lines", "layers"]) {
    const own = [];
    for (const one of all.filter((other) => other.kind === kind).sort((a, b) => a.start - b.start)) {
      const row = own.find((other) => other.at(-1).end <= one.start + 0.001);
      if (row) row.push(one); else own.push([one]);
    }
    found.push(...own);
  }
  return found;
};
const isChosen = (kind, index) => it.chosen?.kind === kind && it.chosen?.index === index;
const drawBlocks = () => {
  const lanes = find(".lanes"), focused = document.activeElement?.closest?.(".piece")?.dataset;
  if (!lanes) return;
  lanes.replaceChildren(...rows().map((row) => make("div", { className: "lane" }, ...row.map(block))));
  if (!lanes.childElementCount) lanes.append(make("p", { className: "nothing", textContent: say("empty") }));
  if (focused) lanes.querySelector(`[data-kind="${focused.kind}"][data-index="${focused.index}"]`)?.focus();
  find(".film .frames").style.width = find(".film .wave").style.width = percent(it.seconds);
  drawHead();
  measure();
  checkDraft();
};
const nameOf = (kind, item) => (kind === "lines" ? item.text || say("line") : title("sounds", item.sound));
const block = ({ kind, index, item, start, end }) => {
  const made = make("div", { className: `piece ${kind}`, tabIndex: 0, data: { kind, index } },
    make("i", { className: "edge from" }), make("span", { textContent: nameOf(kind, item) }), make("i", { className: "edge to" }));
  if (kind === "lines") made.lastChild.title = say("fixed_end");
  made.setAttribute("role", "button");
  made.setAttribute("aria-pressed", isChosen(kind, index));
  made.setAttribute("aria-label", `${nameOf(kind, item)}, ${tidy(start)} – ${tidy(end)} s`);
  Object.assign(made.style, { left: percent(start), width: percent(end - start) });
  return made;
};

const choose = (kind, index) => {
  if (isChosen(kind, index)) return;
  it.chosen = { kind, index: Number(index) };
  for (const one of element.querySelectorAll(".piece"))
    one.setAttribute("aria-pressed", isChosen(one.dataset.kind, Number(one.dataset.index)));
  drawFields();
};
const shift = (kind, item, edge, seconds, from) => { // from: the times before
  const length = from.end - from.start;
  if (edge === "") item.start = tidy(round(between(0, from.start + seconds, LONGEST - length)));
  if (edge === "from") item.start = tidy(round(between(0, from.start + seconds, from.end - SHORTEST)));
  if (kind === "layers" && edge === "") item.end = tidy(item.start + length);
  if (edge === "to") item.end = tidy(round(between(from.start + SHORTEST, from.end + seconds, LONGEST)));
};

const wireBlocks = (lanes) => {
  let drag = null;
  lanes.addEventListener("pointerdown", (event) => {
    const one = event.target.closest(".piece");
    if (!one || event.button) return;
    const { kind, index } = one.dataset, item = it.track[kind][index];
    const edge = kind === "layers" ? ["from", "to"].find((name) => event.target.classList.contains(name)) ?? "" : "";
    const fixed = kind === "lines" && event.target.classList.contains("to");
    if (!draft.audio) note(fixed ? say("fixed_end") : "");
    if (fixed) { one.focus({ preventScroll: true }); choose(kind, Number(index)); event.preventDefault(); return; }
    one.setPointerCapture(event.pointerId);
    one.focus({ preventScroll: true });
    choose(kind, Number(index));
    const from = { start: item.start, end: endOf(kind, item) };
    drag = { one, kind, item, edge, from, x: event.clientX, scale: span() / lanes.clientWidth, before: JSON.stringify(it.track), all: span() };
    it.dragging = true;
    event.preventDefault();
  });
  lanes.addEventListener("pointermove", (event) => {
    if (!drag) return;
    shift(drag.kind, drag.item, drag.edge, (event.clientX - drag.x) * drag.scale, drag.from);
    const end = endOf(drag.kind, drag.item);
    Object.assign(drag.one.style, {
      left: `${(100 * drag.item.start) / drag.all}%`, width: `${(100 * (end - drag.item.start)) / drag.all}%`,
    });
    drawFields();
  });
  const drop = () => {
    it.dragging = false;
    if (drag && JSON.stringify(it.track) !== drag.before) remember(drag.before);
    if (drag) draw();
    drag = null;
  };
  lanes.addEventListener("pointerup", drop);
  lanes.addEventListener("pointercancel", drop);
  lanes.addEventListener("focusin", (event) => {
    const one = event.target.closest(".piece");
    if (one) choose(one.dataset.kind, Number(one.dataset.index));
  });
  lanes.addEventListener("keydown", (event) => {
    const one = event.target.closest(".piece"), way = { ArrowLeft: -NUDGE, ArrowRight: NUDGE }[event.key];
    if (!one) return;
    const { kind, index } = one.dataset;
    if (event.key === "Delete" || event.key === "Backspace") { event.preventDefault(); remove(); }
    if (!way) return;
    event.preventDefault();
    if (event.shiftKey && kind === "lines") { note(say("fixed_end")); return; }
    edit((track) => {
      const item = track[kind][index];
      shift(kind, item, event.shiftKey ? "to" : "", way, { start: item.start, end: endOf(kind, item) });
    });
  });
};
