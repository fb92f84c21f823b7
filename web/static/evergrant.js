// What a page can do better with scripts. Each works without this file, too.
(() => {
  "use strict";

  // --- times in the reader's zone, the exact UTC on hover -------------------------------------------------

  const day = { day: "numeric", month: "long", year: "numeric" };
  const clock = { hour: "2-digit", minute: "2-digit" };
  const written = (form) => new Intl.DateTimeFormat("en-GB", form);
  const forms = { day: written(day), clock: written(clock), when: written({ ...day, ...clock }) };
  const exact = written({ ...day, ...clock, second: "2-digit", timeZoneName: "short" });

  function inReadersZone() {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      const form = forms[time.dataset.form];
      if (form) time.textContent = form.format(moment).replace(" at ", ", ");
      const utc = time.dateTime.replace("T", " ").replace("Z", " UTC");
      time.title = `${exact.format(moment).replace(" at ", ", ")}\n${utc}`;
    }
  }

  // --- copying --------------------------------------------------------------------------------------------

  // The text stands beside the button, so nothing is lost where a browser does not let a page copy.
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        document.getElementById("said").textContent = "Copied.";
        button.classList.add("done");
      });
    }
  }

  // --- pages that change by themselves (htmx asks, see templates/live.html) -------------------------------

  // A part of a page that changes has hx-trigger="every 10s, look from:body". While nobody sees the page it
  // does not ask, and when somebody looks again it asks at once.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.detail.ctx.sourceEvent?.type === "every") event.preventDefault();
  });
  const look = () => document.hidden || document.body.dispatchEvent(new Event("look"));
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  window.addEventListener("pageshow", (event) => event.persisted && look());

  // Two misses in a row: the page says that it shows how things stood, and takes it back when it does not.
  const lost = document.getElementById("lost");
  let misses = 0;
  let answered = new Date();
  const missed = (event) => {
    const asking = event.detail.ctx?.sourceElement.querySelector(".asking");
    if (asking) asking.textContent = "That did not work. Open the page anew to ask again.";
    misses += 1;
    if (misses < 2 || lost.textContent) return;
    lost.textContent =
      `The live connection is lost. This page shows how things stood at ${forms.clock.format(answered)}, ` +
      "and goes on by itself.";
  };
  document.addEventListener("htmx:error", missed);
  document.addEventListener("htmx:after:request", (event) => {
    if (event.detail.ctx.response.status >= 400) return missed(event);
    misses = 0;
    answered = new Date();
    lost.textContent = "";
  });

  // What has data-news shows it when that changes, and says it to who listens.
  let before = new Map();
  const news = () => [...document.querySelectorAll("[data-news]")];
  document.addEventListener("htmx:before:swap", () => {
    before = new Map(news().map((element) => [element.id, element.dataset.news]));
  });
  document.addEventListener("htmx:after:swap", () => {
    inReadersZone();
    for (const element of news()) {
      if (before.has(element.id) && before.get(element.id) !== element.dataset.news) {
        element.classList.add("news");
        document.getElementById("said").textContent = element.textContent;
      }
    }
  });

  document.addEventListener("DOMContentLoaded", inReadersZone);
})();
