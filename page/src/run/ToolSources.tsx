// The commands, functions, APIs and databases that were added as tools.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { Menu } from "../parts/Menu";
import { CardList, Confirm, FormDialog, Trouble, useLoaded, useWork } from "../parts/ui";
import type { ToolSource } from "../types";
import { t } from "../words/words";

const BASE = "/api/tool-sources";
const KINDS = ["command", "function", "openapi", "database"] as const;

export function View({ onChange }: { onChange: () => void }) {
  const found = useLoaded(() => rows<ToolSource>(BASE), BASE);
  const [isAdding, setAdding] = useState(false);
  const changed = () => {
    found.reload();
    onChange();
  };
  return (
    <>
      <CardList
        id="toolsources"
        title={t("sources.title")}
        adds={t("sources.add")}
        found={found}
        none={t("sources.none")}
        note={t("sources.noneNote")}
        onAdd={() => setAdding(true)}
      >
        {(source) => <SourceCard key={source.name} source={source} onChange={changed} />}
      </CardList>
      {isAdding && <AddSource onClose={() => setAdding(false)} onAdd={changed} />}
    </>
  );
}

function SourceCard({ source, onChange }: { source: ToolSource; onChange: () => void }) {
  const [isRemoving, setRemoving] = useState(false);
  const [busy, error, work] = useWork();
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">{source.name}</span>
        <span class="actions">
          <span class={source.error ? "bad" : "soft"}>{source.state}</span>
          {!source.configured && (
            <Menu name={source.name}>
              <button type="button" class="danger" disabled={busy} onClick={() => setRemoving(true)}>
                {t("delete")}
              </button>
            </Menu>
          )}
        </span>
      </div>
      <p class="soft">{[source.kind, source.what, source.tools.join(", ")].filter(Boolean).join(" · ")}</p>
      {source.warning && <p class="bad">{source.warning}</p>}
      <Trouble error={source.error ?? error} />
      {isRemoving && (
        <Confirm
          title={t("sources.remove", { name: source.name })}
          does={t("delete")}
          onClose={() => setRemoving(false)}
          onYes={() =>
            work(async () => {
              await json(`${BASE}/${part(source.name)}`, { method: "DELETE" });
              onChange();
            })
          }
        />
      )}
    </li>
  );
}

function AddSource({ onClose, onAdd }: { onClose: () => void; onAdd: () => void }) {
  const add = async (form: FormData) => {
    const value = (name: string) => String(form.get(name)).trim();
    const kind = value("kind");
    const what = kind === "command" ? value("what").split(/\s+/) : value("what");
    await json(BASE, {
      json: {
        name: value("name"),
        [kind]: what,
        description: value("description"),
        approval: value("approval"),
      },
    });
    onAdd();
  };
  return (
    <FormDialog title={t("sources.add")} does={t("sources.add")} onSend={add} onClose={onClose}>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={64} />
      </label>
      <label>
        <span>{t("sources.kind")}</span>
        <select name="kind">
          {KINDS.map((kind) => (
            <option key={kind} value={kind}>
              {t(`sources.${kind}`)}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>{t("sources.what")}</span>
        <input name="what" required />
        <small class="soft">{t("sources.whatNote")}</small>
      </label>
      <label>
        <span>{t("prompts.description")}</span>
        <input name="description" maxLength={500} />
      </label>
      <label>
        <span>{t("sources.approval")}</span>
        <select name="approval">
          <option value="">{t("sources.byDefault")}</option>
          <option value="always">{t("sources.always")}</option>
          <option value="never">{t("sources.never")}</option>
        </select>
      </label>
    </FormDialog>
  );
}
