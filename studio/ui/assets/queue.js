// The line of jobs: clicks become acts; rows are dragged by mouse, pen and finger, or moved by the arrow keys.
const rows = () => [...element.querySelectorAll(".entry:not(.running)")];
const say = (act, row, more = {}) => trigger("select", { act, id: row?.dataset.id ?? "", ...more });

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || moved) return;
  const { act, count, sure, id } = button.dataset;
  if (sure && !button.classList.contains("sure")) { // a second click within some seconds does it
    const words = button.textContent;
    button.classList.add("sure");
    button.textContent = sure;
    setTimeout(() => { button.classList.remove("sure"); button.textContent = words; }, 4000);
    return;
  }
  const row = button.closest(".entry");
  if (act === "edit") trigger("edit", { id: row.dataset.id });
  else say(act, row, { ...(count ? { count } : {}), ...(id ? { id } : {}) });
  if (act === "remove") row.classList.add("leaving");
  if (act === "undo") button.closest(".undo").remove();
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
  const where = before ? "before" : "after";
  if (row.parentElement) row.parentElement.insertBefore(row, before ?? other.nextSibling); // the answer confirms it
  say("move", row, { where, other: other.dataset.id });
};

let drag = null, moved = false;
element.addEventListener("pointerdown", (event) => {
  moved = false;
  const row = event.target.closest(".entry:not(.running)");
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
  if (!drag) return;
  const { id, on } = drag;
  drag = null;
  for (const row of rows()) row.classList.remove("dragged", "gap");
  element.querySelector("ol")?.classList.remove("gap-last");
  if (on && event.type === "pointerup") put(id, rowAt(event.clientY, id));
  setTimeout(() => { moved = false; });
};
addEventListener("pointerup", drop);
addEventListener("pointercancel", drop);

// Keys on a grip; the focus follows the row, also through a new list from the program.
let held = "";
element.addEventListener("keydown", (event) => {
  const row = event.target.closest(".entry");
  if (!row || !["ArrowUp", "ArrowDown"].includes(event.key) || !event.target.matches(".grip")) return;
  event.preventDefault();
  const all = rows(), at = all.indexOf(row);
  if (event.key === "ArrowUp" ? at < 1 : at > all.length - 2) return;
  held = row.dataset.id;
  put(held, event.key === "ArrowUp" ? all[at - 1] : all[at + 2] ?? null);
  row.querySelector(".grip").focus();
});
element.addEventListener("focusout", (event) => { if (event.relatedTarget) held = ""; });
new MutationObserver(() => {
  const row = held && rows().find((one) => one.dataset.id === held);
  if (row && document.activeElement === document.body) row.querySelector(".grip").focus();
}).observe(element, { childList: true, subtree: true });
