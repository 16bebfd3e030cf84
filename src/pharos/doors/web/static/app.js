/* Sliders, questions that are asked as one moves, and the address that holds them; htmx fetches and swaps. */
"use strict";
(() => {
  const WAIT_MS = 60, SLOW_MS = 700, KEY_MS = 300, SPEAK_MS = 500, SAME_MS = 1500;
  let timer, speaker, lastKey = -1e9, last = { field: "", at: 0 };
  document.documentElement.classList.add("js");

  const form = () => document.querySelector("form[data-live]");

  /** The question as a query: empty fields are left out. */
  function query(of) {
    const pairs = new URLSearchParams(of.dataset.step ? { step: of.dataset.step } : {});
    for (const [name, value] of new FormData(of)) if (value !== "") pairs.append(name, value);
    return pairs.toString();
  }

  /** Puts the question into the address: one entry of the history for a field that is moved about. */
  function remember(of, field) {
    const address = of.getAttribute("action") + "?" + query(of);
    if (address === location.pathname + location.search) return;
    const again = field === last.field && performance.now() - last.at < SAME_MS;
    history[again ? "replaceState" : "pushState"](null, "", address);
    last = { field, at: performance.now() };
  }

  /** Asks for the answer alone, or for the form with it where other fields depend on the one that changed. */
  function ask(of, field, whole) {
    const typed = performance.now() - lastKey < KEY_MS && document.activeElement?.tagName === "SELECT";
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!of.isConnected) return;
      if (whole) {
        const path = of.getAttribute("action") + "/whole?" + query(of);
        htmx.ajax("GET", path, { target: "#page", swap: "innerHTML" });
      } else {
        htmx.trigger(of, "ask");
      }
      // a menu in which someone types a name must not be replaced between two letters
    }, of.hasAttribute("data-slow") || typed ? SLOW_MS : WAIT_MS);
  }

  const isWhole = (el) => el.hasAttribute("data-whole");

  document.addEventListener("keydown", () => { lastKey = performance.now(); }, true);

  document.addEventListener("input", (event) => {
    const el = event.target, of = el.closest("form[data-live]");
    if (!of || isWhole(el) || el.type === "checkbox") return;
    if (el.matches(".slider")) {
      const field = document.getElementById(el.dataset.for);
      field.value = el.dataset.stops.split(",")[Number(el.value)];
      valueText(el);
    } else {
      follow(of, el);
    }
    ask(of, el.id, false);
  });

  document.addEventListener("change", (event) => {
    const el = event.target, of = el.closest("form[data-live]");
    if (!of) return;
    const name = el.matches(".slider") ? el.dataset.for : el.id || el.name;
    remember(of, name);
    if (isWhole(el)) ask(of, name, true);
    else if (el.type === "checkbox" || el.tagName === "SELECT") ask(of, name, false);
  });

  document.addEventListener("submit", (event) => {
    const of = event.target;
    if (!of.matches("form[data-live]") || of.hasAttribute("data-native")) return;
    event.preventDefault();
    remember(of, "");
    ask(of, "", true);
  });

  /** Moves a slider to the stop nearest to what was typed. */
  function follow(of, field) {
    const slider = of.querySelector('.slider[data-for="' + field.id + '"]');
    if (!slider) return;
    const value = Number(field.value), stops = slider.dataset.stops.split(",").map(Number);
    if (!Number.isFinite(value)) return;
    let near = 0;
    stops.forEach((stop, i) => { if (Math.abs(stop - value) < Math.abs(stops[near] - value)) near = i; });
    slider.value = String(near);
    valueText(slider);
  }

  function valueText(slider) {
    slider.setAttribute("aria-valuetext", slider.dataset.stops.split(",")[Number(slider.value)]);
  }

  /** Tells the verdict to those who listen, once it has come to rest. */
  function speak() {
    clearTimeout(speaker);
    speaker = setTimeout(() => {
      const told = document.querySelector("[data-summary]"), place = document.getElementById("told");
      if (told && place && place.textContent !== told.dataset.summary) place.textContent = told.dataset.summary;
    }, SPEAK_MS);
  }

  /** Marks the field that a mistake is in. */
  function mark() {
    const of = form();
    if (!of) return;
    of.querySelectorAll("[aria-invalid]").forEach((el) => el.removeAttribute("aria-invalid"));
    const wrong = document.querySelector(".mistake[data-field]");
    const id = wrong && wrong.dataset.field && "f-" + wrong.dataset.field.replaceAll(".", "-");
    const field = id && document.getElementById(id);
    if (field) {
      field.setAttribute("aria-invalid", "true");
      const holder = field.closest("details");
      if (holder) holder.open = true;
    }
  }

  function settled() {
    document.querySelectorAll(".slider").forEach(valueText);
    mark();
    speak();
  }

  document.addEventListener("DOMContentLoaded", settled);
  document.addEventListener("htmx:afterSettle", settled);
  document.addEventListener("htmx:sendError", () => {
    const place = document.getElementById("told");
    if (place) place.textContent = "The server does not answer.";
    document.body.classList.add("lost");
  });
  document.addEventListener("htmx:afterOnLoad", () => document.body.classList.remove("lost"));
  // the address holds the whole question, so going back is asking it again
  window.addEventListener("popstate", () => location.reload());
})();
