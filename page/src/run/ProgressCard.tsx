import { useEffect } from "preact/hooks";
import { json, part } from "../api";
import { bytes } from "../format";
import { Trouble, useWork } from "../parts/ui";
import { t } from "../words/words";
import { useProgress } from "./progress";

/** A card with the progress of a run. `onEnd` is called when the run has ended, `done` says that it has succeeded. */
export function ProgressCard(props: { run: string; label: string; done: string; onEnd: () => void }) {
  const { run, label, onEnd } = props;
  const { progress, ended, error } = useProgress(run);
  const [busy, stopError, work] = useWork();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a run ends once
  useEffect(() => {
    if (ended) onEnd();
  }, [ended]);
  const done = ended && !error ? props.done : "";
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
          aria-label={label}
          {...(progress?.total ? { max: progress.total, value: progress.done ?? 0 } : {})}
        />
      )}
      <Trouble error={error || stopError} />
    </div>
  );
}
