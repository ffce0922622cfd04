// Follows the program: asks for what is new only while somebody looks, and says when the program is gone.
const IDLE_MS = 2000, BUSY_MS = 1000, PATIENCE_MS = 4000, GAUGES_EVERY = 30; // a look at the gauges each minute
let known = "", silent = 0, turns = 0;

const ask = async () => {
  try {
    const answer = await fetch("studio/alive", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const stamp = await answer.text();
    silent = answer.status >= 502 ? 2 : 0;
    return { status: answer.status, stamp: answer.ok ? stamp : null };
  } catch (error) {
    silent += error.name === "TimeoutError" ? 1 : 2; // refused: at once; silent: after the second time
    return null;
  }
};

const look = async () => {
  const busy = Boolean(document.querySelector(".work.on, .checking"));
  turns += 1;
  if (busy && silent === 0 && turns % 3) trigger("select", {});
  else if (!busy && silent === 0 && turns % GAUGES_EVERY === 0) trigger("select", {});
  else {
    const lost = silent >= 2, answer = await ask();
    document.body.classList.toggle("unreachable", silent >= 2);
    if (answer?.status === 401) location.reload();
    const now = answer?.stamp ?? known, back = lost && silent === 0;
    if (now !== known || (busy && silent === 0) || back) trigger("select", {});
    if (back) // pictures that could not be fetched meanwhile
      for (const image of document.querySelectorAll("img"))
        if (image.complete && !image.naturalWidth) image.src = image.src; // eslint-disable-line no-self-assign
    known = now;
  }
  return busy;
};

let timer = 0;
const round = async () => {
  clearTimeout(timer);
  if (!document.querySelector(".system")) { // the page's own first answer comes first: it knows the language
    timer = setTimeout(round, 200);
    return;
  }
  const busy = document.hidden ? false : await look();
  timer = setTimeout(round, busy || silent ? BUSY_MS : IDLE_MS);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden) { known = ""; round(); } });
round();
