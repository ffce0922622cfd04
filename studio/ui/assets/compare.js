// The comparison: one scrubber moves all videos, they play in step with the first, one may be wiped over another.
const dialog = () => element.querySelector("dialog");
const videos = () => [...element.querySelectorAll("video")];
const fps = () => Number(dialog().dataset.fps);
const frames = (video) => Math.max(1, Math.round(video.duration * fps()) || 1);
const longest = () => videos().reduce((one, other) => (frames(other) > frames(one) ? other : one));
let at = 0, playing = false;

const show = () => {
  const bar = dialog().querySelector('[data-do="scrub"]'), count = dialog().querySelector("output");
  bar.max = frames(longest()) - 1;
  bar.value = at;
  count.textContent = `${at + 1} / ${frames(longest())}`;
  dialog().querySelector('[data-do="play"]').textContent = playing ? "⏸" : "▶";
};
const go = (frame) => {
  at = Math.max(0, Math.min(frame, frames(longest()) - 1));
  for (const video of videos()) { // the middle of the frame; a shorter video rests on its last one
    video.currentTime = (Math.min(at, frames(video) - 1) + 0.5) / fps();
  }
  show();
};
const stop = () => { playing = false; videos().forEach((video) => video.pause()); };
const play = () => {
  playing = true;
  if (at >= frames(longest()) - 1) go(0);
  videos().forEach((video) => video.play().catch(() => {})); // its file may be gone
  requestAnimationFrame(follow);
};
const follow = () => {
  if (!playing || !dialog()) return;
  const lead = longest(), frame = Math.min(Math.floor(lead.currentTime * fps()), frames(lead) - 1);
  at = Math.max(0, frame);
  for (const video of videos()) {
    if (video !== lead && Math.abs(video.currentTime - lead.currentTime) > 1.5 / fps() && !video.ended) {
      video.currentTime = Math.min(lead.currentTime, video.duration);
    }
  }
  if (lead.ended) {
    go(0);
    play();
    return;
  }
  show();
  requestAnimationFrame(follow);
};

const sides = () => {
  const chosen = (side) => dialog().querySelector(`[data-side="${side}"]`)?.value ?? (side === "left" ? "A" : "B");
  for (const figure of element.querySelectorAll("figure")) {
    figure.classList.toggle("left", figure.dataset.name === chosen("left"));
    figure.classList.toggle("right", figure.dataset.name === chosen("right"));
  }
};
const wipe = (button) => {
  const on = element.querySelector(".screens").classList.toggle("wiping");
  button.setAttribute("aria-pressed", on);
  sides();
};
const edge = (percent) => element.querySelector(".screens").style.setProperty("--wipe", `${percent}%`);

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { act, id } = button.dataset, doing = button.dataset.do;
  if (doing === "play") { if (playing) stop(); else play(); show(); }
  else if (doing === "wipe") wipe(button);
  else if (act === "close") dialog().close();
  else if (act) { stop(); trigger("select", { act, id, ids: dialog().dataset.ids }); }
});
element.addEventListener("input", (event) => {
  const kind = event.target.dataset.do;
  if (kind === "scrub") { stop(); go(Number(event.target.value)); }
  else if (kind === "edge") edge(event.target.value);
  else if (event.target.dataset.side) sides();
});
element.addEventListener("pointermove", (event) => { // over the picture the edge follows the pointer
  const screens = event.target.closest(".wiping");
  if (!screens) return;
  const box = screens.getBoundingClientRect();
  edge(Math.round((100 * (event.clientX - box.left)) / box.width));
});
element.addEventListener("keydown", (event) => {
  const key = { j: -1, l: 1, arrowleft: -1, arrowright: 1 }[event.key.toLowerCase()];
  if (event.target.matches("select, input")) return;
  if (key) { stop(); go(at + key); }
  else if (event.key.toLowerCase() === "k") { if (playing) stop(); else play(); show(); }
  else return;
  event.preventDefault();
  event.stopPropagation();
});
// A new dialog opens over the page; closed by its button or Escape it goes.
new MutationObserver(() => {
  const found = dialog();
  if (!found || found.open) return;
  at = 0;
  playing = false;
  found.addEventListener("close", () => { stop(); trigger("select", { act: "close" }); }, { once: true });
  found.showModal();
  const all = videos();
  if (all.length) Promise.all(all.map((video) => video.readyState || new Promise((done) => {
    video.addEventListener("loadedmetadata", done, { once: true });
    video.addEventListener("error", done, { once: true });
  }))).then(() => dialog() === found && go(0));
}).observe(element, { childList: true, subtree: true });
