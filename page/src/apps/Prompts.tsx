import { useState } from "preact/hooks";
import { json, rows } from "../api";
import { moment } from "../format";
import { FileDrop } from "../parts/FileDrop";
import { Menu } from "../parts/Menu";
import {
  CardList,
  Confirm,
  Dialog,
  FormDialog,
  Lazy,
  saveAs,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import type { ImportedPrompts, Prompt, PromptArgument } from "../types";
import { t } from "../words/words";
import { exportPrompt, loadPrompts, promptVersions, removePrompt } from "./promptCalls";

type Argument = Pick<PromptArgument, "name"> & Partial<PromptArgument>;

/** Returns the arguments of a text, each once. Descriptions of known arguments are kept; `{{` is a literal brace. */
export function argumentsOf(content: string, known: Argument[]): Argument[] {
  const names = [...content.replaceAll("{{", "").matchAll(/\{(\w+)\}/g)].map((found) => found[1] ?? "");
  const added = [...new Set(names)].filter((name) => !known.some((argument) => argument.name === name));
  return [...known, ...added.map((name) => ({ name, required: true }))];
}

export function Prompts() {
  const found = useLoaded(() => rows<Prompt>("/api/prompts"), "prompts");
  const [writing, setWriting] = useState(false);
  const [imported, setImported] = useState<ImportedPrompts | null>(null);
  const [, error, work] = useWork();
  const load = (file: File) =>
    work(async () => {
      setImported(null);
      setImported(await loadPrompts(file));
      found.reload();
    });
  return (
    <>
      <CardList
        id="prompts"
        title={t("section.prompts")}
        adds={t("prompts.new")}
        found={found}
        none={t("prompts.none")}
        note={t("prompts.noneNote")}
        onAdd={() => setWriting(true)}
        intro={
          <>
            <FileDrop
              id="promptfile"
              note={t("prompts.drop")}
              chooses={t("batches.choose")}
              accept=".yaml,.yml,.md,.prompty,.prompt,.json"
              onFile={load}
            />
            <Trouble error={error} />
            <p class="soft" role="status" id="imported">
              {imported &&
                (["added", "changed", "unchanged"] as const)
                  .filter((kind) => imported[kind].length)
                  .map((kind) => t(`prompts.${kind}`, { names: imported[kind].join(", ") }))
                  .join(" · ")}
            </p>
          </>
        }
      >
        {(prompt) => <PromptCard key={prompt.id} prompt={prompt} onChange={found.reload} />}
      </CardList>
      {writing && <PromptDialog onClose={() => setWriting(false)} onSave={found.reload} />}
    </>
  );
}

function PromptCard({ prompt, onChange }: { prompt: Prompt; onChange: () => void }) {
  const [opened, setOpened] = useState<"" | "edit" | "remove" | "test" | "versions">("");
  const [busy, error, work] = useWork();
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">
          {prompt.title || prompt.name} <span class="soft">v{prompt.version}</span>
        </span>
        <span class="actions">
          <button type="button" onClick={() => setOpened("edit")}>
            {t("edit")}
          </button>
          <Menu name={prompt.name}>
            <button type="button" onClick={() => setOpened("versions")}>
              {t("apps.versions")}
            </button>
            <button
              type="button"
              disabled={busy}
              onClick={() =>
                work(async () => {
                  const file = await exportPrompt(prompt.name);
                  saveAs(file, file.name);
                })
              }
            >
              {t("skills.save")}
            </button>
            {prompt.cases.length > 0 && (
              <button type="button" onClick={() => setOpened("test")}>
                {t("prompts.try")}
              </button>
            )}
            <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
              {t("delete")}
            </button>
          </Menu>
        </span>
      </div>
      {prompt.description && <p class="soft">{prompt.description}</p>}
      {prompt.messages.map((message) => (
        <pre key={`${message.role} ${message.content}`}>{message.content}</pre>
      ))}
      <Trouble error={error} />
      {opened === "edit" && <PromptDialog prompt={prompt} onClose={() => setOpened("")} onSave={onChange} />}
      {opened === "versions" && <PromptVersions name={prompt.name} onClose={() => setOpened("")} />}
      {opened === "test" && (
        <Lazy
          name="prompt test"
          load={() => import("./PromptTest")}
          given={{ prompt, onClose: () => setOpened("") }}
        />
      )}
      {opened === "remove" && (
        <Confirm
          title={t("prompts.delete", { name: prompt.name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await removePrompt(prompt.name);
              onChange();
            })
          }
        />
      )}
    </li>
  );
}

function PromptVersions({ name, onClose }: { name: string; onClose: () => void }) {
  const found = useLoaded(() => promptVersions(name), name);
  return (
    <Dialog title={name} onClose={onClose} side>
      <Trouble error={found.error} retry={found.retry} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document chunks" tabIndex={0} aria-label={t("apps.versions")}>
        {found.value?.map((version) => (
          <div key={version.version}>
            <p class="soft">
              v{version.version} · {moment(version.created_at)}
            </p>
            <pre>{version.messages.map((message) => `${message.role}: ${message.content}`).join("\n\n")}</pre>
          </div>
        ))}
      </section>
    </Dialog>
  );
}

/** The form that saves a prompt or a new version of one. If a prompt has several messages, only the first is edited. */
function PromptDialog(props: { prompt?: Prompt; onClose: () => void; onSave: () => void }) {
  const { prompt } = props;
  const first = prompt?.messages[0];
  const save = async (form: FormData) => {
    const content = String(form.get("content"));
    await json("/api/prompts", {
      json: {
        name: prompt?.name ?? String(form.get("name")).trim(),
        description: String(form.get("description")).trim(),
        messages: [{ role: first?.role ?? "user", content }, ...(prompt?.messages.slice(1) ?? [])],
        title: prompt?.title ?? "",
        examples: prompt?.examples ?? [],
        cases: prompt?.cases ?? [],
        arguments: argumentsOf(content, prompt?.arguments ?? []),
      },
    });
    props.onSave();
  };
  return (
    <FormDialog
      title={prompt?.name ?? t("prompts.new")}
      does={t("save")}
      onSend={save}
      onClose={props.onClose}
    >
      {!prompt && (
        <label>
          <span>{t("name")}</span>
          <input name="name" required maxLength={128} />
        </label>
      )}
      <label>
        <span>{t("prompts.description")}</span>
        <input name="description" maxLength={500} defaultValue={prompt?.description ?? ""} />
      </label>
      <label>
        <span>{t("prompts.content")}</span>
        <textarea name="content" rows={8} required defaultValue={first?.content ?? ""} />
        <small class="soft">{t("prompts.contentNote")}</small>
      </label>
    </FormDialog>
  );
}
