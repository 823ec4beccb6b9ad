// Keep an open page up to date: fetch it again and patch every [data-live] element.
// Without this script, a reload does the same. `say` and `addCopyButtons` are in copy.js.
(() => {
  "use strict";
  const liveElements = () => document.querySelectorAll("[data-live]");
  const button = document.getElementById("live");
  const status = document.getElementById("status");
  const interval = Number(document.body.dataset.every) * 1000;
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  let etag = null;
  let timer = 0;
  let request = null;
  let paused = false;
  let announcedAt = -Infinity;
  let filtered = false;
  let counts = new Map();
  let unannounced = new Map();

  // Elements with an id are matched by id, others by place. Equal elements are not
  // touched, so focus, selection and half-filled forms survive.
  function patch(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !isFold(old, name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (!isFold(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
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
        patch(same, child);
      } else if (same) {
        old.insertBefore(same, place);
        patch(same, child);
      } else {
        old.insertBefore(child, place);
        if (child.id && child.matches("li, tr")) highlight(child);
      }
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      drop(gone);
    }
  }

  // A person opens and closes a fold. An update does not.
  const isFold = (element, name) => element.nodeName === "DETAILS" && name === "open";

  // A row whose link has the focus stays until the first change after it lost the focus.
  function drop(node) {
    const focused = document.activeElement;
    if (!focused.matches("li a, tr a") || !node.contains(focused)) node.remove();
  }

  function highlight(element) {
    if (reducedMotion.matches || filtered) return;
    const colour = getComputedStyle(document.body).getPropertyValue("--glow");
    element.animate([{ backgroundColor: colour }, {}], { duration: 1600, easing: "ease-out" });
  }

  // Times are in UTC without this script. Their titles stay so.
  const relative = new Intl.RelativeTimeFormat("en", { style: "short" });
  function fromNow(at) {
    const seconds = (at - Date.now()) / 1000;
    const units = [[86_400, "day"], [3600, "hour"], [60, "minute"]];
    const unit = units.find(([size]) => Math.abs(seconds) >= size);
    if (unit) return relative.format(Math.trunc(seconds / unit[0]), unit[1]);
    return seconds > 0 ? "in under a minute" : "just now";
  }
  function localise(root) {
    const today = new Date().toDateString();
    const two = (number) => String(number).padStart(2, "0");
    for (const element of root.querySelectorAll("time[datetime]")) {
      const at = new Date(element.dateTime);
      const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
      const date = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(two).join("-");
      if (isNaN(at)) continue;
      const texts = at.toDateString() === today ? [time] : [date, time];
      if ("ago" in element.dataset) texts.push(`(${fromNow(at)})`);
      if (element.textContent === texts.join(" ")) continue;
      element.replaceChildren(...texts.flatMap((text, place) => {
        const part = element.ownerDocument.createElement("span");
        part.textContent = text;
        return place ? [" ", part] : [part];
      }));
    }
    for (const element of root.querySelectorAll("[data-zone]")) {
      element.textContent = "local time";
    }
  }

  function show(fresh) {
    localise(fresh);
    addCopyButtons(fresh);
    const focused = document.activeElement;
    for (const old of liveElements()) {
      const other = fresh.getElementById(old.id);
      if (other) patch(old, document.adoptNode(other));
    }
    // A restarted server accepts only its new form token.
    const token = fresh.querySelector("[name=form_token]");
    for (const field of document.getElementsByName("form_token")) {
      if (token) field.value = token.value;
    }
    document.title = fresh.title;
    filtered = false;
    if (focused && !document.contains(focused)) {
      (document.querySelector("[data-undo]") ?? document.getElementById("main"))
        .focus({ preventScroll: true });
    }
    count();
  }

  // Screen readers get new rows in one sentence, at most every 20 seconds.
  function count() {
    for (const element of document.querySelectorAll("[data-count]")) {
      const number = Number(element.dataset.count);
      const before = counts.get(element.id);
      if (before !== undefined && number > before) {
        const nouns = element.dataset.nouns;
        unannounced.set(nouns, (unannounced.get(nouns) || 0) + number - before);
      }
      counts.set(element.id, number);
    }
  }
  function announce() {
    if (!unannounced.size || performance.now() - announcedAt < 20_000) return;
    const texts = [...unannounced].map(([nouns, number]) => {
      const [one, more] = nouns.split("/");
      return `${number} new ${number === 1 ? one : more}`;
    });
    status.textContent = texts.join(", ");
    announcedAt = performance.now();
    unannounced.clear();
  }

  function setState(state, text) {
    const before = button.dataset.state;
    button.dataset.state = state;
    button.title = paused ? "Continue" : "Pause";
    button.querySelector("[data-state-text]").textContent = text;
    if (state === before) return;
    if (state === "lost") status.textContent = `${text}. Trying again.`;
    else if (before === "lost" && state === "live") status.textContent = "Connected again.";
  }

  async function refresh() {
    clearTimeout(timer);
    request?.abort();
    request = new AbortController();
    const timeout = AbortSignal.timeout(10_000);
    const headers = { Accept: "text/html" };
    if (etag) headers["If-None-Match"] = etag;
    try {
      const response = await fetch(location.href, {
        headers, cache: "no-store", redirect: "manual",
        signal: AbortSignal.any([request.signal, timeout]),
      });
      if (response.status === 200) {
        etag = response.headers.get("ETag");
        show(new DOMParser().parseFromString(await response.text(), "text/html"));
      } else if (response.status === 401 || response.status === 404) {
        location.reload();
        return;
      } else if (response.status !== 304) {
        throw new Error("no page", { cause: `Error ${response.status}` });
      }
      if (paused) setState("paused", "Paused");
      else setState("live", "Live");
    } catch (error) {
      if (error.name === "AbortError") return;
      setState("lost", error.cause ?? "No response");
    }
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, interval);
  }

  // A form with data-stay is sent without leaving the page. The page in the response is
  // shown in this one.
  async function send(form, submitter) {
    if (form.ariaBusy === "true") return; // a double click
    form.ariaBusy = "true";
    await sendOnce(form, submitter);
    form.removeAttribute("aria-busy");
  }
  async function sendOnce(form, submitter) {
    const body = new URLSearchParams(new FormData(form, submitter));
    request?.abort();
    let response;
    try {
      response = await fetch(form.action, {
        method: "POST", body, headers: { Accept: "text/html" },
      });
    } catch {
      setState("lost", "No response");
      say("Not sent.");
      schedule();
      return;
    }
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const other = form.id ? fresh.getElementById(form.id) : null;
    if (response.ok) {
      if (other) patch(form, document.importNode(other, true));
      form.reset();
      show(fresh);
      form.closest("details.edit")?.removeAttribute("open");
      say(form.dataset.done);
    } else if (other) {
      patch(form, document.adoptNode(other));
      form.querySelector("[aria-invalid=true]")?.focus();
    } else {
      delete form.dataset.stay;
      form.requestSubmit(submitter); // refused: the browser shows the reason
      return;
    }
    etag = null;
    schedule();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-stay]");
    if (!form) return;
    event.preventDefault();
    send(form, event.submitter);
  });

  // A filter applies at once and keeps the focus.
  document.addEventListener("change", ({ target }) => {
    if (!target.matches("[data-go]")) return;
    const given = [...new FormData(target.form)].filter(([, value]) => value);
    const query = new URLSearchParams(given);
    history.replaceState(null, "", `?${query}`);
    filtered = true;
    etag = null;
    refresh();
  });

  localise(document);
  addCopyButtons(document);
  setInterval(() => localise(document), 30_000);
  if (!liveElements().length) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    if (!paused) {
      refresh();
      return;
    }
    request?.abort();
    clearTimeout(timer);
    setState("paused", "Paused");
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) refresh();
  });
  // Back restores the pause and the places of the lists.
  const lists = () => document.querySelectorAll(".rows");
  addEventListener("pagehide", () => {
    const places = [...lists()].map((list) => list.scrollTop);
    history.replaceState({ paused, places, top: scrollY }, "");
  });
  if (history.state?.places) {
    lists().forEach((list, number) => { list.scrollTop = history.state.places[number]; });
    scrollTo(0, history.state.top);
    if (history.state.paused) button.click();
  }
  count();
  if (!paused) setState("live", "Live");
  setInterval(announce, 5000);
  schedule();
})();
