// How long lines take to say: the robot's are asked for as they are typed, others are about right until they were made.
const PAUSE = 250; // ms after the last letter
let typing = 0;

const unmeasured = () => it.track.lines.filter((line) => line.voice.startsWith("robot") && line.text.trim()
  && letters(line.text) <= LINE_LIMIT && !(lengthKey(line) in it.lengths));
const measure = () => {
  clearTimeout(typing);
  if (!unmeasured().length) return;
  typing = setTimeout(() => {
    const lines = unmeasured().map(({ text, voice, language }) => [text, voice, language]);
    if (lines.length) trigger("input", { lines: JSON.stringify(lines) });
  }, PAUSE);
};
const learn = (lengths) => {
  for (const [text, voice, language, seconds] of lengths) it.lengths[lengthKey({ text, voice, language })] = seconds;
  if (!it.dragging) drawBlocks(); // a drag draws when it ends
};

// A word about what was just tried, under the timeline; the next touch of a block takes it away.
const note = (words) => {
  const place = find(".timeline-note");
  if (place) place.textContent = words;
};
