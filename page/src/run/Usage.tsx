import { useState } from "preact/hooks";
import { rows } from "../api";
import { count, dollars, duration } from "../format";
import { soft, Table } from "../parts/Table";
import { Listing, useLoaded } from "../parts/ui";
import { t } from "../words/words";

interface Total {
  name: string;
  operation: string;
  model: string;
  calls: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number | null;
  milliseconds: number;
}

const DAY_S = 86_400;

export function UsageTable() {
  const [days, setDays] = useState(7);
  const found = useLoaded(
    () => rows<Total>(`/api/usage?since=${Math.floor(Date.now() / 1000) - days * DAY_S}`),
    `usage ${days}`,
  );
  return (
    <>
      <div class="actions spread">
        <h1>{t("run.usage")}</h1>
        <select
          aria-label={t("usage.since")}
          value={days}
          onChange={(event) => setDays(Number(event.currentTarget.value))}
        >
          {[1, 7, 30].map((number) => (
            <option key={number} value={number}>
              {t("usage.days", { count: number })}
            </option>
          ))}
        </select>
      </div>
      <Listing found={found} none={t("usage.none")} note={t("usage.noneNote")}>
        {(totals) => (
          <Table
            label={t("run.usage")}
            rows={totals}
            keyOf={(total) => `${total.name} ${total.operation} ${total.model}`}
            columns={[
              { head: t("name"), cell: (total) => total.name },
              { head: t("usage.answeredBy"), cell: (total) => total.model },
              { head: t("usage.operation"), class: soft, cell: (total) => total.operation },
              { head: t("usage.calls"), cell: (total) => count(total.calls) },
              { head: t("usage.prompt"), cell: (total) => count(total.prompt_tokens) },
              { head: t("usage.answer"), cell: (total) => count(total.completion_tokens) },
              { head: t("usage.cost"), cell: (total) => (total.cost === null ? "" : dollars(total.cost)) },
              { head: t("search.time"), class: soft, cell: (total) => duration(total.milliseconds) },
            ]}
          />
        )}
      </Listing>
    </>
  );
}
