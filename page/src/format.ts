// Numbers and times as text, in the language of the page.

import { addressOf } from "./address";
import type { Place } from "./types";
import { language } from "./words/words";

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return "";
  let value = size;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

export function count(value: number): string {
  return value.toLocaleString(language.value);
}

/** Returns the message of a caught error. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Formats a time in seconds since 1970: the time of day for today, the date for any other day. */
export function moment(seconds: number): string {
  const then = new Date(seconds * 1000);
  const today = new Date().toDateString() === then.toDateString();
  return today
    ? then.toLocaleTimeString(language.value, { hour: "2-digit", minute: "2-digit" })
    : then.toLocaleDateString(language.value, { year: "numeric", month: "short", day: "numeric" });
}

/** Returns the age in days of a time in seconds since 1970. */
export function age(seconds: number): "today" | "yesterday" | "week" | "earlier" {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight - seconds * 1000) / 86_400_000);
  return days <= 0 ? "today" : days === 1 ? "yesterday" : days <= 7 ? "week" : "earlier";
}

/** Formats a time in seconds since 1970 with date and time of day. */
export function dayAndTime(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString(language.value, { dateStyle: "medium", timeStyle: "short" });
}

export function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export function dollars(cost: number): string {
  return `$${cost < 0.01 ? cost.toFixed(5) : cost.toFixed(2)}`;
}

/**
 * Returns the position of a passage in a file, such as `page 3` or `line 12 · Install › Linux`, formatted as in the
 * SDK.
 */
export function placeLabel(place: Partial<Place>): string {
  const found: string[] = [];
  if (place.page) found.push(`p. ${place.page}`);
  if (place.sheet) found.push(`${place.sheet} ${place.cell ?? ""}`.trim());
  else if (place.cell) found.push(`[${place.cell}]`);
  else if (place.row) found.push(`row ${place.row}`);
  else if (place.seconds !== null && place.seconds !== undefined) found.push(clock(place.seconds));
  else if (place.line && !place.page) found.push(`line ${place.line}`);
  if (place.symbol) found.push(place.symbol);
  if (place.heading?.length) found.push(place.heading.join(" › "));
  return found.join(" · ");
}

function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Returns a code snippet that asks a model or an app of this daemon. */
export function callSnippet(model: string): string {
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(addressOf("/v1"))}, api_key="…")`,
    `answer = client.responses.create(model=${JSON.stringify(model)}, input="…")`,
    "print(answer.output_text)",
  ].join("\n");
}
