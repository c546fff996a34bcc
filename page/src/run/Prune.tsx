// The form that deletes old runs. What would be deleted is counted first.

import { useState } from "preact/hooks";
import { json } from "../api";
import { count } from "../format";
import { Dialog, Trouble, useWork } from "../parts/ui";
import type { Pruned } from "../types";
import { t } from "../words/words";

const COUNTS = [
  "runs",
  "questions",
  "artifacts",
  "files",
  "usage",
  "sessions",
  "responses",
  "conversations",
] as const;

export function View({ onClose, onPrune }: { onClose: () => void; onPrune: () => void }) {
  const [days, setDays] = useState("");
  const [plan, setPlan] = useState<Pruned | null>(null);
  const [busy, error, work] = useWork();
  const prune = (isDry: boolean) =>
    json<Pruned>("/api/runs/prune", { json: { days: days ? Number(days) : null, dry_run: isDry } });
  const counts = COUNTS.filter((name) => plan?.[name]);
  return (
    <Dialog title={t("prune.title")} onClose={onClose}>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          work(async () => setPlan(await prune(true)));
        }}
      >
        <label>
          <span>{t("prune.days")}</span>
          <input
            name="days"
            type="number"
            min={0}
            step="any"
            value={days}
            onInput={(event) => {
              setDays(event.currentTarget.value);
              setPlan(null);
            }}
          />
          <small class="soft">{t("prune.daysNote")}</small>
        </label>
        <Trouble error={error} />
        {plan && (
          <div class="aside plan" id="pruneplan">
            <p>{t(counts.length ? "prune.plan" : "prune.nothing")}</p>
            <ul>
              {counts.map((name) => (
                <li key={name}>
                  {t(`prune.${name}`)}: {count(plan[name])}
                </li>
              ))}
            </ul>
          </div>
        )}
        <div class="actions">
          <button type="submit" disabled={busy}>
            {t("prune.count")}
          </button>
          {counts.length > 0 && (
            <button
              type="button"
              class="danger"
              disabled={busy}
              onClick={() =>
                work(async () => {
                  await prune(false);
                  onPrune();
                  onClose();
                })
              }
            >
              {t("delete")}
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}
