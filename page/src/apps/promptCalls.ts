// Requests about one prompt.

import { json, part, rows } from "../api";
import type { ImportedPrompts, Prompt, PromptDocument, PromptMessage } from "../types";

/** Returns the address of a prompt, whose name can contain slashes. */
const pathOf = (name: string) => `/api/prompts/${name.split("/").map(part).join("/")}`;

/** Returns the messages of a prompt with its arguments filled in. */
export async function renderPrompt(prompt: Prompt, given: Record<string, unknown>): Promise<PromptMessage[]> {
  const body = { arguments: given, version: prompt.version };
  return (await json<{ messages: PromptMessage[] }>(`${pathOf(prompt.name)}/render`, { json: body }))
    .messages;
}

/** Returns all versions of a prompt, newest first. */
export function promptVersions(name: string): Promise<Prompt[]> {
  return rows<Prompt>(`${pathOf(name)}/versions`);
}

/** Returns the newest version of a prompt as a file that can be loaded again. */
export async function exportPrompt(name: string): Promise<File> {
  const { filename, text } = await json<PromptDocument>(`${pathOf(name)}/export`);
  return new File([text], filename, { type: "text/markdown" });
}

/** Saves the prompts of a file. */
export async function loadPrompts(file: File): Promise<ImportedPrompts> {
  return json<ImportedPrompts>("/api/prompts/import", {
    json: { files: { [file.name]: await file.text() } },
  });
}

export function removePrompt(name: string): Promise<unknown> {
  return json(pathOf(name), { method: "DELETE" });
}
