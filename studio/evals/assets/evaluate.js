// Evaluations: what is to be made, how far each is, its report. The program is asked over studio/evaluations.
const WORDS = {
  en: {
    new: "New evaluation", prompts: "Prompts", suite: (one) => `Suite ${one.name} (${one.count} prompts)`, own_text: "My own: text, table or file", own_folder: "My own: a folder of pictures with texts",
    own_path: "A file or folder on this machine", file: "From a file (.txt, .csv, .jsonl)", folder: "The folder: each picture with its text in a .txt of the same name",
    path_about: "A .txt, .csv or .jsonl, or a folder of pictures, each with its .txt; benchmark/ of the official repositories fits.",
    text_hint: "One prompt a line; # name begins a category", found: (p, t) => `${p} pictures, ${t} of them with a text`, recipes: "Recipes, compared with the first", not_installed: "not installed",
    own: "A recipe of your own", own_name: "Its name", model: "Model", weights: "Weights", settings: "Settings", own_add: "Add it", own_about: (all) => `NAME=VALUE, known are ${all}`,
    own_bad: "A recipe needs a name of letters, digits, - _ or . and settings as NAME=VALUE.", seeds: "Seeds per prompt", limit: "At most so many prompts", shuffle: "chosen by lot", scores: "with scores",
    no_cv: "Scores need OpenCV: pip install opencv-python-headless", no_reader: "Texts in clips are not read: rapidocr and onnxruntime are not installed.",
    name: "Name (empty: by date, prompts and recipes)", start: "Start", count: (n) => `${n} clips. Jobs of the queue wait while they are made; stop it any time, it goes on where it was.`,
    pick: "Choose at least one recipe.", no_prompts: "Give prompts first.", sending: (n, all) => `Sending pictures: ${n} of ${all}`, all: "Evaluations", empty: "None yet. The report compares recipes by scores and shows every clip; the blind test asks people.",
    draft: "not started", running: "running", elsewhere: "running in a terminal", stopped: "stopped", failed: "failed", ended: "finished", made: (n, all) => `${n} of ${all} clips`, failures: (n) => `${n} failed`,
    measured: (n) => `${n} measured`, left: (t) => `about ${t} to go`, needs: (d) => `${d} more disk`, free: (d) => `${d} free`, report: "Open the report", stop: "Stop", go_on: "Go on", again: "Make what failed again",
    begin: "Start", blind: "Blind test", remove: "Remove", sure: "Remove with all clips?", by: (p, r, s) => `${p} · ${r.join(", ")} · ${s === 1 ? "1 seed" : `${s} seeds`}`, terminal: "made by the evaluate command",
    gone: "The program does not answer.", text: "own prompts", pictures: "own pictures", hours: (h, m) => `${h} h ${m} min`, minutes: (m) => `${m} min`, seconds: (s) => `${s} s`,
  },
  zh: {
    new: "新建评测", prompts: "提示词", suite: (one) => `内置评测集 ${one.name}（${one.count} 条）`, own_text: "自备：文本、表格或文件", own_folder: "自备：图片文件夹（附文本）",
    own_path: "本机上的文件或文件夹", file: "从文件读取（.txt、.csv、.jsonl）", folder: "文件夹：每张图片附同名 .txt 文本",
    path_about: "可为 .txt、.csv、.jsonl，或图片文件夹（每张图片附同名 .txt）；官方仓库的 benchmark/ 可直接使用。",
    text_hint: "每行一条提示词；“# 名称”开始一个类别", found: (p, t) => `${p} 张图片，其中 ${t} 张有文本`, recipes: "配方（均与第一个比较）", not_installed: "未安装",
    own: "自定义配方", own_name: "名称", model: "模型", weights: "权重", settings: "设置", own_add: "添加", own_about: (all) => `写作 名称=值，可用名称：${all}`,
    own_bad: "配方需要名称（字母、数字、-、_ 或 .），设置写作 名称=值。", seeds: "每条提示词的种子数", limit: "提示词上限", shuffle: "随机抽取", scores: "计算评分",
    no_cv: "评分需要 OpenCV：pip install opencv-python-headless", no_reader: "未安装 rapidocr 和 onnxruntime，不识别视频中的文字。",
    name: "名称（留空则按日期、提示词和配方命名）", start: "开始", count: (n) => `共 ${n} 个视频。生成期间队列中的任务会等待；可随时停止，之后从原处继续。`,
    pick: "请至少选择一个配方。", no_prompts: "请先给出提示词。", sending: (n, all) => `正在发送图片：${n} / ${all}`, all: "评测", empty: "暂无。报告按评分比较配方并展示每个视频；盲测由人来评判。",
    draft: "未开始", running: "进行中", elsewhere: "正在终端中进行", stopped: "已停止", failed: "失败", ended: "已完成", made: (n, all) => `${n} / ${all} 个视频`, failures: (n) => `失败 ${n} 个`,
    measured: (n) => `已评分 ${n} 个`, left: (t) => `约剩 ${t}`, needs: (d) => `还需磁盘 ${d}`, free: (d) => `可用 ${d}`, report: "打开报告", stop: "停止", go_on: "继续", again: "重新生成失败的视频",
    begin: "开始", blind: "盲测", remove: "删除", sure: "连同全部视频删除？", by: (p, r, s) => `${p} · ${r.join("、")} · ${s} 个种子`, terminal: "由 evaluate 命令生成",
    gone: "程序没有响应。", text: "自备提示词", pictures: "自备图片", hours: (h, m) => `${h} 小时 ${m} 分`, minutes: (m) => `${m} 分钟`, seconds: (s) => `${s} 秒`,
  },
};
const BUSY_MS = 2000, IDLE_MS = 8000, PICTURE = /\.(png|jpe?g|webp|bmp)$/i, TEXT = /\.txt$/i;
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const make = (tag, given, ...inside) => { const made = Object.assign(document.createElement(tag), given); made.append(...inside); return made; };
let words = WORDS.en, language = "en", choices = null, known = null, own = {}, order = [], kind = ".txt", files = [], busy = false, timer = 0;

