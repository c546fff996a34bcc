import { useEffect } from "preact/hooks";
import { json, part } from "../api";
import { bytes } from "../format";
import { Trouble, useWork } from "../parts/ui";
import { refresh } from "../status";
import { t } from "../words/words";
import { useProgress } from "./progress";

/** The progress of a model download, from the events of its run. */
export function PullProgress({ run }: { run: string }) {
  const { progress, ended, error } = useProgress(run);
  const [busy, stopError, work] = useWork();
  useEffect(() => {
    if (ended) refresh();
  }, [ended]);
  const done = ended && !error ? t("pull.done") : "";
  const amount =
    progress?.unit === "bytes" && progress.done !== null
      ? `${bytes(progress.done)} / ${bytes(progress.total)}`
      : "";
  return (
    <div class="card" aria-live="polite">
      <div class="actions spread">
        <span>{done || [progress?.stage, progress?.message, amount].filter(Boolean).join(" · ") || "…"}</span>
        {!ended && (
          <button
            type="button"
            disabled={busy}
            onClick={() => work(() => json(`/api/runs/${part(run)}/cancel`, { method: "POST" }))}
          >
            {t("stop")}
          </button>
        )}
      </div>
      {!ended && (
        <progress
          aria-label={t("models.pull")}
          {...(progress?.total ? { max: progress.total, value: progress.done ?? 0 } : {})}
        />
      )}
      <Trouble error={error || stopError} />
    </div>
  );
}
