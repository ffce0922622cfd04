"use strict";
// The test as a page of its own: its language, and the one test that there is.
const button = document.getElementById("language");
const speak = (name) => { document.documentElement.lang = name; button.textContent = name === "en" ? "中文" : "English"; };
speak((navigator.language || "en").startsWith("zh") ? "zh" : "en");
button.onclick = () => speak(document.documentElement.lang === "en" ? "zh" : "en");
const element = document.querySelector("main");
startBlindTest(element, null);
