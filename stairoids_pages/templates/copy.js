// Add buttons that copy, and tell the person what happened. Without this script,
// a click on a command selects it.
"use strict";
let saying = 0;

// Feedback of an action, for everyone.
function say(text) {
  const status = document.querySelector("[data-says]");
  status.textContent = text;
  status.className = "said";
  clearTimeout(saying);
  saying = setTimeout(() => { status.className = "unseen"; }, 5000);
}

// A button before each command and body, and after each value within a line.
function addCopyButtons(root) {
  for (const source of navigator.clipboard ? root.querySelectorAll("[data-copy]") : []) {
    const copy = source.ownerDocument.createElement("button");
    copy.type = "button";
    copy.className = "quiet small copy";
    copy.textContent = "Copy";
    copy.ariaLabel = `Copy ${source.dataset.copy}`;
    if (source.nodeName === "CODE") source.after(" ", copy);
    else source.before(copy);
  }
}
document.addEventListener("click", async ({ target }) => {
  if (!target.matches(".copy")) return;
  const next = target.nextElementSibling;
  const source = next?.matches("[data-copy]") ? next : target.previousElementSibling;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    say("Copied.");
  } catch {
    say("The browser did not allow the copy.");
  }
});
