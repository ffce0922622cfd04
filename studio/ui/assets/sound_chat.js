// The language model that was named at the start writes lines; they are shown, and become lines at a click.
const buildChat = () => {
  if (!it.told.chat) return [];
  const idea = make("textarea", { rows: 2, placeholder: say("chat_hint"), name: "idea", value: it.idea ?? "" });
  idea.setAttribute("aria-label", say("chat"));
  idea.addEventListener("input", () => { it.idea = idea.value; });
  const whole = make("details", { className: "scene chat", open: Boolean(it.chatOpen) }, make("summary", { textContent: say("chat") }),
    idea, button("chat_ask", askLines), make("small", { textContent: say("chat_where") }), make("div", { className: "written" }));
  whole.querySelector(".written").setAttribute("role", "status");
  whole.addEventListener("toggle", () => { it.chatOpen = whole.open; });
  return [whole];
};
const askLines = () => {
  it.asking = true;
  drawChat();
  trigger("submit", { text: it.idea ?? "", seconds: String(it.seconds) });
};
const takeWritten = (written) => { // null where nothing came; why is said above
  Object.assign(it, { asking: false, written });
  drawChat();
};
const useLines = () => {
  const lines = it.written.lines.map(([second, text]) => ({ ...newLine(second), text }));
  it.written = null;
  edit((track) => track.lines.push(...lines));
  drawChat();
};
const drawChat = () => {
  const place = find(".chat .written"), one = find(".chat .tool-chat_ask");
  if (!place) return;
  one.disabled = Boolean(it.asking);
  one.textContent = say(it.asking ? "chat_busy" : "chat_ask");
  if (!it.written) { place.replaceChildren(); return; }
  const { lines, other } = it.written;
  const left = other.length ? [make("p", { className: "other", textContent: say("chat_other").replace("{words}", other.join("; ")) })] : [];
  place.replaceChildren(
    make("ol", {}, ...lines.map(([second, text]) => make("li", { textContent: `${tidy(second)} s: ${text}` }))), ...left,
    button("chat_use", useLines, "primary"), button("chat_leave", () => takeWritten(null)),
  );
};
