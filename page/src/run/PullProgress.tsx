import { useEffect, useState } from "preact/hooks";
import { frames, isAbort, json, part, send, sentence } from "../api";
import { bytes } from "../format";
import { Trouble, useWork } from "../parts/ui";
import { refresh } from "../status";
import { t } from "../words/words";

interface Progress {
  stage: string;
  message: string;
  done: number | null;
  total: number | null;
  unit: string;
}

/** A model that is being fetched, told by the events of its run. */
export function PullProgress({ run }: { run: string }) {
  const [progress, setProgress] = useState<Progress | null>(null);
  const [ended, setEnded] = useState("");
  const [error, setError] = useState("");
  const [busy, stopError, work] = useWork();
  useEffect(() => {
    const leaving = new AbortController();
    const follow = async () => {
      const response = await send(`/api/runs/${part(run)}/events`, { signal: leaving.signal });
      for await (const frame of frames(response)) {
        const event = JSON.parse(frame.data) as { type: string; error?: { message: string } } & Progress;
        if (event.type === "status") setProgress(event);
        else if (event.type === "failed") setError(event.error?.message ?? t("runs.failed"));
        else if (event.type === "finished") setEnded(t("pull.done"));
      }
      await refresh();
    };
    follow().catch((caught) => !isAbort(caught) && setError(sentence(caught)));
    return () => leaving.abort();
  }, [run]);
  const amount =
    progress?.unit === "bytes" && progress.done !== null
      ? `${bytes(progress.done)} / ${bytes(progress.total)}`
      : "";
  return (
    <div class="card" aria-live="polite">
      <div class="actions spread">
        <span>
          {ended || [progress?.stage, progress?.message, amount].filter(Boolean).join(" · ") || "…"}
        </span>
        {!ended && !error && (
          <button
            type="button"
            disabled={busy}
            onClick={() => work(() => json(`/api/runs/${part(run)}/cancel`, { method: "POST" }))}
          >
            {t("stop")}
          </button>
        )}
      </div>
      {!ended && !error && (
        <progress
          aria-label={t("models.pull")}
          {...(progress?.total ? { max: progress.total, value: progress.done ?? 0 } : {})}
        />
      )}
      <Trouble error={error || stopError} />
    </div>
  );
}