const call = async (path, body, headers = {}) => {
  const options = body === undefined ? {} : { method: "POST", body: body instanceof Blob ? body : JSON.stringify(body) };
  let answer, found;
  try {
    answer = await fetch(`studio/evaluations${path}`, { ...options, headers: { "Accept-Language": language, ...headers } });
    found = await answer.json();
  } catch { found = { detail: words.gone }; }
  if (!answer?.ok) throw Object.assign(new Error(found.detail), { told: true });
  return found;
};
const complain = (error) => { if (!error.told) throw error; part("error").textContent = error.message; };

// The form
const source = () => { const value = part("source").value; return value.startsWith("suite:") ? "suite" : value; };
const recipesOf = () => [...choices.recipes, ...Object.entries(own).map(([name, values]) => ({ name, ...values, installed: true, own: true }))];
const paired = () => {
  const base = (file) => file.webkitRelativePath.replace(/\.[^.]*$/, "");
  const texts = new Set(files.filter((file) => TEXT.test(file.name)).map(base));
  const pictures = files.filter((file) => PICTURE.test(file.name));
  const whole = pictures.filter((file) => texts.has(base(file)));
  const names = new Set(whole.map(base));
  return { pictures, whole, sent: files.filter((file) => names.has(base(file)) && (PICTURE.test(file.name) || TEXT.test(file.name))) };
};
const promptCount = () => {
  if (source() === "suite") return choices.suites.find((one) => `suite:${one.name}` === part("source").value).count;
  if (source() === "folder") return paired().whole.length;
  if (source() !== "text") return null;
  const lines = part("text").value.split("\n").filter((line) => line.trim() && !(kind === ".txt" && line.startsWith("# ")));
  return Math.max(lines.length - (kind === ".csv" ? 1 : 0), 0);
};
const counted = () => {
  const prompts = promptCount(), limit = Number(part("limit").value) || Infinity;
  const clips = prompts === null ? 0 : Math.min(prompts, limit) * order.length * (Number(part("seeds").value) || 1);
  part("count").textContent = clips ? words.count(clips) : "";
  part("prompts-about").textContent = source() === "folder" && files.length ? words.found(paired().pictures.length, paired().whole.length) : source() === "text" ? words.text_hint : "";
};
const drawSources = () => {
  const chosen = part("source").value;
  const suites = choices.suites.map((one) => new Option(words.suite(one), `suite:${one.name}`));
  const others = [["text", words.own_text], ["folder", words.own_folder], ...(choices.paths ? [["path", words.own_path]] : [])];
  part("source").replaceChildren(...suites, ...others.map(([value, title]) => new Option(title, value)));
  part("source").value = chosen || "suite:nano";
  if (!part("source").value) part("source").selectedIndex = 0;
  turn();
};
const turn = () => {
  for (const at of element.querySelectorAll("[data-source]")) at.hidden = at.dataset.source !== source();
  counted();
};
const drawRecipes = () => {
  const sorted = recipesOf().sort((a, b) => b.installed - a.installed);
  part("recipes").replaceChildren(...sorted.map((one) => {
    const box = make("input", { type: "checkbox", value: one.name, checked: order.includes(one.name), disabled: !one.installed });
    box.onchange = () => { order = order.filter((name) => name !== one.name); if (box.checked) order.push(one.name); counted(); };
    const told = [one.model === one.name ? "" : one.model, one.weights === "none" ? "" : one.weights, ...Object.entries(one.settings).map(([key, value]) => `${key}=${value}`)].filter(Boolean).join(" ");
    const note = make("small", { textContent: one.installed ? told : words.not_installed });
    return make("label", {}, box, make("span", {}, `${one.name} `, note));
  }));
};
const drawForm = () => {
  if (!choices) return;
  drawSources();
  drawRecipes();
  const fill = (name, values) => {
    const chosen = part(name).value;
    part(name).replaceChildren(...values.map((value) => new Option(value, value)));
    if (values.includes(chosen)) part(name).value = chosen;
  };
  fill("own-model", choices.models);
  fill("own-weights", choices.weights);
  part("own-about").textContent = words.own_about(choices.settings.filter((name) => !["prompt", "first_image"].includes(name)).join(", "));
  part("scores-about").textContent = choices.scores ? (choices.texts ? "" : words.no_reader) : words.no_cv;
  if (!choices.scores) Object.assign(part("scores"), { checked: false, disabled: true });
  part("text").placeholder = words.text_hint;
};
const typed = (text) => { try { return JSON.parse(text); } catch { return text; } };
part("own-add").onclick = () => {
  part("error").textContent = "";
  const name = part("own-name").value.trim(), said = part("own-settings").value.trim().split(/\s+/).filter(Boolean).map((one) => one.split(/=(.*)/s));
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$/.test(name) || said.some((one) => one.length < 2 || !one[0])) { part("error").textContent = words.own_bad; return; }
  const settings = Object.fromEntries(said.map(([key, value]) => [key, typed(value)]));
  own[name] = { model: part("own-model").value, weights: part("own-weights").value, settings };
  order = [...order.filter((one) => one !== name), name];
  drawRecipes();
  counted();
};
part("text-file").onchange = async () => {
  const [file] = part("text-file").files;
  if (!file) return;
  kind = (file.name.match(/\.(txt|csv|jsonl)$/i)?.[0] ?? ".txt").toLowerCase();
  part("text").value = await file.text();
  counted();
};
part("text").addEventListener("input", () => { if (!part("text").value.trim()) kind = ".txt"; counted(); });
part("pictures").onchange = () => { files = [...part("pictures").files]; counted(); };
part("source").onchange = turn;
for (const name of ["seeds", "limit"]) part(name).addEventListener("input", counted);

