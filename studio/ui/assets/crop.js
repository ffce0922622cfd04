// The crop box of the first image: dragged along the side on which it has room, or moved by arrows, by whole pixels of
// the picture. Where it is goes into the hidden numbers #crop-left and #crop-top, as a part of its room.
const box = () => element.querySelector('[role="slider"]');
const room = () => Number(box().getAttribute("aria-valuemax"));
const at = () => Number(box().getAttribute("aria-valuenow"));
let grip = null; // the pixel of the picture, along the side, at which the box is held

const move = (pixel) => {
  const one = box(), place = Math.max(0, Math.min(room(), Math.round(pixel)));
  one.style[one.dataset.side] = `${(100 * place) / Number(one.dataset.length)}%`;
  one.setAttribute("aria-valuenow", place);
};
const keep = () => {
  const field = document.querySelector(`#crop-${box().dataset.side} input`);
  field.value = String(at() / room());
  field.dispatchEvent(new Event("change", { bubbles: true }));
};
const under = (event) => { // the pixel of the picture under a pointer
  const frame = box().parentElement.getBoundingClientRect(), length = Number(box().dataset.length);
  return box().dataset.side === "left"
    ? ((event.clientX - frame.left) / frame.width) * length
    : ((event.clientY - frame.top) / frame.height) * length;
};

element.addEventListener("pointerdown", (event) => {
  if (!box() || event.button !== 0 || !event.target.closest(".crop > div")) return;
  event.preventDefault(); // no picture is dragged away
  box().focus({ preventScroll: true });
  const length = Number(box().dataset.length) - room(), inside = under(event) - at();
  grip = inside >= 0 && inside <= length ? inside : length / 2; // beside the box: it comes to the pointer
  element.setPointerCapture(event.pointerId);
  move(under(event) - grip);
});
element.addEventListener("pointermove", (event) => { if (grip !== null && box()) move(under(event) - grip); });
for (const end of ["pointerup", "pointercancel"])
  element.addEventListener(end, () => {
    if (grip !== null && box()) keep();
    grip = null;
  });
element.addEventListener("keydown", (event) => {
  if (event.target !== box()) return;
  const far = event.shiftKey || event.key.startsWith("Page") ? Math.max(1, Math.round(room() / 10)) : 1;
  const steps = { ArrowLeft: -far, ArrowUp: -far, PageUp: -far, ArrowRight: far, ArrowDown: far, PageDown: far };
  const ends = { Home: 0, End: room() };
  if (!(event.key in steps) && !(event.key in ends)) return;
  event.preventDefault();
  move(event.key in ends ? ends[event.key] : at() + steps[event.key]);
  keep();
});
