import { useState } from "preact/hooks";
import { json, type ListPage, part, send } from "../api";
import { uploadFile } from "../documents/upload";
import { count, moment } from "../format";
import { FileDrop } from "../parts/FileDrop";
import { soft, Table } from "../parts/Table";
import { FormDialog, Listing, saveAs, Trouble, useLoaded, usePages, useWork } from "../parts/ui";
import type { Batch, CheckedBatch } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const OPEN = new Set(["validating", "in_progress", "finalizing"]);
const CHAT = "/v1/chat/completions";
const WINDOW = "24h";
const FIRST_LINE_BYTES = 1024 * 1024;
const MAX_PROBLEMS = 20;

export function View() {
  const found = usePages(
    (after) => json<ListPage<Batch>>(`/v1/batches?limit=100${after}`),
    "batches",
    "",
    POLL_INTERVAL_MS,
  );
  const [busy, error, work] = useWork();
  const [requests, setRequests] = useState<File | null>(null);
  const download = (id: string, name: string) =>
    work(async () => saveAs(await (await send(`/v1/files/${part(id)}/content`)).blob(), name));
  const cancel = (batch: Batch) =>
    work(async () => {
      await json(`/v1/batches/${part(batch.id)}/cancel`, { method: "POST" });
      found.reload();
    });
  return (
    <>
      <h1>{t("section.batches")}</h1>
      <FileDrop
        id="requests"
        note={t("batches.drop")}
        chooses={t("batches.choose")}
        accept=".jsonl"
        onFile={setRequests}
      />
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
              { head: t("files.state"), class: soft, cell: (batch) => t(`batch.${batch.status}`) },
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
                      <button type="button" disabled={busy} onClick={() => cancel(batch)}>
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
      {requests && <NewBatch requests={requests} onClose={() => setRequests(null)} onStart={found.reload} />}
    </>
  );
}

/** Returns the endpoint in the first line of a file of requests. */
async function endpointOf(requests: File): Promise<string> {
  const [line = ""] = (await requests.slice(0, FIRST_LINE_BYTES).text()).split("\n", 1);
  try {
    return (JSON.parse(line) as { url?: string }).url || CHAT;
  } catch {
    return CHAT; // the check names the wrong line
  }
}

const upload = (requests: File) => uploadFile(requests, requests.name, "batch");

/** Checks each line of a file. The uploaded copy is deleted afterwards. */
async function check(requests: File): Promise<CheckedBatch> {
  const [id, endpoint] = [await upload(requests), await endpointOf(requests)];
  try {
    return await json<CheckedBatch>("/api/batches/check", { json: { input_file_id: id, endpoint } });
  } finally {
    await json(`/v1/files/${part(id)}`, { method: "DELETE" });
  }
}

/** Checks a file of requests, and starts a batch when its lines are correct. */
function NewBatch(props: { requests: File; onClose: () => void; onStart: () => void }) {
  const { requests } = props;
  const checked = useLoaded(() => check(requests), requests.name);
  const problems = checked.value?.errors ?? [];
  const start = async () => {
    const [id, endpoint] = [await upload(requests), await endpointOf(requests)];
    await json("/v1/batches", { json: { input_file_id: id, endpoint, completion_window: WINDOW } });
    props.onStart();
  };
  return (
    <FormDialog
      title={t("batches.new", { name: requests.name })}
      does={t("batches.start")}
      isReady={checked.value !== null && !problems.length}
      onSend={start}
      onClose={props.onClose}
    >
      <Trouble error={checked.error} retry={checked.retry} />
      {!checked.value && !checked.error && <p class="soft">{t("batches.checking")}</p>}
      {checked.value && !problems.length && (
        <p>{t("batches.plan", { total: count(checked.value.total), model: checked.value.model ?? "" })}</p>
      )}
      {problems.length > 0 && (
        <>
          <p>{t("batches.problems")}</p>
          <ul class="bad">
            {problems.slice(0, MAX_PROBLEMS).map(({ line, message }) => (
              <li key={`${line} ${message}`}>
                {line === null ? message : t("batches.line", { line: count(line), message })}
              </li>
            ))}
          </ul>
          {problems.length > MAX_PROBLEMS && (
            <p class="soft">{t("batches.more", { count: count(problems.length - MAX_PROBLEMS) })}</p>
          )}
        </>
      )}
    </FormDialog>
  );
}
