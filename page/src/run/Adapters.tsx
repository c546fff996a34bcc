// Adapters of a model: sets of weights on top of its own, each with a model name.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { bytes } from "../format";
import { soft, Table } from "../parts/Table";
import { Confirm, Dialog, Listing, Trouble, useLoaded, useWork } from "../parts/ui";
import { link } from "../route";
import { refresh } from "../status";
import type { Adapter, FineTuningJob } from "../types";
import { t } from "../words/words";

const inPath = (name: string) => name.split("/").map(part).join("/");

function rescale(name: string, scale: number): Promise<unknown> {
  return json(`/api/adapters/${inPath(name)}`, { method: "PATCH", json: { scale } });
}

function remove(name: string): Promise<unknown> {
  return json(`/api/adapters/${inPath(name)}`, { method: "DELETE" });
}

/** Loads the adapters with the jobs that created them, if the key may see these jobs. */
async function load(model: string): Promise<(Adapter & { job: string })[]> {
  const [adapters, jobs] = await Promise.all([
    rows<Adapter>(`/api/adapters?base=${part(model)}`),
    rows<FineTuningJob>("/v1/fine_tuning/jobs?limit=100").catch(() => []),
  ]);
  return adapters.map((adapter) => {
    const made = jobs.find(
      ({ fine_tuned_model: name }) => name && (adapter.name === name || adapter.name.startsWith(`${name}:`)),
    );
    return { ...adapter, job: made?.id ?? "" };
  });
}

export function Adapters({ model, onClose }: { model: string; onClose: () => void }) {
  const found = useLoaded(() => load(model), model);
  const [removing, setRemoving] = useState("");
  const [busy, error, work] = useWork();
  const change = (does: () => Promise<unknown>) =>
    work(async () => {
      await does();
      found.reload();
      await refresh();
    });
  return (
    <Dialog title={t("adapters.of", { name: model })} onClose={onClose} side>
      <div class="sections">
        <Listing found={found} none={t("adapters.none")} note={t("adapters.noneNote")}>
          {(adapters) => (
            <Table
              label={t("adapters.of", { name: model })}
              id="adapters"
              rows={adapters}
              keyOf={(adapter) => `${adapter.name} ${adapter.scale}`}
              columns={[
                { head: t("name"), cell: (adapter) => <span class="name">{adapter.name}</span> },
                {
                  head: t("files.state"),
                  class: (adapter) => (adapter.state === "failed" ? "bad" : "soft"),
                  cell: (adapter) => t(`adapters.${adapter.state}`),
                },
                {
                  head: t("adapters.from"),
                  class: soft,
                  cell: (adapter) =>
                    adapter.job ? (
                      <a href={link("run", "finetunes")}>{t("adapters.trained", { name: adapter.job })}</a>
                    ) : (
                      t(adapter.configured ? "adapters.configured" : "adapters.added")
                    ),
                },
                { head: t("files.size"), class: soft, cell: (adapter) => bytes(adapter.bytes) },
                {
                  head: t("adapters.scale"),
                  cell: (adapter) => (
                    <form
                      class="line"
                      onSubmit={(event) => {
                        event.preventDefault();
                        const scale = Number(new FormData(event.currentTarget).get("scale"));
                        change(() => rescale(adapter.name, scale));
                      }}
                    >
                      <input
                        name="scale"
                        type="number"
                        step="any"
                        required
                        aria-label={`${t("adapters.scale")}: ${adapter.name}`}
                        defaultValue={String(adapter.scale)}
                      />
                      <button type="submit" disabled={busy}>
                        {t("save")}
                      </button>
                    </form>
                  ),
                },
                {
                  head: t("actions"),
                  quiet: true,
                  cell: (adapter) =>
                    !adapter.configured && (
                      <button
                        type="button"
                        class="quiet"
                        disabled={busy}
                        aria-label={t("adapters.removeNamed", { name: adapter.name })}
                        onClick={() => setRemoving(adapter.name)}
                      >
                        ✕
                      </button>
                    ),
                },
              ]}
            />
          )}
        </Listing>
        {!found.denied && (
          <form
            class="fields"
            id="addadapter"
            onSubmit={(event) => {
              event.preventDefault();
              const form = new FormData(event.currentTarget);
              const [name, path] = [String(form.get("name")).trim(), String(form.get("path")).trim()];
              change(() => json("/api/adapters", { json: { base: model, name, path } }));
            }}
          >
            <h2>{t("adapters.add")}</h2>
            <label>
              <span>{t("name")}</span>
              <input name="name" required maxLength={256} />
            </label>
            <label>
              <span>{t("adapters.path")}</span>
              <input name="path" required placeholder="/srv/adapters/legal" />
            </label>
            <Trouble error={error} />
            <div class="actions">
              <button type="submit" class="primary" disabled={busy}>
                {t("adapters.add")}
              </button>
            </div>
          </form>
        )}
      </div>
      {removing && (
        <Confirm
          title={t("adapters.remove", { name: removing })}
          does={t("delete")}
          onClose={() => setRemoving("")}
          onYes={() => change(() => remove(removing))}
        />
      )}
    </Dialog>
  );
}
