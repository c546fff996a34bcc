// Facts that agents remember from conversations.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { moment } from "../format";
import { IconButton } from "../parts/Icon";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import { FormDialog, Listing, Trouble, useLoaded } from "../parts/ui";
import type { Fact, FactHistory } from "../types";
import { t } from "../words/words";

const BASE = "/api/facts";

function conversationOf({ source }: Fact): string {
  return source.app ? `${source.app}/${source.name}` : "";
}

function wordsOf(fact: Fact): string | null {
  return fact.span ? fact.span.words : fact.source.said;
}

/** The versions of a fact, newest first, and a button that restores the version before the last change. */
function History({ fact, onClose }: { fact: Fact; onClose: () => void }) {
  const history = useLoaded(() => json<FactHistory>(`${BASE}/${part(fact.id)}`), fact.id);
  const versions = history.value ? [history.value.fact, ...history.value.versions] : [];
  const hasEarlier = versions.some((version) => version.reason && version.reason !== "reverted");
  return (
    <FormDialog
      title={t("facts.history")}
      does={t("facts.revert")}
      isReady={hasEarlier}
      onSend={async () => {
        await json(`${BASE}/${part(fact.id)}/revert`, { method: "POST" });
      }}
      onClose={onClose}
    >
      <Trouble error={history.error} retry={history.retry} />
      <Table
        label={t("facts.history")}
        id="fact-history"
        rows={versions}
        keyOf={(version) => `${version.changed_at} ${version.text}`}
        columns={[
          { head: t("facts.fact"), cell: (version) => version.text },
          {
            head: t("facts.said"),
            class: soft,
            cell: (version) => version.span?.words ?? t("facts.noWords"),
          },
          { head: t("facts.changed"), class: soft, cell: (version) => moment(version.changed_at) },
          {
            head: t("facts.ended"),
            class: soft,
            cell: (version) => version.reason && t(`facts.ended.${version.reason}`),
          },
        ]}
      />
    </FormDialog>
  );
}

export function View() {
  const found = useRemaining(useLoaded(() => rows<Fact>(`${BASE}?limit=1000`), BASE));
  const [changed, setChanged] = useState<Fact | null>(null);
  const [past, setPast] = useState<Fact | null>(null);
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
            text={(fact) => `${fact.text} ${fact.source.agent} ${conversationOf(fact)} ${wordsOf(fact)}`}
            columns={[
              { head: t("facts.fact"), cell: (fact) => fact.text },
              { head: t("facts.agent"), class: soft, cell: (fact) => fact.source.agent },
              { head: t("conversations.one"), class: soft, cell: conversationOf },
              { head: t("facts.said"), class: soft, cell: wordsOf },
              { head: t("facts.changed"), class: soft, cell: (fact) => moment(fact.changed_at) },
              {
                head: t("actions"),
                quiet: true,
                cell: (fact) => (
                  <div class="actions">
                    <button type="button" onClick={() => setChanged(fact)}>
                      {t("edit")}
                    </button>
                    <button type="button" onClick={() => setPast(fact)}>
                      {t("facts.history")}
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
      {past && (
        <History
          fact={past}
          onClose={() => {
            setPast(null);
            found.reload();
          }}
        />
      )}
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
