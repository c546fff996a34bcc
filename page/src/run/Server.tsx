// A connected MCP server: its description, its tools, its resources and its prompts.

import { useEffect, useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { startNew } from "../chat/conversation";
import { bytes, moment } from "../format";
import { remember } from "../kept";
import { SchemaForm } from "../parts/SchemaForm";
import { soft, Table } from "../parts/Table";
import { Dialog, Listing, Trouble, useLoaded, useWork } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import type { McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer, Tool } from "../types";
import { t } from "../words/words";
import { ToolCard } from "./ToolCard";

const POLL_INTERVAL_MS = 10_000;
const START_POLL_INTERVAL_MS = 1_000;

export function View() {
  const [, name = ""] = route.value.rest;
  useTrail({ label: name });
  const base = `/api/mcp/servers/${part(name)}`;
  const [interval, setInterval] = useState(POLL_INTERVAL_MS);
  const server = useLoaded(
    async () => {
      const found = await json<McpServer>(base);
      setInterval(found.state === "ready" ? POLL_INTERVAL_MS : START_POLL_INTERVAL_MS);
      return found;
    },
    base,
    interval,
  );
  return (
    <>
      <h1>{name}</h1>
      <Trouble error={server.error} retry={server.retry} />
      {server.value && <Card server={server.value} onChange={server.reload} />}
      {server.value?.state === "ready" && <Offered server={server.value} />}
    </>
  );
}

/** The contents of a connected server. */
function Offered({ server }: { server: McpServer }) {
  const [, , what, chosen = ""] = route.value.rest;
  const { name } = server;
  const base = `/api/mcp/servers/${part(name)}`;
  const tools = useLoaded(
    async () => (await rows<Tool>("/api/tools")).filter((tool) => tool.source === `mcp:${name}`),
    `tools ${name} ${server.tools.join()}`,
  );
  const resources = useLoaded(() => rows<McpResource>(`${base}/resources`), `${base}/resources`);
  const prompts = useLoaded(() => rows<McpPrompt>(`${base}/prompts`), `${base}/prompts`);
  const prompt = prompts.value?.find((each) => each.name === chosen);
  return (
    <>
      <h2>{t("section.tools")}</h2>
      <Listing found={tools} none={t("server.noTools")}>
        {(listed) => (
          <ul class="cards" id="servertools">
            {listed.map((tool) => (
              <ToolCard key={tool.name} tool={tool} />
            ))}
          </ul>
        )}
      </Listing>
      <h2>{t("server.resources")}</h2>
      <Listing found={resources} none={t("server.noResources")} note={t("server.noResourcesNote")}>
        {(listed) => (
          <Table
            label={t("server.resources")}
            id="resources"
            rows={listed}
            keyOf={(resource) => resource.uri}
            text={(resource) => `${resource.title} ${resource.name} ${resource.uri} ${resource.description}`}
            columns={[
              {
                head: t("name"),
                cell: (resource) => (
                  <a href={link("library", "tools", name, "resource", resource.uri)}>
                    {resource.title || resource.name}
                  </a>
                ),
              },
              { head: t("server.address"), class: soft, cell: (resource) => resource.uri },
              { head: t("prompts.description"), class: soft, cell: (resource) => resource.description },
              { head: t("editor.kind"), class: soft, cell: (resource) => resource.mime_type },
              { head: t("files.size"), class: soft, cell: (resource) => bytes(resource.size) },
            ]}
          />
        )}
      </Listing>
      <h2>{t("section.prompts")}</h2>
      <Listing found={prompts} none={t("server.noPrompts")} note={t("server.noPromptsNote")}>
        {(listed) => (
          <ul class="cards" id="serverprompts">
            {listed.map((each) => (
              <li key={each.name} class="card">
                <a class="name" href={link("library", "tools", name, "prompt", each.name)}>
                  {each.title || each.name}
                </a>
                {each.description && <p class="soft">{each.description}</p>}
              </li>
            ))}
          </ul>
        )}
      </Listing>
      {what === "resource" && (
        <ResourceDialog
          key={chosen}
          server={name}
          uri={chosen}
          isTemplate={resources.value?.some((each) => each.template && each.uri === chosen) ?? null}
        />
      )}
      {what === "prompt" && prompt && <PromptDialog key={chosen} server={name} prompt={prompt} />}
    </>
  );
}

/** The server's description of itself, and its state. */
function Card({ server, onChange }: { server: McpServer; onChange: () => void }) {
  const [busy, error, work] = useWork();
  const { card } = server;
  return (
    <section class="card" id="servercard" aria-label={t("server.card")}>
      <div class="actions spread">
        <span class="name">{[card.title, card.version].filter(Boolean).join(" ") || server.name}</span>
        <span class={server.error ? "bad" : "soft"}>{server.state}</span>
      </div>
      <p class="soft">
        {[
          server.url || server.command.join(" "),
          card.protocol && t("server.protocol", { revision: card.protocol }),
          server.reached_at && t("server.reached", { when: moment(server.reached_at) }),
        ]
          .filter(Boolean)
          .join(" · ")}
      </p>
      {card.capabilities.length > 0 && (
        <p>
          {card.capabilities.map((each) => (
            <code key={each} class="chip">
              {each}
            </code>
          ))}
        </p>
      )}
      {card.instructions && <pre>{card.instructions}</pre>}
      <Trouble
        error={server.error || error}
        retry={
          busy
            ? undefined
            : () =>
                work(async () => {
                  await json(`/api/mcp/servers/${part(server.name)}/restart`, { method: "POST" });
                  onChange();
                })
        }
      />
    </section>
  );
}

/**
 * The contents at an address. The user first fills in the braces of a template. `isTemplate` is null until it is known.
 */
function ResourceDialog(props: { server: string; uri: string; isTemplate: boolean | null }) {
  const { server, uri, isTemplate } = props;
  const [address, setAddress] = useState("");
  const wanted = isTemplate === false ? uri : address;
  const path = `/api/mcp/servers/${part(server)}/resources/read`;
  const found = useLoaded(
    async () => (wanted ? rows<McpContent>(path, { json: { uri: wanted } }) : null),
    `${path} ${wanted}`,
  );
  return (
    <Dialog title={uri} onClose={() => go(link("library", "tools", server))} side>
      {isTemplate && (
        <form
          class="fields"
          onSubmit={(event) => {
            event.preventDefault();
            setAddress(String(new FormData(event.currentTarget).get("address")).trim());
          }}
        >
          <label>
            <span>{t("server.address")}</span>
            <input name="address" required maxLength={4_000} defaultValue={uri} />
            <small class="soft">{t("server.templateNote")}</small>
          </label>
          <div class="actions">
            <button type="submit" class="primary">
              {t("server.read")}
            </button>
          </div>
        </form>
      )}
      <Trouble error={found.error} retry={found.retry} />
      {found.value?.length === 0 && <p class="soft">{t("server.empty")}</p>}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document chunks" tabIndex={0} aria-label={t("source.text")}>
        {found.value?.map((content, number) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: contents may share an address and keep their order
          <ContentView key={number} content={content} />
        ))}
      </section>
    </Dialog>
  );
}

