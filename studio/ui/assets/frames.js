// A page at rest draws nothing. Gradio's clock of waiting (6.31, statustracker) asks for the next frame for ever, also
// when its part has left the page, as the one of the loading page always has: that kept a core at five percent and the
// screen awake. So whoever asks for a frame while nothing has changed and nobody has touched the page for a second gets
// a turn twice a second, without one being drawn. This must run before gradio's scripts, which keep the function.
(() => {
  "use strict";
  const AWAKE = 1000, REST = 500; // ms: from the last sign of life on; between two turns of a page at rest
  const ask = window.requestAnimationFrame.bind(window), cancel = window.cancelAnimationFrame.bind(window);
  const resting = new Map(); // own number, below 0 -> its timer
  let alive = performance.now(), number = 0;
  const wake = () => { alive = performance.now(); };

  const SIGNS = ["pointermove", "pointerdown", "keydown", "wheel", "touchmove", "scroll", "resize", "dragover", "play"];
  for (const sign of SIGNS) window.addEventListener(sign, wake, { capture: true, passive: true });
  new MutationObserver(wake).observe(document, {
    attributes: true, characterData: true, childList: true, subtree: true,
  });

  window.requestAnimationFrame = (act) => {
    if (performance.now() - alive < AWAKE) return ask(act);
    number -= 1;
    const own = number;
    resting.set(own, setTimeout(() => {
      resting.delete(own);
      act(performance.now());
    }, REST));
    return own;
  };
  window.cancelAnimationFrame = (given) => {
    if (given >= 0) {
      cancel(given);
      return;
    }
    clearTimeout(resting.get(given));
    resting.delete(given);
  };
})();
