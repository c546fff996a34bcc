// The host of a view: JSON-RPC 2.0 over postMessage, according to the extension io.modelcontextprotocol/ui.
// Source: SEP-1865, version 2026-01-26.

import { signal } from "@preact/signals";
import { speak } from "./words";

const PROTOCOL_VERSION = "2026-01-26";
const METHOD_NOT_FOUND = -32601;
const VARIABLE = /^--[a-z0-9-]{1,64}$/;

export interface ToolResult {
  content?: { type: string; text?: string; data?: string; mimeType?: string }[];
  structuredContent?: Record<string, unknown>;
  isError?: boolean;
}

interface HostContext {
  toolInfo?: { tool?: { name?: string } };
  theme?: "light" | "dark";
  locale?: string;
  styles?: { variables?: Record<string, string | undefined> };
}

interface Message {
  id?: number | string;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message?: string };
}

/** The arguments of the current call, or null until the host sends them. */
export const input = signal<Record<string, unknown> | null>(null);
/** The result of the call, or null while it is in progress. */
export const result = signal<ToolResult | null>(null);
export const cancelled = signal(false);
/** The name of the called tool, if the host sends it. */
export const tool = signal("");
/** Whether this host passes calls of a view to the server. */
export const calls = signal(false);

const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
let numbers = 0;

function post(message: object): void {
  // A view does not know the origin of its host, the only window that it communicates with.
  window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
}

function request(method: string, params: object): Promise<unknown> {
  numbers += 1;
  const id = numbers;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    post({ id, method, params });
  });
}

/**
 * Calls a tool of the same server and returns its result. Throws an error with the tool's message if the call fails.
 */
export async function callTool(name: string, given: object): Promise<ToolResult> {
  const found = ((await request("tools/call", { name, arguments: given })) ?? {}) as ToolResult;
  if (found.isError) throw new Error(textOf(found));
  return found;
}

/** Returns the text of a result. */
export function textOf(found: ToolResult): string {
  return (found.content ?? [])
    .flatMap((block) => (block.type === "text" ? (block.text ?? "") : []))
    .join("\n");
}

function take(context: HostContext): void {
  const root = document.documentElement;
  if (context.toolInfo?.tool?.name) tool.value = String(context.toolInfo.tool.name);
  if (context.theme === "light" || context.theme === "dark") root.style.colorScheme = context.theme;
  if (context.locale) speak(String(context.locale).toLowerCase().startsWith("zh") ? "zh" : "en");
  for (const [name, value] of Object.entries(context.styles?.variables ?? {})) {
    if (VARIABLE.test(name) && value) root.style.setProperty(name, String(value));
  }
}

function onNotice(method: string, params: unknown): void {
  if (method === "ui/notifications/tool-input") {
    input.value = (params as { arguments?: Record<string, unknown> })?.arguments ?? {};
  } else if (method === "ui/notifications/tool-result") result.value = (params ?? {}) as ToolResult;
  else if (method === "ui/notifications/tool-cancelled") cancelled.value = true;
  else if (method === "ui/notifications/host-context-changed") take((params ?? {}) as HostContext);
}

function onMessage({ source, data }: MessageEvent): void {
  if (source !== window.parent || typeof data !== "object" || data === null) return;
  const { id, method, params, error, result: found } = data as Message;
  if (method === undefined) {
    const asked = waiting.get(Number(id));
    waiting.delete(Number(id));
    if (error) asked?.reject(new Error(String(error.message ?? "")));
    else asked?.resolve(found);
  } else if (id === undefined) onNotice(method, params);
  else if (method === "ping" || method === "ui/resource-teardown") post({ id, result: {} });
  else post({ id, error: { code: METHOD_NOT_FOUND, message: `A view has no ${method}.` } });
}

/** Connects to the host, which then sends the call and its result. */
export async function connect(): Promise<void> {
  addEventListener("message", onMessage);
  const found = (await request("ui/initialize", {
    appInfo: { name: "portico", version: "1" },
    appCapabilities: { availableDisplayModes: ["inline"] },
    protocolVersion: PROTOCOL_VERSION,
  })) as { hostContext?: HostContext; hostCapabilities?: { serverTools?: object } } | null;
  calls.value = Boolean(found?.hostCapabilities?.serverTools);
  take(found?.hostContext ?? {});
  post({ method: "ui/notifications/initialized", params: {} });
  const root = document.documentElement;
  new ResizeObserver(() => {
    const { width, height } = root.getBoundingClientRect();
    post({
      method: "ui/notifications/size-changed",
      params: { width: Math.ceil(width), height: Math.ceil(height) },
    });
  }).observe(root);
}
