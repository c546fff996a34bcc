// Settings of one conversation: system prompt, parameters, and the stores and tools that its model can use.

import type { ComponentChildren } from "preact";
import { json, rows } from "../api";
import { FormDialog, Trouble, useLoaded } from "../parts/ui";
import { refresh, status } from "../status";
import type { Tool } from "../types";
import { t } from "../words/words";
import { choose, configure, settings, target } from "./conversation";
import type { Settings } from "./sessions";

/** Returns the values of the ticked checkboxes with a name. */
function ticked(form: FormData, name: string): string[] {
  return form.getAll(name).map(String);
}

function read(form: FormData, before: Settings): Settings {
  const instructions = String(form.get("instructions")).trim();
  const temperature = String(form.get("temperature"));
  const share = String(form.get("share"));
  const most = String(form.get("tokens"));
  const [stores, tools, servers] = ["stores", "tools", "servers"].map((name) => ticked(form, name));
  return {
    ...(before.documents ? { documents: before.documents } : {}),
    ...(before.skills ? { skills: before.skills } : {}),
    ...(before.into ? { into: before.into } : {}),
    ...(instructions ? { instructions } : {}),
    ...(temperature ? { temperature: Number(temperature) } : {}),
    ...(share ? { top_p: Number(share) } : {}),
    ...(most ? { max_output_tokens: Number(most) } : {}),
    ...(stores?.length ? { stores } : {}),
    ...(tools?.length ? { tools } : {}),
    ...(servers?.length ? { servers } : {}),
    ...(form.get("first") === "on" ? {} : { searches_at_will: true }),
  };
}

/** Deploys an agent with a model and these settings, or another version of it, and chooses it for the conversation. */
async function saveAgent(name: string, model: string, chosen: Settings, tools: Tool[]): Promise<void> {
  const known = status.value?.stores ?? [];
  const stores = (chosen.stores ?? []).flatMap((id) => known.find((store) => store.id === id)?.name ?? []);
  const ofServers = tools.filter((tool) => chosen.servers?.some((server) => tool.source === `mcp:${server}`));
  const spec = {
    portico_agent: 1,
    name,
    model,
    instructions: chosen.instructions ?? "",
    options: {
      ...(chosen.temperature === undefined ? {} : { temperature: chosen.temperature }),
      ...(chosen.top_p === undefined ? {} : { top_p: chosen.top_p }),
      ...(chosen.max_output_tokens ? { max_tokens: chosen.max_output_tokens } : {}),
    },
    stores,
    tools: [...(chosen.tools ?? []), ...ofServers.map((tool) => tool.name)],
    skills: chosen.skills ?? [],
  };
  await json("/api/apps", { json: { name, kind: "agent", spec } });
  await refresh();
  choose(name);
}

export function SettingsDialog({ onClose }: { onClose: () => void }) {
  const given = settings.value;
  const model = target.value;
  const tools = useLoaded(() => rows<Tool>("/api/tools"), "tools");
  const servers = useLoaded(() => rows<{ name: string }>("/api/mcp/servers"), "servers");
  const stores = (status.value?.stores ?? []).filter((store) => store.id !== given.documents);
  const single = (tools.value ?? []).filter((tool) => !tool.source.startsWith("mcp:"));
  return (
    <FormDialog
      title={t("settings.title")}
      does={t("save")}
      onSend={async (form) => {
        const chosen = read(form, given);
        await configure(chosen);
        const name = String(form.get("agent")).trim();
        if (name && model) await saveAgent(name, model.name, chosen, tools.value ?? []);
      }}
      onClose={onClose}
    >
      <label>
        <span>{t("settings.instructions")}</span>
        <textarea name="instructions" rows={5} maxLength={10_000} defaultValue={given.instructions ?? ""} />
      </label>
      <label>
        <span>{t("settings.temperature")}</span>
        <input
          name="temperature"
          type="number"
          min="0"
          max="2"
          step="0.1"
          defaultValue={given.temperature ?? ""}
        />
      </label>
      <label>
        <span>{t("settings.share")}</span>
        <input name="share" type="number" min="0" max="1" step="0.05" defaultValue={given.top_p ?? ""} />
      </label>
      <label>
        <span>{t("settings.tokens")}</span>
        <input name="tokens" type="number" min="1" step="1" defaultValue={given.max_output_tokens ?? ""} />
      </label>
      <Ticks
        legend={t("settings.stores")}
        name="stores"
        choices={stores.map((store) => ({ id: store.id, label: store.name }))}
        chosen={given.stores}
        none={t("settings.noStores")}
      >
        <label class="check">
          <input type="checkbox" name="first" defaultChecked={!given.searches_at_will} />
          {t("settings.searchFirst")}
        </label>
      </Ticks>
      {tools.value && (
        <Ticks
          legend={t("settings.tools")}
          name="tools"
          choices={single.map((tool) => ({ id: tool.name, label: tool.name }))}
          chosen={given.tools}
          none={t("tools.none")}
        />
      )}
      {servers.value && servers.value.length > 0 && (
        <Ticks
          legend={t("tools.servers")}
          name="servers"
          choices={servers.value.map(({ name }) => ({ id: name, label: name }))}
          chosen={given.servers}
          none={t("tools.noServers")}
        />
      )}
      <label>
        <span>{t("settings.agent")}</span>
        <input name="agent" maxLength={64} autocomplete="off" />
        <small class="soft">{t("settings.agentNote")}</small>
      </label>
      <Trouble error={tools.error} />
    </FormDialog>
  );
}

/** A list of checkboxes. */
function Ticks(props: {
  legend: string;
  name: string;
  choices: { id: string; label: string }[];
  chosen?: string[] | undefined;
  none: string;
  children?: ComponentChildren;
}) {
  return (
    <fieldset>
      <legend>{props.legend}</legend>
      {!props.choices.length && <p class="soft">{props.none}</p>}
      <div class="ticks">
        {props.choices.map((choice) => (
          <label key={choice.id} class="check">
            <input
              type="checkbox"
              name={props.name}
              value={choice.id}
              defaultChecked={props.chosen?.includes(choice.id) ?? false}
            />
            {choice.label}
          </label>
        ))}
      </div>
      {props.choices.length > 0 && props.children}
    </fieldset>
  );
}
