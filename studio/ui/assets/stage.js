// The stage: Escape stops with five seconds to undo; percent in the icon and the bottom bar; a word when a video is done.
const UNDO_SECONDS = 5;
const stage = () => element.querySelector(".stage[data-state]");
element.tabIndex = 0; // so that Escape means the stage only where somebody chose it
element.setAttribute("role", "region");

element.addEventListener("use-frame", (event) => trigger("select", event.detail)); // of the player in it

let pending = null;
const keep = () => {
  clearInterval(pending?.timer);
  pending?.bar.remove();
  pending = null;
};
const stopSoon = (words, undo) => {
  const bar = document.createElement("div"), button = document.createElement("button"), text = document.createElement("span");
  bar.className = "undo soon";
  bar.setAttribute("role", "alert");
  button.textContent = undo;
  button.onclick = keep;
  bar.append(text, button);
  element.after(bar);
  let left = UNDO_SECONDS;
  const job = stage().dataset.job;
  const tell = () => {
    text.textContent = words.replace("{seconds}", left);
    if (left-- > 0) return;
    keep();
    if (stage()?.dataset.job === job) document.querySelector("#stop")?.click(); // another one may be in view by now
  };
  pending = { bar, timer: setInterval(tell, 1000) };
  tell();
};
// What closes an open layer of the page, the topmost last. A dialog closes by itself.
const LAYERS = '.absent-line[aria-expanded="true"], #drawer-toggle[aria-expanded="true"], [data-close]';
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const layers = [...document.querySelectorAll(LAYERS)].filter((one) => one.checkVisibility());
  if (layers.length) layers.at(-1).click(); // the topmost layer alone
  else if (pending) keep();
  else if (element.contains(document.activeElement) && /running|queued/.test(stage()?.dataset.state ?? ""))
    stopSoon(stage().dataset.stop, stage().dataset.undo);
});

// Done: told on the device that looks. Without a secure context no browser lets a page notify; then two notes are heard.
document.addEventListener("click", (event) => {
  const asks = event.target.closest("#generate") && isSecureContext && "Notification" in window;
  if (asks && Notification.permission === "default") Notification.requestPermission();
});
const chime = () => {
  const audio = new AudioContext();
  for (const [pitch, at] of [[660, 0], [880, 0.16]]) {
    const note = audio.createOscillator(), loud = audio.createGain();
    note.frequency.value = pitch;
    loud.gain.setValueAtTime(0.07, audio.currentTime + at);
    loud.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + at + 0.5);
    note.connect(loud).connect(audio.destination);
    note.start(audio.currentTime + at);
    note.stop(audio.currentTime + at + 0.55);
  }
  setTimeout(() => audio.close(), 1200);
};
const tell = (words) => {
  if (isSecureContext && "Notification" in window && Notification.permission === "granted")
    new Notification("Step-Video Studio", { body: words, icon: "favicon.ico" });
  else if (navigator.userActivation?.hasBeenActive) chime();
};

// A ring that fills, over the page's own icon.
const paint = (percent) => {
  const icon = document.querySelector("link[rel~=icon]")
    ?? document.head.appendChild(Object.assign(document.createElement("link"), { rel: "icon", href: "favicon.ico" }));
  icon.dataset.own ??= icon.href;
  if (percent === null) { icon.href = icon.dataset.own; return; }
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
  const pen = canvas.getContext("2d");
  pen.lineWidth = 6;
  for (const [colour, part] of [["#c9d6d6", 1], ["#0f7580", percent / 100]]) {
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.arc(16, 16, 12, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * part);
    pen.stroke();
  }
  icon.href = canvas.toDataURL();
};

let watched = "", shown = null, drawn = "";
const look = new MutationObserver(() => {
  const now = stage()?.dataset, title = document.querySelector(".system")?.dataset.title; // of what runs, seen or not
  if (now && now.job !== drawn) document.dispatchEvent(new CustomEvent("stage-shows", { detail: now.job }));
  drawn = now?.job;
  const percent = title ? parseInt(title, 10) : null;
  if (percent !== shown) {
    paint(percent);
    document.body.style.setProperty("--done", percent ?? 0);
    document.body.classList.toggle("denoising", percent !== null);
    shown = percent;
  }
  if (now?.state === "finished" && watched === now.job) tell(now.done);
  watched = now?.state === "running" ? now.job : "";
});
for (const one of [element, document.querySelector("#system")])
  if (one) look.observe(one, { childList: true, subtree: true, attributes: true });
