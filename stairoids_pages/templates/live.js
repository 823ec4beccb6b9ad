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
  let paused = false;
  let told = -Infinity;
  let chosen = false;
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
        drop(gone);
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
        if (child.id && child.matches("li, tr")) glow(child);
      }
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      drop(gone);
    }
  }

  // A row whose link is focused stays until there is news after the focus has left.
  function drop(node) {
    const held = document.activeElement;
    if (!held.matches("li a, tr a") || !node.contains(held)) node.remove();
  }

  function glow(element) {
    if (calm.matches || chosen) return;
    const colour = getComputedStyle(document.body).getPropertyValue("--glow");
    element.animate([{ backgroundColor: colour }, {}], { duration: 1600, easing: "ease-out" });
  }

  function take(fresh) {
    for (const old of live()) {
      const other = fresh.getElementById(old.id);
      if (other) settle(old, document.adoptNode(other));
    }
    // A server that was started again knows its new forms only.
    const token = fresh.querySelector("[name=form_token]");
    for (const field of document.getElementsByName("form_token")) {
      if (token) field.value = token.value;
    }
    document.title = fresh.title;
    chosen = false;
    count();
  }

  // What is new is told to screen readers soon, in one sentence, and what comes
  // after that not more often than every 20 seconds.
  function count() {
    for (const element of document.querySelectorAll("[data-count]")) {
      const number = Number(element.dataset.count);
      const before = counts.get(element.id);
      if (before !== undefined && number > before) {
        const what = element.dataset.nouns;
        unsaid.set(what, (unsaid.get(what) || 0) + number - before);
      }
      counts.set(element.id, number);
    }
  }
  function tell() {
    if (!unsaid.size || performance.now() - told < 20_000) return;
    const words = [...unsaid].map(([nouns, number]) => {
      const [one, more] = nouns.split("/");
      return `${number} new ${number === 1 ? one : more}`;
    });
    news.textContent = words.join(", ");
    told = performance.now();
    unsaid.clear();
  }

  function say(state, words) {
    const before = button.dataset.state;
    button.dataset.state = state;
    button.title = paused ? "Go on" : "Pause";
    button.querySelector("[data-says]").textContent = words;
    if (state === before) return;
    if (state === "lost") news.textContent = `${words}. Trying again.`;
    else if (before === "lost" && state === "live") news.textContent = "Answered again.";
  }

  async function look() {
    clearTimeout(timer);
    asking?.abort();
    asking = new AbortController();
    const late = AbortSignal.timeout(10_000);
    const headers = { Accept: "text/html" };
    if (tag) headers["If-None-Match"] = tag;
    try {
      const answer = await fetch(location.href, {
        headers, cache: "no-store", redirect: "manual",
        signal: AbortSignal.any([asking.signal, late]),
      });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } else if (answer.status === 401 || answer.status === 404) {
        location.reload();
        return;
      } else if (answer.status !== 304) {
        throw new Error("no page", { cause: `Error ${answer.status}` });
      }
      if (paused) say("paused", "Paused");
      else say("live", "Live");
    } catch (error) {
      if (error.name === "AbortError") return;
      say("lost", error.cause ?? "No answer");
    }
    again();
  }

  function again() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(look, every);
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
      news.textContent = "Not sent.";
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

  // A choice that filters is taken at once, and stays focused.
  document.addEventListener("change", ({ target }) => {
    if (!target.matches("[data-go]")) return;
    const query = new URLSearchParams(new FormData(target.form));
    history.replaceState(null, "", `?${query}`);
    chosen = true;
    tag = null;
    look();
  });

  if (!live().length) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    if (!paused) {
      look();
      return;
    }
    asking?.abort();
    clearTimeout(timer);
    say("paused", "Paused");
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) look();
  });
  count();
  say("live", "Live");
  setInterval(tell, 5000);
  again();
})();
