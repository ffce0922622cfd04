// The bar over what was just removed: its button brings it back.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  trigger("select", { act: button.dataset.act, id: button.dataset.id });
  button.closest(".undo").remove();
});
