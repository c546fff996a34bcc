import { json, type ListPage, part } from "../api";
import { fetchFile } from "../chat/media";
import { count, moment } from "../format";
import { soft, Table } from "../parts/Table";
import { Listing, Trouble, usePages, useWork } from "../parts/ui";
import type { Batch } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const OPEN = new Set(["validating", "in_progress", "finalizing"]);

export function Batches() {
  const found = usePages(
    (after) => json<ListPage<Batch>>(`/v1/batches?limit=100${after}`),
    "batches",
    "",
    POLL_INTERVAL_MS,
  );
  const [busy, error, work] = useWork();
  const download = (id: string, name: string) =>
    work(async () => {
      const anchor = document.createElement("a");
      anchor.href = (await fetchFile(id, name)).url;
      anchor.download = name;
      anchor.click();
    });
  return (
    <>
      <h1>{t("section.batches")}</h1>
      <Trouble error={error} />
      <Listing found={found} none={t("batches.none")} note={t("batches.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.batches")}
            id="batches"
            rows={listed}
            next={found.next}
            keyOf={(batch) => batch.id}
            columns={[
              {
                head: t("runs.what"),
                cell: (batch) => (
                  <>
                    {batch.endpoint} · {batch.model}
                    {batch.errors?.data.slice(0, 3).map((each) => (
                      <p key={each.message} class="bad">
                        {each.message}
                      </p>
                    ))}
                  </>
                ),
              },
              { head: t("files.state"), class: soft, cell: (batch) => batch.status.replace("_", " ") },
              {
                head: t("batches.done"),
                cell: ({ request_counts: counts }) => (
                  <>
                    <progress max={Math.max(1, counts.total)} value={counts.completed + counts.failed} />{" "}
                    {count(counts.completed)} / {count(counts.total)}
                    {counts.failed > 0 && (
                      <span class="bad"> · {t("stores.failures", { count: counts.failed })}</span>
                    )}
                  </>
                ),
              },
              { head: t("runs.began"), class: soft, cell: (batch) => moment(batch.created_at) },
              {
                head: t("actions"),
                quiet: true,
                cell: (batch) => (
                  <div class="actions">
                    {OPEN.has(batch.status) && (
                      <button
                        type="button"
                        disabled={busy}
                        onClick={() =>
                          work(async () => {
                            await json(`/v1/batches/${part(batch.id)}/cancel`, { method: "POST" });
                            found.reload();
                          })
                        }
                      >
                        {t("stop")}
                      </button>
                    )}
                    {batch.output_file_id && (
                      <button
                        type="button"
                        disabled={busy}
                        onClick={() => download(batch.output_file_id ?? "", `${batch.id}.jsonl`)}
                      >
                        {t("batches.answers")}
                      </button>
                    )}
                    {batch.error_file_id && (
                      <button
                        type="button"
                        disabled={busy}
                        onClick={() => download(batch.error_file_id ?? "", `${batch.id}-errors.jsonl`)}
                      >
                        {t("batches.errors")}
                      </button>
                    )}
                  </div>
                ),
              },
            ]}
          />
        )}
      </Listing>
    </>
  );
}
