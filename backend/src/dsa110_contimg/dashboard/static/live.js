/* Elements with data-topics="queue jobs" are told when rows of these topics change: htmx triggers "live" on them.
   A page that is hidden does not listen (a browser has few connections to one server), and asks anew when it is shown. */
"use strict";
(() => {
  const parts = () => document.querySelectorAll("[data-topics]");
  const tell = (topics) => {
    for (const part of parts()) {
      if (!topics || part.dataset.topics.split(" ").some((topic) => topics.has(topic))) htmx.trigger(part, "live");
    }
  };
  let source = null, away = false;
  const begin = () => {
    if (source || document.hidden || !parts().length) return;
    source = new EventSource("/api/v1/events");
    source.addEventListener("change", (event) => tell(new Set(JSON.parse(event.data).topics)));
    source.addEventListener("trouble", () => tell(null));
    if (away) tell(null);
    away = false;
  };
  const end = () => { if (source) { source.close(); source = null; away = true; } };
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  addEventListener("pagehide", end);
  addEventListener("pageshow", begin);
})();
