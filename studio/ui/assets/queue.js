// The line of jobs: drawn from the program's answers, row by row; clicks become acts; rows are dragged by mouse, pen and
// finger, or moved by the arrow keys.
const LOST_MS = 3000; // a move whose answer was lost holds the line no longer than this
const rows = () => [...element.querySelectorAll("ol .entry:not(.running)")];
const rowOf = (id) => [...element.querySelectorAll(".entry")].find((one) => one.dataset.id === id);
const say = (act, row, more = {}) => trigger("select", { act, id: row?.dataset.id ?? "", ...more });

// Answers may come in another order than they were asked for. Each has the revision of the queue that it was read at: an
// older one than the newest is not drawn. Moves are sent one after the other; while one is on its way, what is drawn is
// the order that was made here, and no answer changes it.
let newest = null, moves = [], asked = null, turn = 0, pressed = false;
const send = () => {
  if (asked || !moves.length) return;
  turn += 1;
  asked = { turn: String(turn), lost: setTimeout(answered, LOST_MS) };
  trigger("select", { act: "move", turn: asked.turn, ...moves.shift() });
};
const answered = () => {
  clearTimeout(asked.lost);
  asked = null;
  send();
  draw();
};
const take = () => {
  const box = document.createElement("template");
  box.innerHTML = props.value ?? "";
  const answer = box.content.firstElementChild;
  if (!answer) return;
  const { of, revision } = answer.dataset;
  const late = newest?.dataset.of === of && Number(revision) < Number(newest.dataset.revision);
  if (!late) newest = answer;
  if (asked && answer.dataset.turn === asked.turn) answered();
  else if (!late) draw();
};
const focused = () => {
  const on = element.contains(document.activeElement) && document.activeElement, row = on && on.closest(".entry");
  if (!row) return () => {};
  const { act, count } = on.dataset;
  const kind = act ? `[data-act="${act}"]${count ? `[data-count="${count}"]` : ""}` : ".grip";
  return () => rowOf(row.dataset.id)?.querySelector(kind)?.focus({ preventScroll: true });
};
// A button that was clicked once and asks whether that was meant.
let sureOf = "";
const question = (within) => {
  const button = sureOf && within.querySelector(`[data-act="${sureOf}"][data-sure]`);
  if (!button) return;
  button.classList.add("sure");
  button.textContent = button.dataset.sure;
};
const draw = () => {
  if (!newest || pressed || asked || moves.length) return;
  const fresh = newest.cloneNode(true), again = focused(), depth = element.querySelector("ol")?.scrollTop ?? 0;
  for (const row of fresh.querySelectorAll(".entry")) {
    const old = rowOf(row.dataset.id);
    if (old?.isEqualNode(row)) row.replaceWith(old); // what did not change stays the same element
  }
  question(fresh);
  element.replaceChildren(fresh);
  if (depth) element.querySelector("ol").scrollTop = depth;
  again();
};
watch(["value"], take);
take();

// What helps a failed job elsewhere on the page.
const elsewhere = {
  models: () => {
    document.querySelector('#absent [aria-expanded="false"]')?.click();
    document.querySelector("#absent .absent-line")?.scrollIntoView({ block: "start" }); // the list opens under it
  },
  space: () => {
    document.querySelector('#tabs [role="tab"][data-tab-id="gallery"]')?.click();
    setTimeout(() => document.querySelector("#disk")?.scrollIntoView({ block: "nearest" }), 60);
  },
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || moved) return;
  const { act, count, sure, id } = button.dataset;
  if (sure && !button.classList.contains("sure")) { // a second click within some seconds does it
    sureOf = act;
    question(element);
    setTimeout(() => { sureOf = ""; draw(); }, 4000);
    return;
  }
  sureOf = "";
  const row = button.closest(".entry");
  if (elsewhere[act]) elsewhere[act]();
  else if (act === "look") document.dispatchEvent(new CustomEvent("choose", { detail: row.dataset.id }));
  else if (act === "edit") trigger("edit", { id: row.dataset.id });
  else say(act, row, { ...(count ? { count } : {}), ...(id ? { id } : {}) });
  if (act === "remove") row.classList.add("leaving");
});

// Before which row a pointer at height y would put the dragged one; null: behind the last.
const rowAt = (y, dragged) => rows().find((row) => {
  const box = row.getBoundingClientRect();
  return row.dataset.id !== dragged && y < box.top + box.height / 2;
}) ?? null;

const put = (id, before) => {
  const row = rows().find((one) => one.dataset.id === id);
  const others = rows().filter((one) => one !== row);
  const other = before ?? others.at(-1);
  if (!row || !other) return;
  row.parentElement.insertBefore(row, before ?? other.nextSibling); // the answer confirms it
  moves.push({ id, where: before ? "before" : "after", other: other.dataset.id });
  send();
};

let drag = null, moved = false;
element.addEventListener("pointerdown", (event) => {
  moved = false;
  pressed = true; // a click means the row that was seen: nothing is drawn under a button that is down
  const row = event.target.closest("ol .entry:not(.running)");
  const byGrip = event.target.closest(".grip");
  if (!row || event.button || (!byGrip && (event.pointerType !== "mouse" || event.target.closest(".acts")))) return;
  drag = { id: row.dataset.id, y: event.clientY, on: false };
});
addEventListener("pointermove", (event) => {
  if (!drag) return;
  if (!drag.on && Math.abs(event.clientY - drag.y) < 6) return;
  drag.on = moved = true;
  event.preventDefault();
  const before = rowAt(event.clientY, drag.id);
  for (const row of rows()) {
    row.classList.toggle("dragged", row.dataset.id === drag.id);
    row.classList.toggle("gap", row === before);
  }
  element.querySelector("ol")?.classList.toggle("gap-last", !before);
});
const drop = (event) => {
  if (!pressed) return;
  const { id, on } = drag ?? {};
  drag = null;
  for (const row of rows()) row.classList.remove("dragged", "gap");
  element.querySelector("ol")?.classList.remove("gap-last");
  if (on && event.type === "pointerup") put(id, rowAt(event.clientY, id));
  setTimeout(() => { moved = pressed = false; draw(); });
};
addEventListener("pointerup", drop);
addEventListener("pointercancel", drop);

// Keys on a grip; the focus goes with the row.
element.addEventListener("keydown", (event) => {
  const row = event.target.closest(".entry");
  if (!row || !["ArrowUp", "ArrowDown"].includes(event.key) || !event.target.matches(".grip")) return;
  event.preventDefault();
  const all = rows(), at = all.indexOf(row);
  if (event.key === "ArrowUp" ? at < 1 : at > all.length - 2) return;
  put(row.dataset.id, event.key === "ArrowUp" ? all[at - 1] : all[at + 2] ?? null);
  row.querySelector(".grip").focus();
});
