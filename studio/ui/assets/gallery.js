// The gallery's tiles: a click opens one; its box, Ctrl or Shift chooses several; the bar acts on all that are chosen.
const chosen = new Set();
let last = "";
const tiles = () => [...element.querySelectorAll(".tile")];
const ids = () => tiles().filter((tile) => tile.querySelector(".check")).map((tile) => tile.dataset.tile);

const show = () => {
  const here = ids();
  for (const id of chosen) if (!here.includes(id)) chosen.delete(id); // removed, or on another page
  for (const tile of tiles()) {
    const on = chosen.has(tile.dataset.tile);
    tile.classList.toggle("chosen", on);
    tile.querySelector(".check")?.setAttribute("aria-pressed", on);
  }
  const bar = element.querySelector(".picked"), count = bar?.querySelector("output");
  if (!bar) return;
  bar.hidden = !chosen.size;
  if (count.textContent !== String(chosen.size)) count.textContent = chosen.size;
};

const choose = (id, through) => {
  const all = ids(), from = all.indexOf(last), to = all.indexOf(id);
  if (to < 0) return;
  if (through && from >= 0) for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) chosen.add(one);
  else if (!chosen.delete(id)) chosen.add(id);
  last = id;
  show();
};

element.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile"), act = event.target.closest("[data-act]")?.dataset.act;
  if (act === "clear") {
    chosen.clear();
    show();
  } else if (act) {
    const given = tile ? tile.dataset.tile : [...chosen].join(" ");
    trigger("edit", { act, ids: given, tags: element.querySelector(".picked input").value });
  } else if (tile && (event.target.closest(".check") || event.ctrlKey || event.metaKey || event.shiftKey)) {
    choose(tile.dataset.tile, event.shiftKey);
  } else if (event.target.closest(".card")) {
    trigger("select", { id: tile.dataset.tile });
  }
});
element.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !chosen.size) return;
  event.stopPropagation(); // Escape closes the topmost layer alone
  chosen.clear();
  show();
});
new MutationObserver(show).observe(element, { childList: true, subtree: true });
