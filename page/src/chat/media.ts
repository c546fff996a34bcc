// Images and audio: attachments of a question, and the output of image and speech models.

import { json, send } from "../api";
import { bytes } from "../format";
import { t } from "../words/words";

const MAX_FILE_BYTES = 20 * 1024 * 1024;

export interface Picture {
  name: string;
  url: string;
  file: File;
}

function dataUrl(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(new Error(t("attach.unreadable", { name: file.name }))));
    reader.readAsDataURL(file);
  });
}

export interface Taken {
  pictures: Picture[];
  /** The transcripts of recordings. */
  words: string;
}

/** Returns whether a file is sent with a question, as it is or as a transcript. Any other file is a document. */
export function isMedia(file: File): boolean {
  return /^(image|audio|video)\//.test(file.type);
}

/** Prepares images for a question, and transcribes recordings with the model `listener`. */
export async function take(files: Iterable<File>, listener: string | undefined): Promise<Taken> {
  const pictures: Picture[] = [];
  const words: string[] = [];
  for (const file of files) {
    if (file.size > MAX_FILE_BYTES) {
      throw new Error(t("attach.large", { name: file.name, size: bytes(MAX_FILE_BYTES) }));
    }
    if (file.type.startsWith("image/")) {
      pictures.push({ name: file.name || "picture", url: await dataUrl(file), file });
    } else if (file.type.startsWith("audio/") || file.type.startsWith("video/")) {
      words.push(await writeDown(file, listener));
    } else {
      throw new Error(t("attach.unknown", { name: file.name }));
    }
  }
  return { pictures, words: words.join(" ") };
}

async function writeDown(file: File, model: string | undefined): Promise<string> {
  if (!model) throw new Error(t("attach.noListener"));
  const form = new FormData();
  form.append("model", model);
  form.append("file", file, file.name || "recording.webm");
  const { text } = await json<{ text: string }>("/v1/audio/transcriptions", { body: form });
  return text.trim();
}

/** Starts a recording. `stop` ends it and returns the file. */
export async function record(): Promise<{ stop: () => Promise<File> }> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const parts: Blob[] = [];
  const recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.start();
  return {
    stop: () =>
      new Promise((resolve) => {
        recorder.addEventListener("stop", () => {
          for (const track of stream.getTracks()) track.stop();
          const type = recorder.mimeType || "audio/webm";
          const end = type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm";
          resolve(new File(parts, `recording.${end}`, { type }));
        });
        recorder.stop();
      }),
  };
}

/** A file to view, play or download. */
export interface Shown {
  kind: "picture" | "sound" | "file";
  name: string;
  url: string;
}

export function shown(blob: Blob, name: string): Shown {
  const kind = blob.type.startsWith("image/") ? "picture" : blob.type.startsWith("audio/") ? "sound" : "file";
  return { kind, name, url: URL.createObjectURL(blob) };
}

/** Generates images with an image model, based on the images of the question if there are any. */
export async function draw(
  model: string,
  prompt: string,
  given: Picture[],
  signal: AbortSignal,
): Promise<Shown[]> {
  type Drawn = { data: { b64_json: string }[]; output_format?: string };
  let found: Drawn;
  if (given.length) {
    const form = new FormData();
    form.append("model", model);
    form.append("prompt", prompt);
    for (const { file, name } of given) form.append(given.length > 1 ? "image[]" : "image", file, name);
    found = await json<Drawn>("/v1/images/edits", { body: form, signal });
  } else {
    found = await json<Drawn>("/v1/images/generations", { json: { model, prompt }, signal });
  }
  return found.data.map(({ b64_json: data }) => {
    const raw = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return shown(new Blob([raw], { type: `image/${found.output_format || "png"}` }), prompt);
  });
}

/** Synthesizes speech for a text. */
export async function say(model: string, text: string, signal?: AbortSignal): Promise<Shown> {
  const response = await send("/v1/audio/speech", {
    json: { model, input: text, response_format: "wav" },
    ...(signal ? { signal } : {}),
  });
  return shown(await response.blob(), text.slice(0, 80));
}

/** Fetches a file created by a tool. */
export async function fetchFile(id: string, name: string): Promise<Shown> {
  const response = await send(`/v1/files/${encodeURIComponent(id)}/content`);
  return shown(await response.blob(), name);
}
