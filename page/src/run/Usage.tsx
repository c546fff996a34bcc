import { useState } from "preact/hooks";
import { rows } from "../api";
import { count, dollars, duration, moment } from "../format";
import { Chart } from "../parts/Chart";
import { soft, Table } from "../parts/Table";
import { Listing, Trouble, useLoaded } from "../parts/ui";
import type { Total, UsagePoint } from "../types";
import { t } from "../words/words";

const DAY_S = 86_400;
const HOUR_S = 3_600;

export function UsageTable() {
  const [days, setDays] = useState(7);
  const since = Math.floor(Date.now() / 1000) - days * DAY_S;
  const found = useLoaded(() => rows<Total>(`/api/usage?since=${since}`), `usage ${days}`);
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.usage")}</h1>
        <select
          aria-label={t("usage.since")}
          value={days}
          onChange={(event) => setDays(Number(event.currentTarget.value))}
        >
          {[1, 7, 30, 365].map((number) => (
            <option key={number} value={number}>
              {t("usage.days", { count: number })}
            </option>
          ))}
        </select>
      </div>
      <Listing found={found} none={t("usage.none")} note={t("usage.noneNote")}>
        {(totals) => (
          <>
            <Course since={since} days={days} />
            <h2>{t("usage.totals")}</h2>
            <Table
              label={t("section.usage")}
              id="usage"
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
          </>
        )}
      </Listing>
    </>
  );
}

const MEASURES = {
  tokens: (point: UsagePoint) => point.prompt_tokens + point.completion_tokens,
  cost: (point: UsagePoint) => point.cost ?? 0,
  calls: (point: UsagePoint) => point.calls,
};
type Measure = keyof typeof MEASURES;
const GROUPS = ["model", "key", "name"] as const;

/** Returns a line for each series over all steps from `first` on, with zero for steps without usage. */
export function linesOver(
  points: UsagePoint[],
  measure: Measure,
  first: number,
  last: number,
  stepS: number,
) {
  const series = new Map<string | null, Map<number, number>>();
  for (const point of points) {
    const sums = series.get(point.series) ?? new Map<number, number>();
    series.set(point.series, sums.set(Math.round((point.at - first) / stepS), MEASURES[measure](point)));
  }
  const steps = Math.round((last - first) / stepS);
  return [...series].map(([id, sums]) => ({
    name: nameOf(points.find((point) => point.series === id)),
    points: Array.from({ length: steps + 1 }, (_, x) => ({ x, y: sums.get(x) ?? 0 })),
  }));
}

function nameOf(point: UsagePoint | undefined): string {
  if (!point || point.series === null) return t("usage.others");
  return point.name || t("usage.noModel");
}

/** Usage over time, as a chart and as a table of the same numbers. */
function Course({ since, days }: { since: number; days: number }) {
  const [by, setBy] = useState<(typeof GROUPS)[number]>("model");
  const [measure, setMeasure] = useState<Measure>("tokens");
  const step = days > 7 ? "day" : "hour";
  const stepS = step === "day" ? DAY_S : HOUR_S;
  const found = useLoaded(
    () => rows<UsagePoint>(`/api/usage/course?since=${since}&step=${step}&by=${by}`),
    `course ${days} ${by}`,
  );
  const shown = measure === "cost" ? dollars : count;
  const begin = Math.floor(since / stepS) * stepS;
  const end = Math.floor(Date.now() / 1000 / stepS) * stepS;
  const label = `${t(`usage.${measure}`)} · ${t(`usage.by.${by}`)}`;
  const points = found.value?.filter((point) => MEASURES[measure](point) > 0) ?? [];
  return (
    <>
      <div class="actions">
        <select
          aria-label={t("usage.measure")}
          value={measure}
          onChange={(event) => setMeasure(event.currentTarget.value as Measure)}
        >
          {(Object.keys(MEASURES) as Measure[]).map((each) => (
            <option key={each} value={each}>
              {t(`usage.${each}`)}
            </option>
          ))}
        </select>
        <select
          aria-label={t("usage.by")}
          value={by}
          onChange={(event) => setBy(event.currentTarget.value as typeof by)}
        >
          {GROUPS.map((each) => (
            <option key={each} value={each}>
              {t(`usage.by.${each}`)}
            </option>
          ))}
        </select>
      </div>
      <Trouble error={found.error} retry={found.retry} />
      {found.value && !points.length && <p class="soft">{t("usage.noMeasure")}</p>}
      {points.length > 0 && (
        <>
          <Chart
            label={label}
            lines={linesOver(points, measure, begin, end, stepS)}
            xName=""
            ends={[moment(begin), moment(end)]}
            total={(line) => shown(line.points.reduce((sum, point) => sum + point.y, 0))}
          />
          <details class="aside" id="usagecourse">
            <summary>{t("usage.asTable")}</summary>
            <Table
              label={label}
              rows={points.toReversed()}
              keyOf={(point) => `${point.at} ${point.series}`}
              columns={[
                { head: t("usage.since"), cell: (point) => moment(point.at) },
                { head: t(`usage.by.${by}`), cell: nameOf },
                { head: t("usage.calls"), cell: (point) => count(point.calls) },
                { head: t("usage.prompt"), cell: (point) => count(point.prompt_tokens) },
                { head: t("usage.answer"), cell: (point) => count(point.completion_tokens) },
                {
                  head: t("usage.cost"),
                  cell: (point) => (point.cost === null ? "" : dollars(point.cost)),
                },
              ]}
            />
          </details>
        </>
      )}
    </>
  );
}
