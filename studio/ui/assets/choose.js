// Which job one looks at is chosen here, in the browser: a click is never lost and never waits for an answer. The value of
// this component is the job's id; a new one asks the program for that job.
const LATE_MS = 60; // the id in an answer may be written a moment after its stage
const choose = (id) => {
  if (!id) return;
  props.value = id;
  for (const card of document.querySelectorAll("#latest .card"))
    card.setAttribute("aria-pressed", String(card.dataset.id === id)); // seen at once
  trigger("input");
};
document.addEventListener("choose", (event) => choose(event.detail));

// A click means the card that was pressed: when a job ends, the strip is drawn anew under the pointer, one card further.
const SLIP = 8; // pixels that a pointer may move in a click
const cardAt = (place) => place?.closest?.("#latest .card")?.dataset.id ?? "";
let pressed = null;
document.addEventListener("pointerdown", (event) => {
  pressed = event.button ? null : { id: cardAt(event.target), x: event.clientX, y: event.clientY };
});
document.addEventListener("pointercancel", () => { pressed = null; });
document.addEventListener("pointerup", (event) => {
  if (pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) <= SLIP) choose(pressed.id);
  pressed = null;
});
document.addEventListener("click", (event) => { if (!event.detail) choose(cardAt(event.target)); }); // of a key

// An answer that was asked for before the last choice may come after it, with another job. The one chosen is asked for
// again; in place of a job that is gone the answer names another one.
document.addEventListener("stage-shows", (event) => setTimeout(() => {
  if (props.value && event.detail !== props.value) choose(props.value);
}, LATE_MS));
