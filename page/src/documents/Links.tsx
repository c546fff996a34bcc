// Links between the passages of a store: description, cost, switch, and export.

import { useEffect } from "preact/hooks";
import { json, part, send } from "../api";
import { saveAs, Trouble, useWork } from "../parts/ui";
import { go, link } from "../route";
import { useProgress } from "../run/progress";
import { refresh } from "../status";
import type { Store } from "../types";
import { t } from "../words/words";

/** `run`: the run that creates or removes the links, from the address. */
export function View({ store, run }: { store: Store; run: string }) {
  const [busy, error, work] = useWork();
  const turn = (links: boolean) =>
    work(async () => {
      const changed = await json<{ run: string | null }>(`/api/stores/${part(store.id)}`, {
        method: "PATCH",
        json: { links },
      });
      await refresh();
      go(link("library", "documents", store.name, "links", ...(changed.run ? [changed.run] : [])));
    });
  return (
    <>
      <h1>{t("links.title")}</h1>
      <p>{t("links.does")}</p>
      <p class="soft">{t("links.costs")}</p>
      <p id="linkstate" class={store.links ? "good" : "soft"} aria-live="polite">
        {t(store.links ? "links.on" : "links.off")}
      </p>
      <div class="actions">
        <button
          type="button"
          class={store.links ? "" : "primary"}
          disabled={busy}
          onClick={() => turn(!store.links)}
        >
          {t(store.links ? "links.remove" : "links.make")}
        </button>
        {store.links && (
          <button type="button" disabled={busy} onClick={() => work(() => saveGraph(store))}>
            {t("links.save")}
          </button>
        )}
      </div>
      <Trouble error={error} />
      {run && <Making key={run} run={run} />}
    </>
  );
}

/** The progress of creating or removing links. */
function Making({ run }: { run: string }) {
  const { progress, ended, error, again } = useProgress<unknown>(run);
  useEffect(() => {
    if (ended) refresh();
  }, [ended]);
  return (
    <div id="linking" aria-live="polite">
      {!ended && (
        <div class="actions">
          <progress
            aria-label={t("links.title")}
            {...(progress?.total ? { max: progress.total, value: progress.done ?? 0 } : {})}
          />
          <span class="soft grow">{progress?.message ?? "…"}</span>
        </div>
      )}
      {ended && !error && <p class="soft">{t("links.done")}</p>}
      <Trouble error={error} retry={again} />
    </div>
  );
}

async function saveGraph(store: Store): Promise<void> {
  const response = await send(`/api/stores/${part(store.id)}/graph`);
  saveAs(await response.blob(), `${store.name}.graphml`);
}
