// The player of finished videos: frame by frame, J K L and arrows, loop, speed, full screen, one frame as the next
// video's first image. Works on every .player of the page, whichever part drew it.
(() => {
  const SPEEDS = [0.25, 0.5, 1];
  const find = (player) => player?.querySelector("video");
  const fps = (player) => Number(player.dataset.fps);
  const frames = (player) => Math.round(find(player).duration * fps(player)) || Number(player.dataset.frames);
  const at = (player) => Math.min(frames(player) - 1, Math.max(0, Math.round(find(player).currentTime * fps(player) - 0.5)));
  const go = (player, frame) => {
    const video = find(player), last = frames(player) - 1;
    video.pause();
    video.currentTime = (Math.min(last, Math.max(0, frame)) + 0.5) / fps(player); // the middle of the frame
  };

  const show = (player) => {
    const video = find(player), frame = at(player);
    const bar = player.querySelector("input[type=range]"), count = player.querySelector("output");
    bar.max = frames(player) - 1;
    if (document.activeElement !== bar || !video.paused) bar.value = frame;
    bar.setAttribute("aria-valuetext", count.textContent = `${frame + 1} / ${frames(player)}`);
    player.classList.toggle("playing", !video.paused);
    player.classList.toggle("looping", video.loop);
    player.classList.toggle("sounding", Boolean(video.webkitAudioDecodedByteCount || video.mozHasAudio || video.audioTracks?.length));
    player.classList.toggle("muted", video.muted);
  };
  // A video that began by itself rests after a while: one that loops for ever costs a tenth of a core.
  const REST_MS = 20000;
  const owner = (video) => video.closest(".player") ?? video;
  const touch = (event) => { const player = event.target.closest?.(".player"); if (player) player.dataset.touched = ""; };
  for (const kind of ["click", "input", "keydown"]) document.addEventListener(kind, touch, true);
  document.addEventListener("play", ({ target }) => {
    if (!target.autoplay || "touched" in owner(target).dataset) return;
    setTimeout(() => { if (!("touched" in owner(target).dataset)) target.pause(); }, REST_MS);
  }, true);

  for (const kind of ["timeupdate", "seeked", "play", "pause", "loadedmetadata", "ratechange", "volumechange"])
    document.addEventListener(kind, (event) => {
      const player = event.target.closest?.(".player");
      if (player) show(player);
    }, true);
  let following = false;
  const follow = () => { // between two timeupdates, for who works with the player
    const played = document.querySelectorAll(".player.playing[data-touched]");
    played.forEach(show);
    following = played.length > 0;
    if (following) setTimeout(() => requestAnimationFrame(follow), 40);
  };
  document.addEventListener("playing", () => { if (!following) follow(); }, true);

  const acts = {
    play: (player) => { const video = find(player); if (video.paused) video.play(); else video.pause(); },
    back: (player) => go(player, at(player) - 1),
    next: (player) => go(player, at(player) + 1),
    mute: (player) => { find(player).muted = !find(player).muted; show(player); }, // it begins muted: browsers want that
    loop: (player) => { find(player).loop = !find(player).loop; show(player); },
    speed: (player, button) => {
      const video = find(player);
      video.playbackRate = SPEEDS[(SPEEDS.indexOf(video.playbackRate) + SPEEDS.length - 1) % SPEEDS.length];
      button.textContent = `${video.playbackRate}×`;
    },
    words: (player, button) => {
      const [lines] = find(player).textTracks, shown = lines.mode !== "showing";
      lines.mode = shown ? "showing" : "hidden";
      button.setAttribute("aria-pressed", shown);
    },
    full: (player) => (document.fullscreenElement ? document.exitFullscreen() : player.requestFullscreen?.()),
    frame: (player) => player.dispatchEvent(new CustomEvent("use-frame", {
      bubbles: true, detail: { id: player.dataset.job, frame: String(at(player)) },
    })),
  };
  document.addEventListener("click", (event) => {
    const player = event.target.closest(".player"), button = event.target.closest("[data-do]");
    if (!player) return;
    if (button) acts[button.dataset.do]?.(player, button);
    else if (event.target.matches("video")) acts.play(player);
  });
  document.addEventListener("input", (event) => {
    const player = event.target.closest(".player");
    if (player && event.target.type === "range") go(player, Number(event.target.value));
  });

  // A tile plays while a pointer rests on it.
  let resting = 0;
  document.addEventListener("pointerover", (event) => {
    const card = event.target.closest?.(".card[data-plays]");
    if (!card || event.pointerType !== "mouse" || card.querySelector("video")) return;
    clearTimeout(resting);
    resting = setTimeout(() => {
      const video = Object.assign(document.createElement("video"), { muted: true, loop: true, playsInline: true });
      video.src = `studio/media/${card.dataset.id}/result`;
      card.querySelector(".thumb").prepend(video);
      video.play().catch(() => video.remove()); // its file may be gone
    }, 180);
    card.addEventListener("pointerleave", () => {
      clearTimeout(resting);
      card.querySelector("video")?.remove();
    }, { once: true });
  });

  // Keys: of the player that has the focus, or of the one on the page where nobody types.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]), textarea, select, [contenteditable], [role=radiogroup]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const player = event.target.closest(".player")
      ?? [...document.querySelectorAll(".player")].find((one) => one.checkVisibility());
    if (!player || !find(player)) return;
    player.dataset.touched = "";
    const focused = Boolean(event.target.closest(".player")), key = event.key.toLowerCase();
    const act = { j: "back", k: "play", l: "next", ...(focused && event.target.type !== "range"
      ? { arrowleft: "back", arrowright: "next", f: "full" } : {}) }[key];
    if (!act) return;
    event.preventDefault();
    acts[act](player);
  });
})();
