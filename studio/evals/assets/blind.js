// A blind test inside an element: two clips in step, a question at a time, keys 1, 2, 3; in the page also which test.
function startBlindTest(element, choosing) {
  const WORDS = {
    en: { which: "Which two recipes? Whoever votes sees two clips of the same prompt, not what made them.", first: "One", second: "The other", open: "Open the test",
      none: "Two recipes are needed: make an evaluation of two, or two evaluations of the same prompts.",
      about: "Two clips of the same prompt, side by side. Say which is better, by each question; what made them is hidden. A few pairs come twice.",
      name: "A name for your votes", begin: "Begin", back: "Back", keys: "Keys: 1 left, 2 right, 3 equal", thanks: "That was all. Thank you!", show: "Show the result", leave: "Another test",
      invite: "For others who can reach this page:", left: "1 · left", right: "2 · right", equal: "3 · equal", instruction: "Which does more of what the prompt says?",
      motion: "Which moves more smoothly?", physics: "Which keeps better to the laws of nature?", beauty: "Which looks better?", consistency: "In which do subject and background stay themselves?",
      overall: "Which is better on the whole?", name_bad: "Use 1 to 40 letters, digits, - or _.", gone: "The program does not answer.", against: "against", won: "better", tied: "equal", lost: "worse",
      margin: "margin [95 %]", decided: "decided", more: (n) => `undecided, about ${n} more prompts`, agreement: "Repeated pairs judged alike", side: "Left side chosen",
      voters: (v, n) => `${n} votes of ${v} people`, no_votes: "No votes yet." },
    zh: { which: "比较哪两个配方？投票者只看到同一提示词的两个视频，看不到生成方式。", first: "其一", second: "其二", open: "打开盲测",
      none: "需要两个配方：请用两个配方做一次评测，或对相同提示词做两次评测。",
      about: "同一提示词的两个视频并排播放。请逐题选择哪个更好；生成方式已隐藏。少数视频对会出现两次。",
      name: "投票用名", begin: "开始", back: "返回", keys: "按键：1 左，2 右，3 相同", thanks: "全部完成，谢谢！", show: "查看结果", leave: "其他盲测",
      invite: "发给能访问本页面的其他人：", left: "1 · 左", right: "2 · 右", equal: "3 · 相同", instruction: "哪个更符合提示词？",
      motion: "哪个运动更流畅？", physics: "哪个更符合物理规律？", beauty: "哪个更美观？", consistency: "哪个的主体和背景更一致？",
      overall: "总体上哪个更好？", name_bad: "请使用 1 到 40 个字母、数字、- 或 _。", gone: "程序没有响应。", against: "对比", won: "更好", tied: "相同", lost: "更差",
      margin: "净胜率 [95%]", decided: "已有结论", more: (n) => `尚无结论，约需再评 ${n} 条提示词`, agreement: "重复视频对判断一致", side: "选择左侧",
      voters: (v, n) => `${v} 人共 ${n} 票`, no_votes: "尚无投票。" },
  };
  const part = (name) => element.querySelector(`[data-part="${name}"]`);
  let words = WORDS.en, language = "en", base = "", voter = "", pair = null, choices = {}, asked = 0, sending = false, told = null;

  const speak = () => {
    language = document.documentElement.lang === "zh" ? "zh" : "en";
    words = WORDS[language];
    for (const at of element.querySelectorAll("[data-say]")) at.textContent = words[at.dataset.say];
    for (const at of element.querySelectorAll("[data-side]")) at.textContent = words[at.dataset.side];
    if (pair?.criteria) ask();
    if (told) result();
  };

  const call = async (path, body) => {
    part("error").textContent = "";
    const headers = { "Accept-Language": language };
    let answer, found;
    try {
      answer = await fetch(path, body ? { method: "POST", body: JSON.stringify(body), headers } : { headers });
      found = await answer.json();
    } catch { found = { detail: words.gone }; }
    if (!answer?.ok) {
      part("error").textContent = found.detail;
      throw Object.assign(new Error(found.detail), { code: found.code });
    }
    return found;
  };
  const quietly = (act) => async (...given) => { try { await act(...given); } catch (error) { if (!part("error").textContent) throw error; } };
  const only = (...names) => {
    for (const name of ["choose", "start", "vote", "end", "show", "leave"]) part(name).hidden = !names.includes(name);
  };

  function clip(side, name) {
    const still = !name.endsWith(".mp4"), shown = document.createElement(still ? "img" : "video");
    if (!still) Object.assign(shown, { muted: true, playsInline: true, loop: true, preload: "auto" });
    shown.src = `${base}clip/${name}`;
    part(side).replaceChildren(shown);
    return shown;
  }

  function show(next) {
    pair = next; choices = {}; asked = 0;
    part("count").textContent = `${Math.min(next.done + 1, next.total)} / ${next.total}`;
    if (!next.criteria) {
      for (const side of ["left", "right"]) part(side).replaceChildren();
      only("end", "show", ...(choosing ? ["leave"] : []));
      return;
    }
    only("vote", ...(choosing ? ["leave"] : []));
    part("prompt").textContent = next.prompt;
    part("picture").hidden = !next.picture;
    if (next.picture) part("picture").src = `${base}clip/${next.picture}`;
    const both = [clip("left", next.left), clip("right", next.right)].filter((one) => one.tagName === "VIDEO");
    let ready = 0;
    for (const one of both)
      one.addEventListener("canplay", () => {
        part("clips").classList.toggle("wide", one.videoWidth > one.videoHeight);
        ready += 1;
        if (ready >= both.length) for (const video of both) { video.currentTime = 0; video.play().catch(() => {}); }
      }, { once: true });
    if (both.length === 2)
      both[0].addEventListener("timeupdate", () => {
        if (Math.abs(both[1].currentTime - both[0].currentTime) > 0.08) both[1].currentTime = both[0].currentTime;
      });
    ask();
  }

  function ask() {
    part("question").textContent = `${words[pair.criteria[asked]]} (${asked + 1}/${pair.criteria.length})`;
    part("back").disabled = asked === 0;
  }

  const choose = quietly(async (side) => {
    if (!pair?.criteria || sending) return;
    choices[pair.criteria[asked]] = side;
    if (asked + 1 < pair.criteria.length) { asked += 1; ask(); return; }
    sending = true;
    try {
      show(await call(`${base}vote`, { voter, number: pair.number, left: pair.left, choices }));
    } catch (error) {
      if (error.code !== "vote_unknown") throw error; // the clips have changed meanwhile: the pair is shown anew
      const why = part("error").textContent;
      show(await call(`${base}pair?voter=${voter}`));
      part("error").textContent = why;
    } finally { sending = false; }
  });

  function result() {
    const percent = (value) => `${Math.round(100 * value)} %`;
    const range = (one) => (one.low === null ? percent(one.mean) : `${percent(one.mean)} [${percent(one.low)}, ${percent(one.high)}]`);
    const table = document.createElement("table");
    const row = (cells, kind) => {
      const line = table.insertRow();
      for (const cell of cells) { const at = document.createElement(kind || "td"); at.textContent = cell; line.append(at); }
    };
    row([`${told.second} ${words.against} ${told.first}`, words.won, words.tied, words.lost, words.margin, ""], "th");
    for (const [name, one] of Object.entries(told.verdicts))
      row([words[name], one.wins, one.ties, one.losses, range(one.margin), one.more ? words.more(one.more) : words.decided]);
    const notes = document.createElement("p");
    notes.textContent = [words.voters(told.voters, told.votes), told.agreement && `${words.agreement}: ${range(told.agreement)}`, told.left && `${words.side}: ${range(told.left)}`].filter(Boolean).join(" · ");
    part("result").replaceChildren(...(told.votes ? [table, notes] : [words.no_votes]));
  }

  function open(under) {
    base = under; pair = null; told = null;
    part("result").replaceChildren();
    only("start", ...(choosing ? ["show", "leave"] : []));
  }

  for (const at of element.querySelectorAll("[data-side]")) at.onclick = () => choose(at.dataset.side);
  part("back").onclick = () => { if (asked > 0) { asked -= 1; ask(); } };
  part("begin").onclick = quietly(async () => {
    voter = part("voter").value.trim();
    if (!/^[A-Za-z0-9_-]{1,40}$/.test(voter)) { part("error").textContent = words.name_bad; return; }
    part("result").replaceChildren();
    told = null;
    show(await call(`${base}pair?voter=${voter}`));
  });
  part("show").onclick = quietly(async () => { told = await call(`${base}result`); result(); });
  part("voter").addEventListener("keydown", (event) => { if (event.key === "Enter") part("begin").click(); });
  document.addEventListener("keydown", (event) => {
    if (part("vote").hidden || !element.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const side = { 1: "left", 2: "right", 3: "equal" }[event.key];
    if (side) { event.preventDefault(); choose(side); }
    if (event.key === "Backspace") part("back").click();
  });
  new MutationObserver(speak).observe(document.documentElement, { attributeFilter: ["lang"] });
  speak();
  if (choosing) choosing({ part, call, quietly, only, open });
  else open("");
}
