// Shows two pictures, takes an answer, sends it until the server has acknowledged it, and loads the next ones meanwhile.
"use strict";

const main = document.getElementById("vote");
const base = main.dataset.base;
const pictures = document.getElementById("pictures");
const images = [document.getElementById("first"), document.getElementById("second")];
const buttons = [...document.querySelectorAll("[data-choice]")];
const trouble = document.getElementById("trouble");

const SETTLE_MS = 250; // an answer that was meant for the pair before is not taken for this one
const RETRY_MS = [500, 1000, 2000, 5000];
const ZOOM = 2.5;

const loading = new Map(); // address -> promise of a decoded picture
let state = null;
let open = false; // whether an answer is taken
let shownAt = 0;
let hiddenAt = null;
let hiddenMs = 0;

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function load(address) {
  if (!loading.has(address)) {
    loading.set(address, (async () => {
      for (let attempt = 0; ; attempt += 1) {
        const image = new Image();
        image.src = attempt ? `${address}?again=${attempt}` : address;
        try {
          await image.decode();
          return image;
        } catch {
          say("The pictures do not arrive. Trying again.");
          await wait(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
        }
      }
    })());
  }
  return loading.get(address);
}

const addresses = (trial) => [`${base}${trial.position}/1`, `${base}${trial.position}/2`];

function say(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

async function request(address, options) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await fetch(address, { cache: "no-store", ...options });
      if (answer.ok) {
        say("");
        return await answer.json();
      }
      if (answer.status < 500) return null; // the server knows better: ask for the state, or reload
    } catch {
      // no connection
    }
    say("No connection. Your answer is kept here and sent again.");
    await wait(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
  }
}

function enable(on) {
  open = on;
  for (const button of buttons) button.disabled = !on;
}

async function show() {
  enable(false);
  zoom(null);
  const total = state.total;
  document.getElementById("progress").style.width = `${(100 * state.answered) / total}%`;
  document.querySelector("[role=progressbar]").setAttribute("aria-valuenow", state.answered);
  const trial = state.upcoming[0];
  if (!trial) {
    location.replace(base.slice(0, -1));
    return;
  }
  document.getElementById("count").textContent = `${state.answered + 1} of ${total}`;
  pictures.setAttribute("aria-busy", "true");
  for (const next of state.upcoming) addresses(next).forEach(load);
  const loaded = await Promise.all(addresses(trial).map(load));
  say("");
  pictures.style.setProperty("--ratio", trial.width_px / trial.height_px);
  pictures.style.setProperty("--width", `${trial.width_px}px`);
  loaded.forEach((image, place) => { images[place].src = image.src; });
  await Promise.all(images.map((image) => image.decode().catch(() => {})));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  pictures.setAttribute("aria-busy", "false");
  shownAt = performance.now();
  hiddenMs = 0;
  hiddenAt = document.hidden ? shownAt : null;
  await wait(SETTLE_MS);
  enable(true);
}

async function choose(choice) {
  if (!open) return;
  const now = performance.now();
  const away = hiddenMs + (hiddenAt === null ? 0 : now - hiddenAt);
  enable(false);
  const trial = state.upcoming[0];
  const pressed = buttons.find((button) => button.dataset.choice === choice);
  pressed.classList.add("pressed");
  pictures.setAttribute("aria-busy", "true");
  const answer = {
    position: trial.position,
    choice,
    dwell_seconds: Math.max(0, (now - shownAt - away) / 1000),
    width_px: window.innerWidth,
    height_px: window.innerHeight,
  };
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(answer) };
  const next = await request(`${base}vote`, options);
  pressed.classList.remove("pressed");
  addresses(trial).forEach((address) => loading.delete(address));
  state = next || (await request(`${base}state`));
  if (state === null) location.reload();
  else await show();
}

// Both pictures are enlarged around the same place, so that they can be compared in detail.
function zoom(at) {
  pictures.classList.toggle("zoomed", at !== null);
  const natural = images[0].clientWidth ? images[0].naturalWidth / images[0].clientWidth : 1;
  pictures.style.setProperty("--zoom", Math.max(ZOOM, natural));
  if (at !== null) {
    pictures.style.setProperty("--x", `${at[0] * 100}%`);
    pictures.style.setProperty("--y", `${at[1] * 100}%`);
  }
}

function place(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const share = (value, start, size) => Math.min(1, Math.max(0, (value - start) / size));
  return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
}

for (const figure of pictures.querySelectorAll("figure")) {
  figure.addEventListener("click", (event) => zoom(pictures.classList.contains("zoomed") ? null : place(event)));
  figure.addEventListener("pointermove", (event) => {
    if (pictures.classList.contains("zoomed")) zoom(place(event));
  });
}

for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choice));

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (["0", "1", "2"].includes(event.key)) choose(event.key);
  if (event.key === "z" || event.key === "Z") zoom(pictures.classList.contains("zoomed") ? null : [0.5, 0.4]);
});

document.addEventListener("visibilitychange", () => {
  const now = performance.now();
  if (document.hidden) {
    hiddenAt = now;
  } else if (hiddenAt !== null) {
    hiddenMs += now - hiddenAt;
    hiddenAt = null;
  }
});

document.getElementById("copy").addEventListener("click", async (event) => {
  const link = document.getElementById("link");
  link.select();
  try {
    await navigator.clipboard.writeText(link.value);
    event.target.textContent = "Copied";
  } catch {
    document.execCommand("copy"); // pages without TLS have no clipboard
  }
});

request(`${base}state`).then((first) => {
  state = first;
  if (state) show();
  else location.reload();
});
