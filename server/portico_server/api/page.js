// The front page: what there is, and a chat with any of it.

import { $, api, element, json, key } from "./page-basics.js";
import { attach, content, draw, record, showFiles, speak, taken } from "./page-media.js";

let talk = [];
let running = null;
let tasks = new Map();
let offered = "";
let shownStores = "";
let current = null;
const unfolded = new Set();

function rows(list, items, empty) {
  list.replaceChildren(...(items.length ? items : [element("li", "soft", empty)]));
}

function row(name, state, note) {
  const item = element("li");
  item.append(element("span", "name", name), element("span", `state ${state || ""}`, state || ""));
  if (note) item.append(element("span", "note", note));
  return item;
}

function storeRow(store) {
  const files = store.file_counts;
  const parts = [`${files.completed} of ${files.total} files`];
  if (files.failed) parts.push(`${files.failed} failed`);
  if (store.problem) parts.push(store.problem);
  if (store.folder) parts.push(store.folder);
  const still = files.completed ? "ready" : files.failed ? "failed" : "empty";
  const item = row(store.name, files.in_progress ? "indexing" : still, parts.join(" · "));
  if (Object.keys(store.skipped).length) item.append(skipped(store));
  return item;
}

/** What of a store is not read, by reason; the names come when they are asked for. */
function skipped(store) {
  const reasons = Object.entries(store.skipped).sort(([, one], [, other]) => other - one);
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);
  const details = element("details", "note");
  details.open = unfolded.has(store.id);
  details.append(element("summary", "", `${total} skipped: ${reasons.map(([why, count]) => `${count} ${why}`).join(", ")}`));
  const list = element("ul");
  details.append(list);
  async function fill() {
    const found = await (await api(`/api/stores/${encodeURIComponent(store.id)}/skipped`)).json();
    list.replaceChildren(...found.data.map((file) => element("li", "", `${file.name} · ${file.reason}`)));
    if (found.total > found.data.length) list.append(element("li", "", `${found.total - found.data.length} more`));
  }
  details.addEventListener("toggle", () => {
    if (details.open) {
      unfolded.add(store.id);
      fill().catch((error) => report(error.message));
    } else unfolded.delete(store.id);
  });
  return details;
}

function megabytes(bytes) {
  return bytes ? `${Math.round(bytes / 1e6)} MB` : "";
}

