// The drawer of the form: opens and closes (the browser remembers which), finds settings by name, resets what changed.
const KEY = "studio-drawer";
const isOpen = () => localStorage.getItem(KEY) === "open";
const show = () => {
  document.body.classList.toggle("drawer-open", isOpen());
  element.querySelector("#drawer-toggle")?.setAttribute("aria-expanded", isOpen());
};
const find = (words) => {
  const field = document.querySelector("#setting-search");
  if (!field) return;
  const rows = Object.entries(JSON.parse(field.dataset.words)), asked = words.trim().toLowerCase();
  let shown = 0;
  for (const [id, known] of rows) {
    const fits = asked.split(/\s+/).every((word) => known.includes(word));
    document.getElementById(id)?.classList.toggle("unfound", !fits);
    shown += fits;
  }
  field.parentElement.querySelector(".nothing").hidden = shown > 0;
};

element.addEventListener("click", (event) => {
  if (event.target.closest("#drawer-toggle")) {
    localStorage.setItem(KEY, isOpen() ? "" : "open");
    show();
  }
  const reset = event.target.closest("[data-reset]");
  if (reset) trigger("select", { id: reset.dataset.reset });
});
document.addEventListener("click", (event) => { // the check that is offered shows its lines in the drawer
  if (!event.target.closest('#check-offer [data-id="start"]')) return;
  localStorage.setItem(KEY, "open");
  show();
  document.querySelector("#row-check")?.scrollIntoView();
});
document.addEventListener("input", (event) => { if (event.target.id === "setting-search") find(event.target.value); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.target.id !== "setting-search" || !event.target.value) return;
  event.preventDefault(); // this layer alone
  event.target.value = "";
  find("");
}, true);
watch(["value"], show); // an answer drew it anew
show();
