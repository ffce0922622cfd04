// Light or dark as the page itself (page.js): the system's choice until the button was used.
(() => {
  const root = document.documentElement;
  const paint = (chosen) => ["light", "dark"].forEach((name) => root.classList.toggle(name, name === chosen));
  const isDark = () =>
    root.classList.contains("dark") ||
    (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  paint(localStorage.getItem("studio-theme"));
  addEventListener("DOMContentLoaded", () => { // what a link names on the page behind is still named after the login
    document.querySelector("form").action += location.hash;
    for (const link of document.querySelectorAll("nav a")) link.hash = location.hash;
  });
  addEventListener("click", (event) => {
    if (!event.target.closest("#theme")) return;
    const chosen = isDark() ? "light" : "dark";
    localStorage.setItem("studio-theme", chosen);
    paint(chosen);
  });
})();