const isPicture = (type: string) => type.startsWith("image/");

/** Text, an image, or a file to download. Nothing in it is executed. */
function ContentView({ content }: { content: McpContent }) {
  const { data, text, mime_type: type, uri } = content;
  if (text !== null) return <pre>{text}</pre>;
  if (data === null) return null;
  if (isPicture(type)) return <img class="made" src={`data:${type};base64,${data}`} alt={uri} />;
  return <FileLink uri={uri} type={type} data={data} />;
}

function FileLink({ uri, type, data }: { uri: string; type: string; data: string }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([bytesOf(data)], { type: "application/octet-stream" }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [data]);
  if (!url) return null;
  const name = uri.split(/[?#]/)[0]?.split("/").at(-1) || "file";
  return (
    <p>
      <a class="made" href={url} download={name}>
        {t("server.save", { name })}
      </a>{" "}
      <span class="soft">{[type, bytes(Math.floor((data.length * 3) / 4))].filter(Boolean).join(" · ")}</span>
    </p>
  );
}

/** Decodes base64. Returns no bytes if the data is invalid. */
function bytesOf(data: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

function PromptDialog({ server, prompt }: { server: string; prompt: McpPrompt }) {
  const [messages, setMessages] = useState<McpPromptMessage[] | null>(null);
  const [busy, error, work] = useWork();
  const path = `/api/mcp/servers/${part(server)}/prompts/render`;
  const schema = {
    type: "object",
    properties: Object.fromEntries(
      prompt.arguments.map((each) => [
        each.name,
        { type: "string", description: each.description, ...(each.title ? { title: each.title } : {}) },
      ]),
    ),
    required: prompt.arguments.filter((each) => each.required).map((each) => each.name),
  };
  return (
    <Dialog title={prompt.title || prompt.name} onClose={() => go(link("library", "tools", server))} side>
      <div class="sections">
        {prompt.description && <p class="soft">{prompt.description}</p>}
        <SchemaForm
          schema={schema}
          send={busy ? t("apps.running") : t("server.fill")}
          onSend={(given) =>
            work(async () => {
              setMessages(null);
              setMessages(
                await rows<McpPromptMessage>(path, { json: { name: prompt.name, arguments: given } }),
              );
            })
          }
        />
        <Trouble error={error} />
        {messages?.length === 0 && <p class="soft">{t("server.empty")}</p>}
        {messages && messages.length > 0 && (
          <>
            <div id="messages">
              {messages.map((message, number) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: messages have no other identity and keep their order
                <div key={number}>
                  <p class="soft">{message.role}</p>
                  {message.data && isPicture(message.mime_type) ? (
                    <img
                      class="made"
                      src={`data:${message.mime_type};base64,${message.data}`}
                      alt={message.text}
                    />
                  ) : (
                    <pre>{message.text}</pre>
                  )}
                </div>
              ))}
            </div>
            <div class="actions">
              <button type="button" class="primary" onClick={() => ask(messages)}>
                {t("server.ask")}
              </button>
            </div>
          </>
        )}
      </div>
    </Dialog>
  );
}

/** Puts the messages into the question field of a new conversation, where the user can edit them before sending. */
function ask(messages: McpPromptMessage[]): void {
  const isTalk = messages.some((message) => message.role !== "user");
  const text = messages.map((message) => (isTalk ? `${message.role}: ${message.text}` : message.text));
  remember("draft.", text.join("\n\n"));
  startNew();
}
