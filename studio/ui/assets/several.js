// Several pictures dropped or pasted at once: they are uploaded, then the page offers a video for each of them.
const MOST = 20;
let paths = [];
document.addEventListener("pictures", async (event) => {
  paths = [];
  for (const file of event.detail.slice(0, MOST)) {
    try {
      paths.push((await upload(file)).path);
    } catch { // too large, or the program is gone: the others may do
    }
  }
  trigger("select", { id: "offer", paths: JSON.stringify(paths), left: String(event.detail.length - paths.length) });
});
element.addEventListener("click", (event) => {
  const id = event.target.closest("[data-id]")?.dataset.id;
  if (id) trigger("select", { id, paths: JSON.stringify(paths) });
});
