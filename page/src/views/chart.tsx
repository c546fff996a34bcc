// Scores of evaluations and curves of fine-tuning: lines over steps, and a table of the same numbers.

import { Chart, type Line } from "../parts/Chart";
import { useWork } from "../parts/work";
import { calls, callTool, input, result, textOf, tool } from "./host";
import { show } from "./View";
import { t } from "./words";

const MAX_LINES = 4;

interface Drawn {
  title?: string;
  x?: string;
  lines?: Line[];
  columns?: string[];
  rows?: (string | number | null)[][];
}

function Drawing({ found, text }: { found: Drawn; text: string }) {
  const [busy, error, work] = useWork();
  const lines = (found.lines ?? []).filter((line) => line.points.length).slice(0, MAX_LINES);
  const again = () =>
    work(async () => {
      result.value = await callTool(tool.value, input.value ?? {});
    });
  return (
    <>
      <h1>{found.title ?? ""}</h1>
      {lines.length > 0 && <Chart label={found.title ?? ""} lines={lines} xName={found.x ?? ""} />}
      {found.rows?.length ? (
        <table>
          <thead>
            <tr>
              {(found.columns ?? []).map((column) => (
                <th key={column}>{column}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.rows.map((row) => (
              <tr key={row.join("\n")}>
                {row.map((cell, place) => (
                  <td key={found.columns?.[place]}>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <pre>{text}</pre>
      )}
      {calls.value && tool.value && (
        <button type="button" disabled={busy} onClick={again}>
          {t("views.again")}
        </button>
      )}
      {error && <p class="bad">{error}</p>}
    </>
  );
}

show((found) => <Drawing found={(found.structuredContent ?? {}) as Drawn} text={textOf(found)} />);
