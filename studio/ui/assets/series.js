// Chains and variations: fields of the part go along with the act of a button; a card opens its job.
const field = (name) => {
  const found = element.querySelector(`[data-field="${name}"]`);
  return found?.type === "checkbox" ? String(found.checked) : found?.value ?? "";
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { act, id, move, compare } = button.dataset;
  if (move) button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  else if (compare) trigger("edit", { act: "compare", ids: compare });
  else if (id) document.dispatchEvent(new CustomEvent("choose", { detail: id }));
  else if (act) {
    const moves = [...element.querySelectorAll('[data-move][aria-pressed="true"]')].map((one) => one.dataset.move);
    const names = ["count", "prompt", "cut", "first", "last"];
    trigger("select", { act, moves: moves.join(" "), ...Object.fromEntries(names.map((name) => [name, field(name)])) });
  }
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches('[data-field="prompt"]')) {
    element.querySelector('[data-act="extend"]').click();
  }
});
