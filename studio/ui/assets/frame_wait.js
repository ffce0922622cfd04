// The bar of a frame that is decoded: asks what became of it while it is there and seen; its buttons say what else.
const ASK_MS = 600;
const bar = () => element.querySelector(".waits");
const say = (act) => {
  const { wish, id, frame, shown } = bar().dataset;
  trigger("select", { act, wish, id, frame, shown });
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  said = bar().dataset.wish; // from now on there is nothing to ask about: an answer to it would undo the click
  say(button.dataset.act);
});
let timer = 0, said = "";
const round = () => {
  clearTimeout(timer);
  if (!bar()) return;
  if (!document.hidden && bar().dataset.wish !== said) say("look");
  timer = setTimeout(round, ASK_MS);
};
new MutationObserver(() => { if (bar()) { clearTimeout(timer); timer = setTimeout(round, ASK_MS); } })
  .observe(element, { childList: true, subtree: true, attributes: true });
