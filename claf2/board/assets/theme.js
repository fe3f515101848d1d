// Runs before the page is painted: the theme, and the mark by which styles know that scripts run.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  try {
    const choice = localStorage.getItem("claf2-theme");
    if (choice === "light" || choice === "dark") root.dataset.theme = choice;
  } catch { /* a private window */ }
})();