part("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy || !choices) return;
  part("error").textContent = "";
  const from = source(), limit = Number(part("limit").value);
  if (!order.length) { part("error").textContent = words.pick; return; }
  if (promptCount() === 0 || (from === "path" && !part("path").value.trim())) { part("error").textContent = words.no_prompts; return; }
  const prompts = { suite: part("source").value.slice(6), text: kind, folder: "", path: part("path").value.trim() }[from];
  const mine = Object.fromEntries(order.filter((name) => own[name]).map((name) => [name, { model: own[name].model, weights: own[name].weights, ...own[name].settings }]));
  const told = { name: part("name").value.trim(), source: from, prompts, recipes: order, own: mine, seeds: Number(part("seeds").value) || 1, limit: limit || null,
    shuffle: part("shuffle").checked, no_scores: !part("scores").checked, text: from === "text" ? part("text").value : "" };
  busy = part("start").disabled = true;
  let name = "";
  try {
    ({ name } = await call("", told));
    if (from === "folder") {
      const sent = paired().sent;
      for (const [at, file] of sent.entries()) {
        part("count").textContent = words.sending(at, sent.length);
        await call(`/${name}/file/${encodeURIComponent(file.name)}`, file);
      }
      await call(`/${name}/start`, {});
    }
    part("name").value = "";
  } catch (error) {
    if (name) await call(`/${name}/remove`, {}).catch(() => {}); // its pictures did not arrive
    complain(error);
  } finally { busy = part("start").disabled = false; }
  counted();
  look();
});

