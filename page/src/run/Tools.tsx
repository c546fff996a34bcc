import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { QuestionView } from "../chat/AnswerView";
import { Made } from "../chat/Media";
import { SchemaForm } from "../parts/SchemaForm";
import {
  CardList,
  Confirm,
  FormDialog,
  Lazy,
  Listing,
  LogDialog,
  pretty,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import { link, route } from "../route";
import type { Schema } from "../types";
import { t } from "../words/words";
import { useProgress } from "./progress";

export interface Tool {
  name: string;
  title: string;
  description: string;
  input_schema: Schema;
  needs_approval: boolean;
  destructive: boolean;
  source: string;
}

interface Outcome {
  text: string;
  structured: Record<string, unknown> | null;
  is_error: boolean;
  artifacts: { id: string; name: string }[];
}

export function Tools() {
  return route.value.rest[1] ? (
    <Lazy name="server" load={() => import("./Server")} given={{}} />
  ) : (
    <AllTools />
  );
}

function AllTools() {
  const tools = useLoaded(() => rows<Tool>("/api/tools"), "tools");
  return (
    <>
      <Servers onChange={tools.reload} />
      <h2>{t("run.tools")}</h2>
      <Listing found={tools} none={t("tools.none")} note={t("tools.noneNote")}>
        {(listed) => (
          <ul class="cards" id="tools">
            {listed.map((tool) => (
              <ToolCard key={tool.name} tool={tool} />
            ))}
          </ul>
        )}
      </Listing>
    </>
  );
}

export function ToolCard({ tool }: { tool: Tool }) {
  const [run, setRun] = useState("");
  const [busy, error, work] = useWork();
  const traits = [
    tool.source,
    tool.needs_approval ? t("tools.approval") : "",
    tool.destructive ? t("tools.destructive") : "",
  ];
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">{tool.name}</span>
        <span class="soft">{traits.filter(Boolean).join(" · ")}</span>
      </div>
      <p class="soft">{tool.description}</p>
      <details class="aside">
        <summary>{t("tools.call")}</summary>
        <SchemaForm
          schema={{ ...tool.input_schema, properties: tool.input_schema.properties ?? {} }}
          send={busy ? t("apps.running") : t("tools.call")}
          onSend={(given) =>
            work(async () => {
              const path = `/api/tools/${part(tool.name)}/call?wait=false`;
              setRun((await json<{ run: string }>(path, { json: { arguments: given } })).run);
            })
          }
        />
        <Trouble error={error} />
        {run && <ToolCall key={run} run={run} />}
      </details>
    </li>
  );
}

/** A call on its way: what it waits for, and what came of it. */
function ToolCall({ run }: { run: string }) {
  const { ended, result, error, questions } = useProgress<Outcome>(run);
  const [leaving, wrong, leave] = useWork();
  const asText = result?.structured && pretty(result.structured);
  return (
    <div class="sections toolcall" aria-live="polite">
      {questions.map((question) => (
        <QuestionView key={question.id} question={question} />
      ))}
      {!ended && (
        <div class="actions">
          <span class="dots" aria-hidden="true" />
          <button
            type="button"
            disabled={leaving}
            onClick={() => leave(() => json(`/api/runs/${part(run)}/cancel`, { method: "POST" }))}
          >
            {t("stop")}
          </button>
        </div>
      )}
      <Trouble error={error || wrong} />
      {result && <pre class={result.is_error ? "bad" : ""}>{result.text}</pre>}
      {asText && !isSame(result.text, result.structured) && (
        <>
          <p class="soft">{t("tools.structured")}</p>
          <pre class="structured">{asText}</pre>
        </>
      )}
      {result?.artifacts.map((file) => (
        <Made key={file.id} file={file} />
      ))}
    </div>
  );
}

/** Whether a text is the JSON of a value, which then need not be seen twice. */
function isSame(text: string, value: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(value);
  } catch {
    return false;
  }
}

export interface Server {
  name: string;
  command: string[];
  url: string;
  state: string;
  error: string | null;
  tools: string[];
  configured: boolean;
  /** What it said of itself when it was reached last. */
  card: { title: string; version: string; protocol: string; instructions: string; capabilities: string[] };
  reached_at: number | null;
}

/** MCP servers of other people. */
function Servers({ onChange }: { onChange: () => void }) {
  const servers = useLoaded(() => rows<Server>("/api/mcp/servers"), "servers");
  const [adding, setAdding] = useState(false);
  const changed = () => {
    servers.reload();
    onChange();
  };
  return (
    <>
      <CardList
        id="servers"
        title={t("tools.servers")}
        adds={t("tools.addServer")}
        found={servers}
        none={t("tools.noServers")}
        note={t("tools.noServersNote")}
        onAdd={() => setAdding(true)}
      >
        {(server) => <ServerCard key={server.name} server={server} onChange={changed} />}
      </CardList>
      {adding && <AddServer onClose={() => setAdding(false)} onAdd={changed} />}
    </>
  );
}

function ServerCard({ server, onChange }: { server: Server; onChange: () => void }) {
  const [opened, setOpened] = useState<"" | "log" | "remove">("");
  const [busy, error, work] = useWork();
  const path = `/api/mcp/servers/${part(server.name)}`;
  return (
    <li class="card">
      <div class="actions spread">
        <a class="name" href={link("run", "tools", server.name)}>
          {server.name}
        </a>
        <span class={server.error ? "bad" : "soft"}>{server.state}</span>
      </div>
      <p class="soft">{[server.url || server.command.join(" "), server.tools.join(", ")].join(" · ")}</p>
      <Trouble error={server.error ?? error} />
      <div class="actions">
        <button
          type="button"
          disabled={busy}
          onClick={() =>
            work(async () => {
              await json(`${path}/restart`, { method: "POST" });
              onChange();
            })
          }
        >
          {t("tools.restart")}
        </button>
        <button type="button" onClick={() => setOpened("log")}>
          {t("logs")}
        </button>
        {!server.configured && (
          <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
            {t("delete")}
          </button>
        )}
      </div>
      {opened === "log" && (
        <LogDialog
          title={t("logs.of", { name: server.name })}
          load={() => rows<string>(`${path}/logs`)}
          onClose={() => setOpened("")}
        />
      )}
      {opened === "remove" && (
        <Confirm
          title={t("tools.removeServer", { name: server.name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              onChange();
            })
          }
        />
      )}
    </li>
  );
}

function AddServer({ onClose, onAdd }: { onClose: () => void; onAdd: () => void }) {
  const add = async (form: FormData) => {
    const where = String(form.get("where")).trim();
    const reached = /^https?:/.test(where) ? { url: where } : { command: where.split(/\s+/) };
    await json("/api/mcp/servers", { json: { name: String(form.get("name")).trim(), ...reached } });
    onAdd();
  };
  return (
    <FormDialog title={t("tools.addServer")} does={t("tools.addServer")} onSend={add} onClose={onClose}>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={64} />
      </label>
      <label>
        <span>{t("tools.where")}</span>
        <input name="where" required placeholder="https://mcp.example.org/mcp" />
      </label>
    </FormDialog>
  );
}
