// Pictures and sounds on the front page: what goes with a question, and what comes with an answer.

import { $, api, element, json } from "./page-basics.js";

const LARGEST = 20 * 1024 * 1024;

let pictures = [];
let recorder = null;

/** The pictures that go with the next question; they are taken away by this. */
export function taken() {
  const found = pictures;
  pictures = [];
  drawAttached();
  return found;
}

/** A question with its pictures, as the content of a message. */
export function content(question, given) {
  if (!given.length) return question;
  return [{ type: "text", text: question }, ...given.map(({ url }) => ({ type: "image_url", image_url: { url } }))];
}

function drawAttached() {
  $("attached").replaceChildren(...pictures.map((picture) => {
    const chip = element("button", "chip", `${picture.name} ×`);
    chip.type = "button";
    chip.title = "Leave it out";
    chip.addEventListener("click", () => {
      pictures = pictures.filter((other) => other !== picture);
      drawAttached();
    });
    return chip;
  }));
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error(`${file.name} cannot be read.`)));
    reader.readAsDataURL(file);
  });
}

/** Take files: pictures go with the question, the words of a recording are put into it. */
export async function attach(files, listener, report) {
  for (const file of files) {
    try {
      if (file.size > LARGEST) throw new Error(`${file.name} is larger than ${LARGEST / 1048576} MB.`);
      if (file.type.startsWith("image/")) {
        pictures.push({ name: file.name || "picture", url: await dataUrl(file), file });
        drawAttached();
      } else if (file.type.startsWith("audio/") || file.type.startsWith("video/")) {
        await write(file, listener);
      } else {
        throw new Error(`${file.name} is neither a picture nor a recording. Documents go into a store: portico up --docs FOLDER.`);
      }
    } catch (error) {
      report(error.message);
    }
  }
}

/** Write a recording down, into the question. */
async function write(file, model) {
  if (!model) throw new Error("No model here writes down speech. Add one: portico models add --help.");
  const form = new FormData();
  form.append("model", model);
  form.append("file", file, file.name || "recording.webm");
  $("question").disabled = true;
  try {
    const { text } = await (await api("/v1/audio/transcriptions", { method: "POST", body: form })).json();
    $("question").value = [$("question").value, text.trim()].filter(Boolean).join(" ");
  } finally {
    $("question").disabled = false;
    $("question").focus();
  }
}

/** Begin to record, or end it and write down what was said. */
export async function record(button, model, report) {
  if (recorder) {
    recorder.stop();
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("stop", async () => {
      const type = recorder.mimeType || "audio/webm";
      recorder = null;
      button.textContent = "Record";
      stream.getTracks().forEach((track) => track.stop());
      const end = type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm";
      await attach([new File(parts, `recording.${end}`, { type })], model(), report);
    });
    recorder.start();
    button.textContent = "Stop recording";
  } catch (error) {
    recorder = null;
    report(error.name === "NotAllowedError" ? "The browser may not use the microphone." : error.message);
  }
}

function shown(blob, name) {
  const url = URL.createObjectURL(blob);
  if (blob.type.startsWith("image/")) {
    const picture = element("img", "made");
    picture.src = url;
    picture.alt = name;
    return picture;
  }
  if (blob.type.startsWith("audio/")) {
    const player = element("audio", "made");
    player.controls = true;
    player.src = url;
    player.title = name;
    return player;
  }
  const link = element("a", "made", name);
  link.href = url;
  link.download = name;
  return link;
}

/** The files that an answer's tools made, fetched with the key and shown below it. */
export async function showFiles(place, annotations) {
  for (const { file_path: file } of annotations.filter((item) => item.type === "file_path")) {
    const response = await api(`/v1/files/${encodeURIComponent(file.file_id)}/content`);
    place.append(shown(new Blob([await response.arrayBuffer()], { type: file.media_type }), file.filename));
  }
}

/** Pictures of a model that draws; of those that go with the request if there are some. */
export async function draw(place, model, prompt, given, signal) {
  let response;
  if (given.length) {
    const form = new FormData();
    form.append("model", model);
    form.append("prompt", prompt);
    for (const { file, name } of given) form.append(given.length > 1 ? "image[]" : "image", file, name);
    response = await api("/v1/images/edits", { method: "POST", body: form, signal });
  } else {
    response = await api("/v1/images/generations", { ...json({ model, prompt }), signal });
  }
  const document = await response.json();
  for (const { b64_json: data } of document.data) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    place.append(shown(new Blob([bytes], { type: `image/${document.output_format || "png"}` }), prompt));
  }
}

/** A text said aloud. */
export async function speak(place, model, text, signal) {
  const response = await api("/v1/audio/speech", { ...json({ model, input: text, response_format: "wav" }), signal });
  const player = shown(await response.blob(), text.slice(0, 80));
  place.append(player);
  player.play().catch(() => {});  // a browser may want a click first; nothing waits for the end of it
}
