// What only the browser can do: keys, light and dark, drops anywhere on the page, the tab's title, copying.
(() => {
  const TITLE = "Step-Video Studio";
  const find = (selector) => document.querySelector(selector);

  // Light or dark: the system's choice until the button was used. Gradio sets the class, we correct it.
  const paint = () => {
    const chosen = localStorage.getItem("studio-theme");
    if (chosen && document.body.classList.contains("dark") !== (chosen === "dark"))
      document.body.classList.toggle("dark", chosen === "dark");
  };
  addEventListener("DOMContentLoaded", () => {
    paint();
    new MutationObserver(paint).observe(document.body, { attributeFilter: ["class"] });
  });

  // Where the page is not secure (another device, without https) the browser has no clipboard for it.
  const copyOld = (words) => {
    const field = Object.assign(document.createElement("textarea"), { value: words });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest(".skip")) {
      event.preventDefault();
      find("#prompt textarea")?.focus();
    }
    if (event.target.closest("#theme-switch")) {
      localStorage.setItem("studio-theme", document.body.classList.contains("dark") ? "light" : "dark");
      paint();
    }
    if (event.target.closest("#to-queue")) {
      find('#tabs [role="tab"][data-tab-id="create"]')?.click();
      const shown = () => find("#queue .queue") ?? find("#stage");
      setTimeout(() => shown()?.scrollIntoView({ behavior: "smooth", block: "nearest" }), 60);
    }
    if (event.target.closest("#generate") && innerWidth < 860)
      setTimeout(() => find("#message .alert") || find("#stage")?.scrollIntoView({ behavior: "smooth" }), 700);
    if (event.target.closest("#examples [data-id]") && innerWidth < 860) // what it fills stands above
      find("#prompt")?.scrollIntoView({ behavior: "smooth" });
    if (event.target.closest("#latest .card, .grid .card") && innerWidth < 860) // what it opens stands above
      find(event.target.closest(".grid") ? "#detail" : "#stage")?.scrollIntoView({ behavior: "smooth" });
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      if (navigator.clipboard) navigator.clipboard.writeText(copy.textContent);
      else copyOld(copy.textContent);
      copy.classList.add("copied");
      setTimeout(() => copy.classList.remove("copied"), 900);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    if (!find("#generate")?.checkVisibility()) return; // another tab
    event.preventDefault();
    find("#generate").click();
  }, true);

  // A file dropped or pasted anywhere finds its place: pictures become the first image, others are read for settings.
  const deliver = (file, target) => {
    const restores = target?.closest?.("#restore-file") || !file.type.startsWith("image/");
    const input = find(`${restores ? "#inbox" : "#first-image"} input[type=file]`);
    if (!input) return;
    const parcel = new DataTransfer();
    parcel.items.add(file);
    input.files = parcel.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const take = (files, target) => { // several pictures at once are a video each, if wanted
    const pictures = [...files].filter((file) => file.type.startsWith("image/"));
    if (pictures.length > 1) document.dispatchEvent(new CustomEvent("pictures", { detail: pictures }));
    else if (files.length) deliver(files[0], target);
  };
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const light = (on) => document.body.classList.toggle("dragging", on); // while a file is over the page
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    light(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) light(false); });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    light(false);
    take(event.dataTransfer.files, event.target);
  }, true);
  addEventListener("paste", (event) => {
    take(event.clipboardData?.files ?? [], null);
  });

  // Whoever has a keyboard types at once; on a phone that would hide the stage behind the keys.
  const ready = setInterval(() => {
    const prompt = find("#prompt textarea");
    if (!prompt) return;
    clearInterval(ready);
    if (innerWidth >= 860 && document.activeElement === document.body) prompt.focus({ preventScroll: true });
  }, 100);

  // A link may name a tab and what it is to show there: #blind-0123456789abcdef.
  const named = location.hash.match(/^#([a-z]+)-/)?.[1];
  const opening = named && setInterval(() => {
    const tab = find(`#tabs [role="tab"][data-tab-id="${named}"]`);
    if (!tab || !find(".system")) return;
    clearInterval(opening);
    tab.click();
  }, 100);

  // The tab says how far the video is; the page says which language it is in.
  setInterval(() => {
    const done = find(".system")?.dataset.title;
    const title = done ? `${done} · ${TITLE}` : TITLE;
    if (document.title !== title) document.title = title;
    const language = find("[data-language]")?.dataset.language;
    if (language && document.documentElement.lang !== language) document.documentElement.lang = language;
  }, 500);
})();
