// What pages do beyond HTML: a menu on phones, copying, asking before what can't be undone, the playground's quote and
// picture. Every page works without it.
"use strict";

document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  openMenu();
  copyCode();
  askFirst();
  sendOnChange();
  chooseAll();
  quoteAndGenerate();
});

function openMenu() {
  const button = document.querySelector(".menu-button");
  if (!button) return;
  const side = button.closest(".side");
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", String(side.classList.toggle("open")));
  });
}

function copyCode() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    await copy(source);
    const label = button.textContent;
    button.textContent = "Copied";
    tell("Copied to the clipboard.");
    setTimeout(() => { button.textContent = label; }, 1600);
  });
}

async function copy(source) {
  const text = source.textContent;
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // without TLS browsers have no clipboard: select it, and copy as a hand would
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  document.execCommand("copy");
  selection.removeAllRanges();
}

function tell(text) {
  document.getElementById("live").textContent = text;
}

function askFirst() {
  const dialog = document.getElementById("ask");
  if (!dialog) return;
  let asked = null;
  document.addEventListener("submit", (event) => {
    const by = event.submitter;
    const question = by?.dataset.ask;
    if (!question || event.target === dialog.querySelector("form")) return;
    event.preventDefault();
    asked = { form: event.target, by };
    dialog.querySelector("p").textContent = question;
    dialog.querySelector(".grave").textContent = by.dataset.verb || by.textContent;
    dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes" || !asked) return;
    const { form, by } = asked;
    for (const [name, value] of [["confirmed", "1"], [by.name, by.value]]) {
      if (!name) continue;
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value });
      form.append(field);
    }
    form.submit();
  });
}

function sendOnChange() {
  for (const select of document.querySelectorAll("select[data-send]")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }
}

function chooseAll() {
  for (const box of document.querySelectorAll("[data-all]")) {
    const others = () => document.querySelectorAll(`input[name="${box.dataset.all}"]`);
    box.addEventListener("change", () => others().forEach((other) => { other.checked = box.checked; }));
  }
}

function quoteAndGenerate() {
  const form = document.getElementById("playground");
  if (!form) return;
  const quote = document.getElementById("quote");
  const result = document.getElementById("result");
  let waiting, latest = 0;
  const fetched = async (action) => {
    const body = new URLSearchParams(new FormData(form));
    body.set("action", action);
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { accept: "text/x-fragment" } });
    if (answer.redirected) location.reload();  // signed out in the meantime: the door leads back here
    return answer.text();
  };
  const ask = async () => {
    const turn = ++latest;
    try {
      const html = await fetched("quote");
      if (turn === latest) quote.innerHTML = html;
    } catch {
      if (turn === latest) quote.textContent = "The gateway did not answer.";
    }
  };
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(ask, 350); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter;
    button.disabled = true;
    const began = performance.now();
    const status = document.createElement("div");
    status.className = "panel waiting";
    result.replaceChildren(status);
    const show = () => { status.textContent = `Developing, ${((performance.now() - began) / 1000).toFixed(0)} s`; };
    show();
    tell("Asking for the picture.");
    const clock = setInterval(show, 1000);
    try {
      result.innerHTML = await fetched("generate");
      tell(result.querySelector("h2")?.textContent ?? "");
    } catch {
      result.textContent = "The connection broke. The same request again gets the picture, and is not paid twice.";
    } finally {
      clearInterval(clock);
      button.disabled = false;
      ask();
    }
  });
  ask();
}
