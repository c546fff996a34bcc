// Skills: folders of instructions and scripts that models read when needed.

import { useState } from "preact/hooks";
import { everyRow, json, type ListPage, part, send } from "../api";
import { bytes, moment } from "../format";
import { Menu } from "../parts/Menu";
import { CardList, Confirm, Dialog, FormDialog, saveAs, Trouble, useLoaded, useWork } from "../parts/ui";
import type { Skill, SkillVersion } from "../types";
import { t } from "../words/words";

const MAX_SKILLS = 1_000;

export function View() {
  const found = useLoaded(async () => {
    const listed = await everyRow(MAX_SKILLS, (after) =>
      json<ListPage<Skill>>(`/v1/skills?limit=100${after}`),
    );
    return listed.sort((one, other) => one.name.localeCompare(other.name));
  }, "skills");
  const [adding, setAdding] = useState(false);
  return (
    <>
      <CardList
        id="skills"
        title={t("section.skills")}
        adds={t("skills.add")}
        found={found}
        none={t("skills.none")}
        note={t("skills.noneNote")}
        onAdd={() => setAdding(true)}
      >
        {(skill) => <SkillCard key={skill.id} skill={skill} onChange={found.reload} />}
      </CardList>
      {adding && <AddSkill onClose={() => setAdding(false)} onAdd={found.reload} />}
    </>
  );
}

async function save(skill: Skill, version: string): Promise<void> {
  const path = `/v1/skills/${part(skill.id)}/versions/${part(version)}/content`;
  const answer = await send(path);
  saveAs(await answer.blob(), `${skill.name}-${version}.zip`);
}

function SkillCard({ skill, onChange }: { skill: Skill; onChange: () => void }) {
  const [opened, setOpened] = useState<"" | "remove" | "versions">("");
  const [busy, error, work] = useWork();
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">
          {skill.name}{" "}
          <span class="soft">
            v{skill.default_version}
            {skill.shared && ` · ${t("skills.shared")}`}
          </span>
        </span>
        <span class="actions">
          <button type="button" onClick={() => setOpened("versions")}>
            {t("apps.versions")}
          </button>
          <Menu name={skill.name}>
            <button type="button" disabled={busy} onClick={() => work(() => save(skill, "default"))}>
              {t("skills.save")}
            </button>
            <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
              {t("delete")}
            </button>
          </Menu>
        </span>
      </div>
      <p class="soft">{skill.description}</p>
      <Trouble error={error} />
      {opened === "versions" && (
        <SkillVersions skill={skill} onClose={() => setOpened("")} onChange={onChange} />
      )}
      {opened === "remove" && (
        <Confirm
          title={t("skills.delete", { name: skill.name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(`/v1/skills/${part(skill.id)}`, { method: "DELETE" });
              onChange();
            })
          }
        />
      )}
    </li>
  );
}

function SkillVersions(props: { skill: Skill; onClose: () => void; onChange: () => void }) {
  const { skill } = props;
  const found = useLoaded(
    () =>
      everyRow(MAX_SKILLS, (after) =>
        json<ListPage<SkillVersion>>(`/v1/skills/${part(skill.id)}/versions?limit=100${after}`),
      ),
    skill.id,
  );
  const [busy, error, work] = useWork();
  const changed = () => {
    found.reload();
    props.onChange();
  };
  const use = (version: string) =>
    work(async () => {
      await json(`/v1/skills/${part(skill.id)}`, { json: { default_version: version } });
      changed();
    });
  const remove = (version: string) =>
    work(async () => {
      await json(`/v1/skills/${part(skill.id)}/versions/${part(version)}`, { method: "DELETE" });
      changed();
    });
  return (
    <Dialog title={skill.name} onClose={props.onClose} side>
      <Trouble error={found.error || error} retry={found.retry} />
      <ul class="cards" id="skillversions">
        {found.value?.map((one) => (
          <li class="card" key={one.id}>
            <div class="actions spread">
              <span class="name">v{one.version}</span>
              <span class="soft">{moment(one.created_at)}</span>
            </div>
            <p class="soft">{one.description}</p>
            <ul>
              {one.files.map((file) => (
                <li key={file.path}>
                  {file.path} <span class="soft">{bytes(file.bytes)}</span>
                </li>
              ))}
            </ul>
            <div class="actions">
              {one.version === skill.default_version ? (
                <span class="soft">{t("skills.isDefault")}</span>
              ) : (
                <>
                  <button type="button" disabled={busy} onClick={() => use(one.version)}>
                    {t("skills.makeDefault")}
                  </button>
                  <button type="button" class="danger" disabled={busy} onClick={() => remove(one.version)}>
                    {t("delete")}
                  </button>
                </>
              )}
              <button type="button" disabled={busy} onClick={() => work(() => save(skill, one.version))}>
                {t("skills.save")}
              </button>
            </div>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

/**
 * The form that adds a skill from a folder or an archive. If the name exists, the upload becomes its new default
 * version.
 */
function AddSkill({ onClose, onAdd }: { onClose: () => void; onAdd: () => void }) {
  const add = async (given: FormData) => {
    const files = [...given.getAll("archive"), ...given.getAll("folder")].filter(
      (file): file is File => file instanceof File && file.name !== "",
    );
    const form = new FormData();
    for (const file of files) form.append("files", file, file.webkitRelativePath || file.name);
    if (!files.length) throw new Error(t("skills.nothing"));
    await json("/v1/skills?update=true", { body: form });
    onAdd();
  };
  return (
    <FormDialog title={t("skills.add")} does={t("skills.add")} onSend={add} onClose={onClose}>
      <p class="soft">{t("skills.addNote")}</p>
      <label>
        <span>{t("skills.folder")}</span>
        <input type="file" name="folder" {...{ webkitdirectory: true }} />
      </label>
      <label>
        <span>{t("skills.archive")}</span>
        <input type="file" name="archive" accept=".zip,.tar,.gz,.tgz" />
      </label>
    </FormDialog>
  );
}
