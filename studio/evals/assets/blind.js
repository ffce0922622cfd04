"use strict";
const WORDS = {
  en: { title: "Blind test", about: "Two clips of the same prompt, side by side. Say which is better, by each question; what made them is hidden. A few pairs come twice.",
    name: "A name for your votes", begin: "Begin", back: "Back", keys: "Keys: 1 left, 2 right, 3 equal", thanks: "That was all. Thank you!", show: "Show the result",
    left: "1 · left", right: "2 · right", equal: "3 · equal", instruction: "Which does more of what the prompt says?", motion: "Which moves more smoothly?",
    physics: "Which keeps better to the laws of nature?", beauty: "Which looks better?", consistency: "In which do subject and background stay themselves?", overall: "Which is better on the whole?",
    name_bad: "Use 1 to 40 letters, digits, - or _.", against: "against", won: "better", tied: "equal", lost: "worse", margin: "margin [95 %]", decided: "decided", more: (n) => `undecided, about ${n} more prompts`,
    agreement: "Repeated pairs judged alike", side: "Left side chosen", voters: (v, n) => `${n} votes of ${v} people` },
  zh: { title: "盲测", about: "同一提示词的两个视频并排播放。请逐题选择哪个更好；生成方式已隐藏。少数视频对会出现两次。",
    name: "投票用名", begin: "开始", back: "返回", keys: "按键：1 左，2 右，3 相同", thanks: "全部完成，谢谢！", show: "查看结果",
    left: "1 · 左", right: "2 · 右", equal: "3 · 相同", instruction: "哪个更符合提示词？", motion: "哪个运动更流畅？",
    physics: "哪个更符合物理规律？", beauty: "哪个更美观？", consistency: "哪个的主体和背景更一致？", overall: "总体上哪个更好？",
    name_bad: "请使用 1 到 40 个字母、数字、- 或 _。", against: "对比", won: "更好", tied: "相同", lost: "更差", margin: "净胜率 [95%]", decided: "已有结论", more: (n) => `尚无结论，约需再评 ${n} 条提示词`,
    agreement: "重复视频对判断一致", side: "选择左侧", voters: (v, n) => `${v} 人共 ${n} 票` },
};
const $ = (id) => document.getElementById(id);
let words = WORDS.en, voter = "", pair = null, choices = {}, asked = 0;

function language(name) {
  document.documentElement.lang = name; words = WORDS[name]; $("language").textContent = name === "en" ? "中文" : "English";
  document.querySelectorAll("[data-say]").forEach((at) => { at.textContent = words[at.dataset.say]; });
  document.querySelectorAll("[data-side]").forEach((at) => { at.textContent = words[at.dataset.side]; });
  if (pair && pair.criteria) ask();
}
language((navigator.language || "en").startsWith("zh") ? "zh" : "en");
$("language").onclick = () => language(words === WORDS.en ? "zh" : "en");

async function call(path, body) {
  $("error").textContent = "";
  const answer = await fetch(path, body ? { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : {});
  const told = await answer.json();
  if (!answer.ok) { $("error").textContent = told.detail; throw new Error(told.detail); }
  return told;
}

function clip(side, name) {
  const still = !name.endsWith(".mp4"), shown = document.createElement(still ? "img" : "video");
  if (!still) Object.assign(shown, { muted: true, playsInline: true, loop: true, preload: "auto" });
  shown.src = `clip/${name}`;
  $(side).replaceChildren(shown);
  return shown;
}

function show(told) {
  pair = told; choices = {}; asked = 0;
  $("count").textContent = `${Math.min(told.done + 1, told.total)} / ${told.total}`;
  $("start").hidden = true; $("vote").hidden = !told.criteria; $("end").hidden = !!told.criteria;
  if (!told.criteria) return;
  $("prompt").textContent = told.prompt;
  $("picture").hidden = !told.picture;
  if (told.picture) $("picture").src = `clip/${told.picture}`;
  const both = [clip("left", told.left), clip("right", told.right)].filter((one) => one.tagName === "VIDEO");
  let ready = 0;
  both.forEach((one) => one.addEventListener("canplay", () => {
    $("clips").classList.toggle("wide", one.videoWidth > one.videoHeight);
    ready += 1;
    if (ready >= both.length) both.forEach((video) => { video.currentTime = 0; video.play(); });
  }, { once: true }));
  if (both.length === 2) both[0].addEventListener("timeupdate", () => {
    if (Math.abs(both[1].currentTime - both[0].currentTime) > 0.08) both[1].currentTime = both[0].currentTime;
  });
  ask();
}

function ask() { $("question").textContent = `${words[pair.criteria[asked]]} (${asked + 1}/${pair.criteria.length})`; $("back").disabled = asked === 0; }

let sending = false;
async function choose(side) {
  if (!pair || !pair.criteria || sending) return;
  choices[pair.criteria[asked]] = side;
  if (asked + 1 < pair.criteria.length) { asked += 1; ask(); return; }
  sending = true;
  try { show(await call("vote", { voter, number: pair.number, choices })); } finally { sending = false; }
}
document.querySelectorAll("[data-side]").forEach((at) => { at.onclick = () => choose(at.dataset.side); });
$("back").onclick = () => { if (asked > 0) { asked -= 1; ask(); } };
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") { if (event.key === "Enter") $("begin").click(); return; }
  const side = { 1: "left", 2: "right", 3: "equal" }[event.key];
  if (side) choose(side);
  if (event.key === "Backspace") $("back").click();
});
$("begin").onclick = async () => {
  voter = $("voter").value.trim();
  if (!/^[A-Za-z0-9_-]{1,40}$/.test(voter)) { $("error").textContent = words.name_bad; return; }
  show(await call(`pair?voter=${voter}`));
};
$("show").onclick = async () => {
  const told = await call("result"), percent = (value) => `${Math.round(100 * value)} %`;
  const range = (one) => (one.low === null ? percent(one.mean) : `${percent(one.mean)} [${percent(one.low)}, ${percent(one.high)}]`);
  const table = document.createElement("table"), row = (cells, kind) => {
    const line = table.insertRow();
    cells.forEach((cell) => { const at = document.createElement(kind || "td"); at.textContent = cell; line.append(at); });
  };
  row([`${told.second} ${words.against} ${told.first}`, words.won, words.tied, words.lost, words.margin, ""], "th");
  Object.entries(told.verdicts).forEach(([name, one]) => row([words[name], one.wins, one.ties, one.losses, range(one.margin), one.more ? words.more(one.more) : words.decided]));
  const notes = document.createElement("p");
  notes.textContent = [words.voters(told.voters, told.votes), told.agreement && `${words.agreement}: ${range(told.agreement)}`, told.left && `${words.side}: ${range(told.left)}`].filter(Boolean).join(" · ");
  $("result").replaceChildren(table, notes);
};
