// What makes the console handier. Every page works without it.
"use strict";

// Copying: the button is there only where something can copy.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// A second click sends a form no second time: what it makes is shown in the answer to the first.
for (const form of document.querySelectorAll("form[method=post]")) {
  let sent = 0;
  form.addEventListener("submit", (event) => {
    if (Date.now() - sent < 2000) event.preventDefault();
    else sent = Date.now();
  });
}

// A slash goes to the search.
const focus = document.querySelector("[data-focus]");
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (focus && event.key === focus.dataset.focus && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    focus.focus();
  }
});

// Searching while somebody types: the same page is asked for, and its results put in place of those that stand here.
for (const form of document.querySelectorAll("form[data-live]")) {
  let waiting, asked;
  const search = async () => {
    const url = form.action + "?" + new URLSearchParams(new FormData(form));
    if (asked) asked.abort();
    asked = new AbortController();
    try {
      const answer = await fetch(url, { signal: asked.signal, redirect: "follow" });
      if (answer.redirected) return location.assign(answer.url);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const results = page.querySelector(form.dataset.live);
      if (results) document.querySelector(form.dataset.live).replaceChildren(...results.children);
      history.replaceState(null, "", url);
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  };
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 200);
  };
  form.addEventListener("input", soon);
}

// What is told of a token's use, or of work that is under way, renews itself while somebody looks: the same page is asked for, and
// these parts of it put in place of those that have changed, until a page has nothing more that renews itself. The server is told
// that nobody has asked, and nothing is announced.
const renewed = document.querySelectorAll("[data-renew]");
if (renewed.length) {
  let next;
  const every = Math.min(...[...renewed].map((part) => Number(part.dataset.renew) || 15));
  const renew = async () => {
    try {
      const answer = await fetch(location.href, { headers: { "x-renews": "yes" } });
      // Nobody is signed in any more: the page says so.
      if (answer.redirected) return location.reload();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of renewed) {
        const now = page.getElementById(part.id);
        if (now && now.innerHTML !== part.innerHTML) part.replaceChildren(...now.childNodes);
      }
      if (!page.querySelector("[data-renew]")) return (next = undefined);
    } catch {
      // The next time, perhaps.
    }
    later();
  };
  const later = () => {
    clearTimeout(next);
    if (!document.hidden) next = setTimeout(renew, every * 1000);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(next) : next && renew()));
  later();
}

// Going on by itself where a page leads to the next part: each is put behind those that stand here.
const go_on = async () => {
  for (let link; (link = document.querySelector("a[data-on]")); ) {
    const answer = await fetch(link.href, { redirect: "follow" });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = page.querySelector(link.dataset.on);
    if (!parts) return;
    document.querySelector(link.dataset.on).append(...parts.children);
    link.parentElement.replaceChildren(...page.getElementById(link.parentElement.id).children);
  }
};
go_on();

// A file into a field: without script it is pasted.
for (const file of document.querySelectorAll("input[data-into]")) {
  file.closest("[hidden]").hidden = false;
  file.addEventListener("change", async () => {
    if (file.files.length) document.querySelector(file.dataset.into).value = await file.files[0].text();
  });
}
