// Facts that agents remember from conversations.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { moment } from "../format";
import { IconButton } from "../parts/Icon";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import { FormDialog, Listing, useLoaded } from "../parts/ui";
import type { Fact } from "../types";
import { t } from "../words/words";

const BASE = "/api/facts";

function conversationOf({ source }: Fact): string {
  return source.app ? `${source.app}/${source.name}` : "";
}

export function View() {
  const found = useRemaining(useLoaded(() => rows<Fact>(`${BASE}?limit=1000`), BASE));
  const [changed, setChanged] = useState<Fact | null>(null);
  const remove = (fact: Fact) =>
    removeLater({
      id: fact.id,
      label: t("facts.deleted", { text: fact.text }),
      send: async () => {
        await json(`${BASE}/${part(fact.id)}`, { method: "DELETE" });
        found.reload();
      },
    });
  return (
    <>
      <h1>{t("section.facts")}</h1>
      <Listing found={found} none={t("facts.none")} note={t("facts.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.facts")}
            id="facts"
            rows={listed}
            keyOf={(fact) => fact.id}
            text={(fact) => `${fact.text} ${fact.source.agent} ${conversationOf(fact)} ${fact.source.said}`}
            columns={[
              { head: t("facts.fact"), cell: (fact) => fact.text },
              { head: t("facts.agent"), class: soft, cell: (fact) => fact.source.agent },
              { head: t("conversations.one"), class: soft, cell: conversationOf },
              { head: t("facts.said"), class: soft, cell: (fact) => fact.source.said },
              { head: t("facts.changed"), class: soft, cell: (fact) => moment(fact.changed_at) },
              {
                head: t("actions"),
                quiet: true,
                cell: (fact) => (
                  <div class="actions">
                    <button type="button" onClick={() => setChanged(fact)}>
                      {t("edit")}
                    </button>
                    <IconButton
                      icon="remove"
                      label={t("facts.delete", { text: fact.text })}
                      onClick={() => remove(fact)}
                    />
                  </div>
                ),
              },
            ]}
          />
        )}
      </Listing>
      {changed && (
        <FormDialog
          title={t("facts.change")}
          does={t("save")}
          onSend={async (form) => {
            await json(`${BASE}/${part(changed.id)}`, { method: "PATCH", json: { text: form.get("text") } });
            found.reload();
          }}
          onClose={() => setChanged(null)}
        >
          <label>
            <span>{t("facts.fact")}</span>
            <textarea name="text" rows={4} required defaultValue={changed.text} />
          </label>
        </FormDialog>
      )}
    </>
  );
}
