"use strict";
// Language, and the player: the clips of one prompt and seed side by side, in step.
const root = document.documentElement, view = document.querySelector("dialog"), players = view.querySelector("#players");
const show = (language) => { root.lang = language; document.querySelector("#language").textContent = language === "en" ? "中文" : "English"; };
show((navigator.language || "en").startsWith("zh") ? "zh" : "en");
document.querySelector("#language").onclick = () => show(root.lang === "en" ? "zh" : "en");

const cells = [...document.querySelectorAll("button[data-clip]")];
const pairs = [...new Set(cells.map((cell) => cell.dataset.pair))];
let open = -1;

function play(pair) {
  open = pairs.indexOf(pair);
  const same = cells.filter((cell) => cell.dataset.pair === pair); // a clip may stand in several places
  const chosen = same.filter((cell, at) => same.findIndex((other) => other.dataset.clip === cell.dataset.clip) === at);
  view.querySelector("#told").textContent = chosen[0].dataset.prompt;
  players.replaceChildren(...chosen.map((cell) => {
    const figure = document.createElement("div"), still = cell.dataset.clip.endsWith(".png");
    const shown = document.createElement(still ? "img" : "video");
    shown.src = cell.dataset.clip;
    if (!still) Object.assign(shown, { muted: true, playsInline: true, loop: true, controls: false, preload: "auto" });
    const words = document.createElement("div");
    words.textContent = cell.dataset.recipe;
    figure.append(shown, words);
    return figure;
  }));
  const videos = [...players.querySelectorAll("video")];
  if (videos.length) {
    let ready = 0;
    const go = () => { ready += 1; if (ready >= videos.length) videos.forEach((video) => { video.currentTime = 0; video.play(); }); };
    videos.forEach((video) => video.addEventListener("canplay", go, { once: true }));
    videos[0].addEventListener("timeupdate", () => videos.slice(1).forEach((video) => {
      if (Math.abs(video.currentTime - videos[0].currentTime) > 0.08) video.currentTime = videos[0].currentTime;
    }));
  }
  if (!view.open) view.showModal();
}
const step = (by) => play(pairs[(open + by + pairs.length) % pairs.length]);
cells.forEach((cell) => { cell.onclick = () => play(cell.dataset.pair); });
view.querySelector("#before").onclick = () => step(-1);
view.querySelector("#after").onclick = () => step(1);
view.querySelector("#close").onclick = () => view.close();
view.addEventListener("close", () => players.replaceChildren());
document.addEventListener("keydown", (event) => {
  if (!view.open) return;
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === " ") { event.preventDefault(); players.querySelectorAll("video").forEach((v) => (v.paused ? v.play() : v.pause())); }
});