function show(status) {
  $("version").textContent = status.version;
  const base = `${location.origin}/v1`;
  $("base").textContent = base;
  $("mcp").textContent = `${location.origin}/mcp`;
  rows($("apps"), status.apps.map((name) => row(name, "", `model name "${name}"`)), "No app yet: portico up --docs FOLDER");
  if (shownStores !== JSON.stringify(status.stores)) {  // a list that is open stays open
    shownStores = JSON.stringify(status.stores);
    rows($("stores"), status.stores.map(storeRow), "No store yet");
  }
  const leftOut = status.problems.map((each) => row(each.name || each.place, "failed", `${each.place}: ${each.reason}`));
  rows($("models"), leftOut.concat(status.models.map((model) => row(model.name, model.state,
    [model.aliases.join(", "), model.engine, megabytes(model.memory_bytes), model.error].filter(Boolean).join(" · ")
  ))), "No model");
  const first = offer(status);
  current = status;
  hint();
  $("snippet").textContent = [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${JSON.stringify(key.value ? "pk-…" : "local")})`,
    "answer = client.chat.completions.create(",
    `    model=${JSON.stringify(first || "default")},`,
    '    messages=[{"role": "user", "content": "What is in these documents?"}],',
    ")",
    "print(answer.choices[0].message.content)",
  ].join("\n");
}

/** Offer what can be talked with, by what it does; the first name is returned. */
function offer(status) {
  const named = (task) => status.models.filter((model) => model.task === task).map((model) => model.name);
  const groups = [["Apps", status.apps], ["Chat", named("chat")], ["Draws", named("image")], ["Speaks", named("speech")]];
  tasks = new Map(status.models.map((model) => [model.name, model.task]));
  const select = $("model");
  const names = groups.flatMap(([, members]) => members);
  $("record").hidden = !(model("transcription") && navigator.mediaDevices);
  if (offered === JSON.stringify(groups)) return names[0];  // a list that is open stays open
  offered = JSON.stringify(groups);
  const chosen = names.includes(select.value) ? select.value : names[0];
  select.replaceChildren(...groups.filter(([, members]) => members.length).map(([label, members]) => {
    const group = element("optgroup");
    group.label = label;
    group.append(...members.map((name) => {
      const option = element("option", "", name);
      option.value = name;
      option.selected = name === chosen;
      return option;
    }));
    return group;
  }));
  return names[0];
}

/** A quiet line while the tiny model is talked to: what it is, and how to get a better one. */
function hint() {
  const small = current?.small_model;
  const name = $("model").value;
  const its = small && [...small.names, ...small.apps].includes(name);
  $("hint").hidden = !its;
  if (!its) return;
  $("hint").firstElementChild.textContent = small.hint;
  const better = current.recommended;
  $("better").hidden = !better || !current.home || small.fetching;  // the home is told to who may change models
  if (better) $("better").textContent = `Fetch ${better.name} (${better.size_gb} GB)`;
}

/** The first model of a task, if there is one. */
function model(task) {
  return [...tasks].find(([, its]) => its === task)?.[0];
}

async function refresh() {
  try {
    show(await (await api("/api/status")).json());
    $("locked").hidden = true;
    $("trouble").hidden = true;
  } catch (error) {
    $("locked").hidden = error.status !== 401;
    $("trouble").textContent = error instanceof TypeError ? "The daemon does not answer." : error.message;
    $("trouble").hidden = false;
  }
}

function sources(annotations) {
  const list = element("ol", "sources");
  for (const { file_citation: cited } of annotations.filter((item) => item.type === "file_citation")) {
    const item = element("li");
    item.value = cited.index;
    const details = element("details");
    details.append(element("summary", "", [cited.filename, cited.place?.label].filter(Boolean).join(" · ")));
    details.append(element("blockquote", "", cited.quote));
    item.append(details);
    list.append(item);
  }
  return list;
}

async function* frames(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

function report(message) {
  $("talk").append(element("div", "said error", message));
}

/** An answer as text, its quotations set apart; what a model wrote is never markup. */
function write(words, text) {
  const parts = text.split(/^(> .*(?:\n> .*)*\n?)/m).filter(Boolean);
  words.replaceChildren(...parts.map((part, place) => part.startsWith("> ")
    ? element("blockquote", "", part.replace(/^> /gm, "").trimEnd())
    : element("span", "", parts[place + 1] ? part.trimEnd() : part)));
}

/** One exchange of a chat; what was answered is remembered for the next one. */
async function chat(answer, name, question, pictures, signal) {
  talk.push({ role: "user", content: content(question, pictures) });
  const words = element("div");
  const below = element("div");
  answer.append(words, below);
  let text = "";
  try {
    const response = await api("/v1/chat/completions", { ...json({ model: name, messages: talk, stream: true }), signal });
    for await (const frame of frames(response)) {
      if (frame.error) throw new Error(frame.error.message);
      const delta = frame.choices[0]?.delta || {};
      text += delta.content || "";
      write(words, text);
      if (delta.annotations) {
        below.append(sources(delta.annotations));
        await showFiles(below, delta.annotations);
      }
    }
  } finally {
    if (text) talk.push({ role: "assistant", content: text });
    else talk.pop();
  }
  if (text && model("speech")) {
    const aloud = element("button", "soft", "Read aloud");
    aloud.type = "button";
    aloud.addEventListener("click", () => {
      aloud.disabled = true;
      speak(below, model("speech"), text).catch((error) => report(error.message)).finally(() => { aloud.disabled = false; });
    });
    below.append(aloud);
  }
}

async function ask(question) {
  const pictures = taken();
  const name = $("model").value;
  const said = element("div", "said user", question);
  said.append(...pictures.map((picture) => element("span", "chip", picture.name)));
  const answer = element("div", "said");
  $("talk").append(said, answer);
  running = new AbortController();
  const { signal } = running;
  $("stop").hidden = false;
  $("send").disabled = true;
  answer.setAttribute("aria-busy", "true");
  try {
    const task = tasks.get(name);
    if (task === "image") await draw(answer, name, question, pictures, signal);
    else if (task === "speech") await speak(answer, name, question, signal);
    else await chat(answer, name, question, pictures, signal);
  } catch (error) {
    if (error.name !== "AbortError") report(error.message);
  }
  answer.removeAttribute("aria-busy");
  $("stop").hidden = true;
  $("send").disabled = false;
  running = null;
}

function take(files) {
  return attach([...files], model("transcription"), report);
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  $("question").value = "";
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("question").addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    take(event.clipboardData.files);
  }
});
$("ask").addEventListener("dragover", (event) => event.preventDefault());
$("ask").addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
$("attach").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", async () => {
  await take($("files").files);
  $("files").value = "";
});
$("record").addEventListener("click", () => record($("record"), () => model("transcription"), report));
$("stop").addEventListener("click", () => running?.abort());
$("model").addEventListener("change", () => {
  talk = [];
  $("talk").replaceChildren();
});
$("model").addEventListener("change", hint);
$("better").addEventListener("click", async () => {
  $("better").disabled = true;
  try {
    await api("/api/models/better", json({ accept: true }));
    await refresh();
  } catch (error) {
    report(error.message);
  }
  $("better").disabled = false;
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("snippet").textContent);
  $("copy").textContent = "Copied";
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key.value = $("key").value.trim();
  sessionStorage.setItem("portico-key", key.value);
  refresh();
});

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 5000);