// The list
const duration = (seconds) => {
  const minutes = Math.round(seconds / 60);
  return seconds < 90 ? words.seconds(Math.round(seconds)) : minutes < 90 ? words.minutes(minutes) : words.hours(Math.floor(minutes / 60), minutes % 60);
};
const size = (bytes) => (bytes > 2 ** 30 / 10 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${(bytes / 2 ** 20).toFixed(1)} MB`);
const describe = (one, free) => {
  const total = one.made + one.failed + one.waiting, live = one.stage === "running" || one.stage === "elsewhere";
  return [words.made(one.made, total), one.failed && words.failures(one.failed), one.measured > 0 && one.measured < one.made && words.measured(one.measured),
    live && one.waiting && one.seconds_left !== null && words.left(duration(one.seconds_left)), live && one.waiting && one.bytes_left !== null && words.needs(size(one.bytes_left)),
    live && words.free(size(free))].filter(Boolean).join(" · ");
};
const act = (name, what, title) => {
  const button = make("button", { type: "button", textContent: title });
  button.dataset.act = what;
  button.onclick = async () => {
    if (what === "remove" && !button.classList.contains("sure")) { // a second click does it
      button.classList.add("sure");
      button.textContent = words.sure;
      setTimeout(() => { button.classList.remove("sure"); button.textContent = title; drawList(); }, 4000);
      return;
    }
    button.classList.remove("sure");
    button.disabled = true;
    part("error").textContent = "";
    await call(`/${name}/${what}`, {}).catch(complain);
    look();
  };
  return button;
};
const draw = (one, free) => {
  const asked = one.asked, from = asked && { suite: asked.prompts, text: words.text, folder: words.pictures, path: asked.prompts }[asked.source];
  const total = one.made + one.failed + one.waiting;
  const bar = make("i", {});
  bar.style.width = `${total ? (100 * (one.made + one.failed)) / total : 0}%`;
  const acts = make("div", { className: "deeds" });
  if (one.report) acts.append(make("a", { className: "report", href: one.report, target: "_blank", textContent: words.report }));
  if (one.report) acts.append(make("button", { type: "button", textContent: words.blind, onclick: () => document.querySelector('#tabs [role="tab"][data-tab-id="blind"]')?.click() }));
  if (one.stage === "running") acts.append(act(one.name, "stop", words.stop));
  else if (one.stage !== "elsewhere") {
    const title = one.stage === "draft" ? words.begin : one.stage !== "ended" ? words.go_on : one.failed ? words.again : "";
    if (asked && title) acts.append(act(one.name, "start", title));
    acts.append(act(one.name, "remove", words.remove));
  }
  const run = make("article", { className: "run" },
    make("header", {}, make("b", { textContent: one.name }), make("span", { className: `stage ${one.stage}`, textContent: words[one.stage] })),
    make("p", { className: "soft", textContent: asked ? words.by(from, asked.recipes, asked.seeds) : words.terminal }),
    make("div", { className: "bar" }, bar),
    make("p", { className: "soft", textContent: describe(one, free) }));
  const said = one.error ?? (one.stage === "running" ? one.notice : null);
  if (said) run.append(make("p", { className: one.error ? "error" : "soft", textContent: said[language] }));
  run.append(acts);
  run.dataset.name = one.name;
  return run;
};
const drawList = () => {
  if (!known || element.querySelector(".deeds .sure")) return;
  part("empty").hidden = known.evaluations.length > 0;
  part("list").replaceChildren(...known.evaluations.map((one) => draw(one, known.free_bytes)));
};
const look = async () => {
  clearTimeout(timer);
  const seen = element.offsetParent && !document.hidden;
  let live = false;
  if (seen) {
    try {
      const now = await call("");
      live = now.evaluations.some((one) => one.stage === "running" || one.stage === "elsewhere");
      if (JSON.stringify(now) !== JSON.stringify(known)) { known = now; drawList(); }
    } catch (error) { if (!error.told) throw error; } // the page itself says when the program is gone
  }
  clearTimeout(timer);
  timer = setTimeout(look, live ? BUSY_MS : IDLE_MS);
};
const speak = () => {
  language = document.documentElement.lang === "zh" ? "zh" : "en";
  words = WORDS[language];
  for (const at of element.querySelectorAll("[data-say]")) at.textContent = words[at.dataset.say];
  drawForm();
  drawList();
};
new MutationObserver(speak).observe(document.documentElement, { attributeFilter: ["lang"] });
let was = false;
new IntersectionObserver(([now]) => { if (now.isIntersecting && !was) look(); was = now.isIntersecting; }).observe(element);
speak();
call("/choices").then((told) => {
  choices = told;
  const first = choices.recipes.find((one) => one.installed);
  if (first) order = [first.name];
  drawForm();
}, complain);
