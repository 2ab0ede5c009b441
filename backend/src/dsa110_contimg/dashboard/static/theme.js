/* The theme, before anything is drawn: what the person chose, or what the system says. */
"use strict";
(() => {
  const order = ["system", "light", "dark"];
  const root = document.documentElement;
  const read = () => { try { return localStorage.getItem("theme") || "system"; } catch { return "system"; } };
  const apply = (theme) => { if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme; };
  apply(read());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const marks = { system: "◐", light: "☀", dark: "☾" };
    const show = () => {
      button.textContent = marks[read()];
      button.title = `Theme: ${read()}`;
      button.setAttribute("aria-label", button.title);
    };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      const next = order[(order.indexOf(read()) + 1) % order.length];
      try { localStorage.setItem("theme", next); } catch { /* it lasts for this page */ }
      apply(next);
      show();
      document.dispatchEvent(new Event("theme"));
    });
  });
})();
