/* What every page does beyond its HTML: ask before something that cannot be undone, say what arrived. */
"use strict";
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
/* A control with data-submits sends its form when it changes, so that a filter needs no button. */
document.addEventListener("change", (event) => {
  if (event.target.dataset.submits !== undefined) event.target.form.requestSubmit();
});
/* An element with data-live is read out when htmx has replaced it. */
document.addEventListener("htmx:afterSwap", (event) => {
  const told = event.detail.target.dataset.live;
  if (told) document.getElementById("live").textContent = told;
});
/* On a narrow screen: the page's own name in the navigation, and the newest end of a drawing, are in view. */
const intoView = () => {
  const nav = document.querySelector(".nav"), here = nav && nav.querySelector("[aria-current]");
  if (here) nav.scrollLeft = here.offsetLeft - nav.clientWidth / 2;
  for (const drawing of document.querySelectorAll("[data-scroll=end]")) drawing.scrollLeft = drawing.scrollWidth;
};
document.addEventListener("DOMContentLoaded", intoView);
document.addEventListener("htmx:afterSettle", intoView);
