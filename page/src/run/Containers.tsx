// Containers: sandbox folders that code in several calls shares, and their files.

import { useRef, useState } from "preact/hooks";
import { everyRow, json, type ListPage, part, send } from "../api";
import { bytes, count, moment } from "../format";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import { CardList, Confirm, FormDialog, Listing, saveAs, Trouble, useLoaded, useWork } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import type { Container, ContainerFileObject } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const MAX_CONTAINERS = 1_000;
const MAX_FILES = 500;
const MAX_SKILLS = 1_000;
const DEFAULT_MINUTES = 20;
const MAX_MINUTES = 30 * 24 * 60;
const BASE = "/v1/containers";

export function View() {
  const id = route.value.rest[1];
  return id ? <ContainerPage key={id} id={id} /> : <Containers />;
}

function ageOf(container: Container): string {
  const used = t("containers.used", { moment: moment(container.last_active_at) });
  return `${used} · ${t("containers.kept", { minutes: count(container.expires_after.minutes) })}`;
}

function Containers() {
  const found = useLoaded(
    () => everyRow(MAX_CONTAINERS, (after) => json<ListPage<Container>>(`${BASE}?limit=100${after}`)),
    "containers",
    POLL_INTERVAL_MS,
  );
  const [making, setMaking] = useState(false);
  return (
    <>
      <CardList
        id="containers"
        title={t("section.containers")}
        adds={t("containers.new")}
        found={found}
        none={t("containers.none")}
        note={t("containers.noneNote")}
        onAdd={() => setMaking(true)}
      >
        {(container) => (
          <li class="card" key={container.id}>
            <div class="actions spread">
              <a class="name" href={link("run", "containers", container.id)}>
                {container.name}
              </a>
              <span class="soft">{container.memory_limit}</span>
            </div>
            <p class="soft">{ageOf(container)}</p>
          </li>
        )}
      </CardList>
      {making && <NewContainer onClose={() => setMaking(false)} />}
    </>
  );
}

function NewContainer({ onClose }: { onClose: () => void }) {
  const skills = useLoaded(
    () =>
      everyRow(MAX_SKILLS, (after) =>
        json<ListPage<{ id: string; name: string }>>(`/v1/skills?limit=100${after}`),
      ),
    "skills",
  );
  const make = async (form: FormData) => {
    const chosen = form.getAll("skill").map((id) => ({ type: "skill_reference", skill_id: id }));
    const made = await json<Container>(BASE, {
      json: {
        name: form.get("name"),
        expires_after: { anchor: "last_active_at", minutes: Number(form.get("minutes")) },
        skills: chosen,
      },
    });
    go(link("run", "containers", made.id));
  };
  return (
    <FormDialog title={t("containers.new")} does={t("create")} onSend={make} onClose={onClose}>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={200} />
      </label>
      <label>
        <span>{t("containers.minutes")}</span>
        <input
          name="minutes"
          type="number"
          required
          min={1}
          max={MAX_MINUTES}
          defaultValue={String(DEFAULT_MINUTES)}
        />
      </label>
      <Trouble error={skills.error} retry={skills.retry} />
      {skills.value && skills.value.length > 0 && (
        <fieldset>
          <legend>{t("containers.skills")}</legend>
          <div class="ticks">
            {skills.value.map((skill) => (
              <label key={skill.id} class="check">
                <input type="checkbox" name="skill" value={skill.id} />
                {skill.name}
              </label>
            ))}
          </div>
        </fieldset>
      )}
    </FormDialog>
  );
}

/** One container: add, save and delete its files. */
function ContainerPage({ id }: { id: string }) {
  const path = `/v1/containers/${part(id)}`;
  const found = useLoaded(() => json<Container>(path), path, POLL_INTERVAL_MS);
  const files = useLoaded(
    () =>
      everyRow(MAX_FILES, (after) => json<ListPage<ContainerFileObject>>(`${path}/files?limit=100${after}`)),
    `${path}/files`,
    POLL_INTERVAL_MS,
  );
  const [removed, setRemoved] = useState<"container" | ContainerFileObject | null>(null);
  const [busy, error, work] = useWork();
  const chooser = useRef<HTMLInputElement>(null);
  const container = found.value;
  useTrail({ label: container?.name ?? id });
  if (!container) return <Trouble error={found.error} retry={found.retry} />;
  const upload = (given: Iterable<File>) =>
    work(async () => {
      for (const file of given) {
        const form = new FormData();
        form.append("file", file, file.name);
        await json(`${path}/files`, { body: form });
      }
      files.reload();
    });
  const save = (file: ContainerFileObject) =>
    work(async () => {
      const answer = await send(`${path}/files/${part(file.id)}/content`);
      saveAs(await answer.blob(), file.path.slice(file.path.lastIndexOf("/") + 1));
    });
  const remove = () =>
    work(async () => {
      if (removed === "container") {
        await json(path, { method: "DELETE" });
        go(link("run", "containers"));
      } else if (removed) {
        await json(`${path}/files/${part(removed.id)}`, { method: "DELETE" });
        files.reload();
      }
    });
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the button inside does the same
    <div
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        upload([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <h1>{container.name}</h1>
      <p class="soft">
        <code>{container.id}</code> · {ageOf(container)}
        {container.memory_limit && ` · ${container.memory_limit}`}
      </p>
      <div class="actions">
        <button type="button" class="primary" disabled={busy} onClick={() => chooser.current?.click()}>
          {t("upload.files")}
        </button>
        <Menu name={container.name}>
          <button type="button" class="danger" disabled={busy} onClick={() => setRemoved("container")}>
            {t("delete")}
          </button>
        </Menu>
      </div>
      <input
        ref={chooser}
        id="containerupload"
        type="file"
        multiple
        hidden
        aria-label={t("upload.files")}
        onChange={(event) => {
          const given = [...(event.currentTarget.files ?? [])];
          event.currentTarget.value = "";
          upload(given);
        }}
      />
      <Trouble error={error || found.error} />
      <h2>{t("containers.files")}</h2>
      <Listing found={files} none={t("containers.noFiles")} note={t("containers.noFilesNote")}>
        {(listed) => (
          <Table
            label={t("containers.files")}
            id="containerfiles"
            rows={listed}
            keyOf={(file) => file.id}
            columns={[
              { head: t("files.name"), cell: (file) => file.path },
              { head: t("files.size"), cell: (file) => bytes(file.bytes) },
              { head: t("containers.from"), class: soft, cell: (file) => t(`containers.${file.source}`) },
              { head: t("files.came"), class: soft, cell: (file) => moment(file.created_at) },
              {
                head: t("actions"),
                quiet: true,
                cell: (file) => (
                  <div class="actions">
                    <button type="button" disabled={busy} onClick={() => save(file)}>
                      {t("skills.save")}
                    </button>
                    <button type="button" class="danger" disabled={busy} onClick={() => setRemoved(file)}>
                      {t("delete")}
                    </button>
                  </div>
                ),
              },
            ]}
          />
        )}
      </Listing>
      {removed && (
        <Confirm
          title={
            removed === "container"
              ? t("containers.delete", { name: container.name })
              : t("containers.deleteFile", { name: removed.path })
          }
          does={t("delete")}
          onClose={() => setRemoved(null)}
          onYes={remove}
        />
      )}
    </div>
  );
}
