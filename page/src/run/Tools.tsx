import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { Menu } from "../parts/Menu";
import {
  CardList,
  Confirm,
  FormDialog,
  Lazy,
  Listing,
  LogDialog,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import { link, route } from "../route";
import type { McpServer, Tool } from "../types";
import { t } from "../words/words";
import { ToolCard } from "./ToolCard";

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
      <Lazy name="sources" load={() => import("./ToolSources")} given={{ onChange: tools.reload }} />
      <h2>{t("section.tools")}</h2>
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

/** The connected MCP servers. */
function Servers({ onChange }: { onChange: () => void }) {
  const servers = useLoaded(() => rows<McpServer>("/api/mcp/servers"), "servers");
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

function ServerCard({ server, onChange }: { server: McpServer; onChange: () => void }) {
  const [opened, setOpened] = useState<"" | "log" | "remove">("");
  const [busy, error, work] = useWork();
  const path = `/api/mcp/servers/${part(server.name)}`;
  return (
    <li class="card">
      <div class="actions spread">
        <a class="name" href={link("library", "tools", server.name)}>
          {server.name}
        </a>
        <span class="actions">
          <span class={server.error ? "bad" : "soft"}>{server.state}</span>
          <Menu name={server.name}>
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
          </Menu>
        </span>
      </div>
      <p class="soft">{[server.url || server.command.join(" "), server.tools.join(", ")].join(" · ")}</p>
      <Trouble error={server.error ?? error} />
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
