// Keeps an open page up to date: asks for the page it is on, and lets every
// [data-live] element say what the answer says. Without this script a reload does it.
(() => {
  "use strict";
  const live = () => document.querySelectorAll("[data-live]");
  const button = document.getElementById("live");
  const news = document.getElementById("news");
  const every = Number(document.body.dataset.every) * 1000;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let tag = null;
  let timer = 0;
  let asking = null;
  let counts = new Map();
  let unsaid = new Map();

  // Elements with an id are recognised wherever they are; others by their place. What
  // is alike is left alone, so focus, selection and half-filled forms survive.
  function settle(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    const wanted = new Set([...fresh.children].map((child) => child.id));
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      while (place && place.id && place.id !== child.id && !wanted.has(place.id)) {
        const gone = place;
        place = place.nextSibling;
        gone.remove();
      }
      const same = child.id ? known.get(child.id) : place && !place.id ? place : null;
      if (same && same === place) {
        place = place.nextSibling;
        settle(same, child);
      } else if (same) {
        old.insertBefore(same, place);
        settle(same, child);
      } else {
        old.insertBefore(child, place);
        if (child.id && !calm.matches) glow(child);
      }
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  function glow(element) {
    const colour = getComputedStyle(document.body).getPropertyValue("--glow");
    element.animate([{ backgroundColor: colour }, {}], { duration: 1600, easing: "ease-out" });
  }

  function take(fresh) {
    for (const old of live()) {
      const other = fresh.getElementById(old.id);
      if (other) settle(old, document.adoptNode(other));
    }
    document.title = fresh.title;
    count();
  }

  // What is new is told to screen readers in one sentence, not more often than
  // every five seconds.
  function count() {
    for (const element of document.querySelectorAll("[data-count]")) {
      const number = Number(element.dataset.count);
      const before = counts.get(element.id);
      if (before !== undefined && number > before) {
        const what = element.dataset.noun;
        unsaid.set(what, (unsaid.get(what) || 0) + number - before);
      }
      counts.set(element.id, number);
    }
  }
  function tell() {
    if (!unsaid.size) return;
    news.textContent = [...unsaid].map(([what, number]) => `${number} new ${what}`).join(", ");
    unsaid.clear();
  }

  function say(state, words) {
    button.dataset.state = state;
    const place = button.querySelector("[data-says]");
    if (place.textContent === words) return;
    place.textContent = words;
    if (state === "lost") news.textContent = "No answer. Trying again.";
  }

  async function look() {
    clearTimeout(timer);
    asking = new AbortController();
    const headers = { Accept: "text/html" };
    if (tag) headers["If-None-Match"] = tag;
    try {
      const answer = await fetch(location.href, {
        headers, cache: "no-store", redirect: "manual", signal: asking.signal,
      });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } else if (answer.status === 401 || answer.status === 404) {
        location.reload();
        return;
      }
      say("live", "Live");
    } catch (error) {
      if (error.name === "AbortError") return;
      say("lost", "No answer");
    }
    again();
  }

  function again() {
    clearTimeout(timer);
    if (button.getAttribute("aria-pressed") !== "true" && !document.hidden) {
      timer = setTimeout(look, every);
    }
  }

  // A form marked so is sent without leaving the page, and the page it leads to is
  // shown in this one.
  async function send(form, submitter) {
    const body = new URLSearchParams(new FormData(form, submitter));
    asking?.abort();
    let answer;
    try {
      answer = await fetch(form.action, {
        method: "POST", body, headers: { Accept: "text/html" },
      });
    } catch {
      say("lost", "No answer");
      again();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const other = form.id ? fresh.getElementById(form.id) : null;
    if (answer.ok) {
      if (other) settle(form, document.adoptNode(other));
      form.reset();
      take(fresh);
      news.textContent = form.dataset.done;
    } else if (other) {
      settle(form, document.adoptNode(other));
      form.querySelector("[aria-invalid=true]")?.focus();
    } else {
      delete form.dataset.stay;
      form.requestSubmit(submitter); // nothing was taken: the browser shows why
      return;
    }
    tag = null;
    again();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-stay]");
    if (!form) return;
    event.preventDefault();
    send(form, event.submitter);
  });

  // A choice that filters is taken at once.
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-go]")) event.target.form.requestSubmit();
  });

  if (!live().length) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const pause = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pause));
    if (pause) {
      asking?.abort();
      say("paused", "Paused");
      clearTimeout(timer);
    } else {
      look();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && button.getAttribute("aria-pressed") !== "true") look();
  });
  count();
  say("live", "Live");
  setInterval(tell, 5000);
  again();
})();
