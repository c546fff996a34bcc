"use strict";
// The front page. Everything that comes from the daemon enters the page as text, never as markup.

const $ = (id) => document.getElementById(id);
let key = sessionStorage.getItem("portico-key") || "";
let talk = [];
let running = null;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function headers(more) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : { ...more };
}

async function refused(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message || `The daemon answered ${response.status}.`;
}

function rows(list, items, empty) {
  list.replaceChildren(...(items.length ? items : [element("li", "soft", empty)]));
}

function row(name, state, note) {
  const item = element("li");
  item.append(element("span", "name", name), element("span", `state ${state || ""}`, state || ""));
  if (note) item.append(element("span", "note", note));
  return item;
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
  rows($("stores"), status.stores.map((store) => {
    const files = store.file_counts;
    const parts = [`${files.completed} of ${files.total} files`];
    if (files.failed) parts.push(`${files.failed} failed`);
    if (store.folder) parts.push(store.folder);
    return row(store.name, files.in_progress ? "indexing" : "ready", parts.join(" · "));
  }), "No store yet");
  rows($("models"), status.models.map((model) => row(model.name, model.state,
    [model.aliases.join(", "), model.engine, megabytes(model.memory_bytes), model.error].filter(Boolean).join(" · ")
  )), "No model");
  const names = [...status.apps, ...status.models.filter((model) => model.task === "chat").map((model) => model.name)];
  const select = $("model");
  const chosen = select.value || names[0];
  select.replaceChildren(...names.map((name) => {
    const option = element("option", "", name);
    option.value = name;
    option.selected = name === chosen;
    return option;
  }));
  $("snippet").textContent = [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${JSON.stringify(key ? "pk-…" : "local")})`,
    "answer = client.chat.completions.create(",
    `    model=${JSON.stringify(names[0] || "default")},`,
    '    messages=[{"role": "user", "content": "What is in these documents?"}],',
    ")",
    "print(answer.choices[0].message.content)",
  ].join("\n");
}

async function refresh() {
  try {
    const response = await fetch("/api/status", { headers: headers() });
    $("locked").hidden = response.status !== 401;
    if (!response.ok) throw new Error(await refused(response));
    show(await response.json());
    $("trouble").hidden = true;
  } catch (error) {
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

async function ask(question) {
  const answer = element("div", "said");
  $("talk").append(element("div", "said user", question), answer);
  talk.push({ role: "user", content: question });
  running = new AbortController();
  $("stop").hidden = false;
  $("send").disabled = true;
  let text = "";
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ model: $("model").value, messages: talk, stream: true }),
      signal: running.signal,
    });
    if (!response.ok) throw new Error(await refused(response));
    for await (const frame of frames(response)) {
      if (frame.error) throw new Error(frame.error.message);
      const delta = frame.choices[0]?.delta || {};
      text += delta.content || "";
      answer.textContent = text;
      if (delta.annotations) answer.after(sources(delta.annotations));
    }
  } catch (error) {
    if (error.name !== "AbortError") $("talk").append(element("div", "said error", error.message));
  }
  if (text) talk.push({ role: "assistant", content: text });
  else talk.pop();
  $("stop").hidden = true;
  $("send").disabled = false;
  running = null;
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
$("stop").addEventListener("click", () => running?.abort());
$("model").addEventListener("change", () => {
  talk = [];
  $("talk").replaceChildren();
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("snippet").textContent);
  $("copy").textContent = "Copied";
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  sessionStorage.setItem("portico-key", key);
  refresh();
});

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 5000);
