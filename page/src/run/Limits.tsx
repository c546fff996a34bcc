// The usage limits of keys and apps.

import { count } from "../format";
import { t } from "../words/words";

export const APP_LIMITS = [
  "concurrency",
  "requests_per_minute",
  "tokens_per_minute",
  "tokens_per_day",
] as const;
export const KEY_LIMITS = [...APP_LIMITS, "storage_mb"] as const;
const MAX_LIMIT = 1e12;

type Name = (typeof KEY_LIMITS)[number];

/** The fields of limits, expanded if any is set. */
export function Limits(props: { names: readonly Name[]; held: Record<string, number>; note: string }) {
  const { names, held, note } = props;
  return (
    <details class="aside" open={names.some((name) => held[name])}>
      <summary>{t("keys.limits")}</summary>
      <p class="soft">{note}</p>
      {names.map((name) => (
        <label key={name}>
          <span>{t(`limit.${name}`)}</span>
          <input name={name} type="number" min={1} max={MAX_LIMIT} step={1} defaultValue={held[name] ?? ""} />
        </label>
      ))}
    </details>
  );
}

/** Returns the limits that are set in a form. */
export function readLimits(form: FormData, names: readonly Name[]): Record<string, number> {
  const set = names.filter((name) => form.get(name));
  return Object.fromEntries(set.map((name) => [name, Number(form.get(name))]));
}

export function writeLimits(limits: Record<string, number>): string {
  const set = KEY_LIMITS.filter((name) => limits[name]);
  return set.map((name) => `${t(`limit.${name}`)}: ${count(limits[name] ?? 0)}`).join(" · ");
}
