// The draft: the mix as it is edited, in step with the muted video. It ends with the first change of the track.
const DRIFT = 0.06; // seconds between the two before one jumps
const draft = { audio: null, film: null, muted: false, of: "", asked: false };
const edited = () => JSON.stringify([it.id, it.track]);

const askDraft = () => {
  if (draft.audio) { endDraft(); return; }
  document.activeElement?.blur?.(); // what is being typed counts
  Object.assign(draft, { of: edited(), asked: true });
  drawDraft();
  trigger("play", { track: JSON.stringify(it.track), uploads: JSON.stringify(it.uploads) });
};
const startDraft = (url) => {
  draft.asked = false;
  const film = video();
  if (url && film && draft.of === edited()) {
    endDraft();
    const audio = Object.assign(new Audio(url), { volume: film.volume, playbackRate: film.playbackRate });
    Object.assign(draft, { audio, film, muted: film.muted });
    audio.addEventListener("error", () => failDraft(audio));
    film.muted = true; // the sound that the clip has already
    film.pause();
    film.currentTime = 0;
    audio.addEventListener("canplaythrough", () => { // both begin together
      if (draft.audio === audio) film.play().catch(() => {}); // a browser that wants a touch gets it on the player
    }, { once: true });
    note(say("draft_told"));
  }
  drawDraft();
};
const endDraft = () => {
  const { audio, film, muted } = draft;
  if (!audio) return;
  draft.audio = null;
  audio.pause();
  audio.removeAttribute("src");
  film.muted = muted;
  note("");
  drawDraft();
};
const failDraft = (audio) => {
  if (draft.audio !== audio) return;
  endDraft();
  note(say("draft_failed"));
};
const checkDraft = () => { if (draft.audio && draft.of !== edited()) endDraft(); };

// Whatever the player does, the draft does too; at the end of the picture a longer sound goes on.
const inStep = (player) => {
  const together = () => {
    const { audio } = draft;
    if (audio && !player.ended && Math.abs(audio.currentTime - player.currentTime) > DRIFT) audio.currentTime = player.currentTime;
  };
  const start = () => {
    const { audio } = draft;
    together();
    audio?.play().catch((error) => { if (error.name !== "AbortError") failDraft(audio); }); // aborted: paused meanwhile
  };
  player.addEventListener("play", start);
  player.addEventListener("playing", start);
  player.addEventListener("waiting", () => draft.audio?.pause());
  player.addEventListener("pause", () => { if (!player.ended || it.track.length !== "sound") draft.audio?.pause(); });
  player.addEventListener("seeked", together);
  player.addEventListener("timeupdate", together);
  player.addEventListener("ratechange", () => { if (draft.audio) draft.audio.playbackRate = player.playbackRate; });
  player.addEventListener("volumechange", () => { if (draft.audio) draft.audio.volume = player.volume; });
};
const drawDraft = () => {
  const one = find(".ask .tool-draft");
  if (!one) return;
  one.textContent = say(draft.asked ? "draft_busy" : draft.audio ? "draft_stop" : "draft");
  one.disabled = draft.asked || (!it.track.lines.length && !it.track.layers.length);
};
