// Files that runs have created.

import { json, part, rows, send } from "../api";
import { bytes, moment } from "../format";
import { IconButton } from "../parts/Icon";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import { Listing, saveAs, Trouble, useLoaded, useWork } from "../parts/ui";
import { link } from "../route";
import type { ArtifactRecord } from "../types";
import { t } from "../words/words";

const BASE = "/api/artifacts";

export function View() {
  const found = useRemaining(useLoaded(() => rows<ArtifactRecord>(`${BASE}?limit=1000`), BASE));
  const [busy, error, work] = useWork();
  const save = (artifact: ArtifactRecord) =>
    work(async () =>
      saveAs(await (await send(`${BASE}/${part(artifact.id)}/content`)).blob(), artifact.name),
    );
  const remove = (artifact: ArtifactRecord) =>
    removeLater({
      id: artifact.id,
      label: t("files.removed", { name: artifact.name }),
      send: async () => {
        await json(`${BASE}/${part(artifact.id)}`, { method: "DELETE" });
        found.reload();
      },
    });
  return (
    <>
      <h1>{t("section.artifacts")}</h1>
      <Trouble error={error} />
      <Listing found={found} none={t("artifacts.none")} note={t("artifacts.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.artifacts")}
            id="artifacts"
            rows={listed}
            keyOf={(artifact) => artifact.id}
            text={(artifact) => `${artifact.name} ${artifact.media_type} ${artifact.run}`}
            columns={[
              { head: t("files.name"), cell: (artifact) => artifact.name },
              { head: t("artifacts.type"), class: soft, cell: (artifact) => artifact.media_type },
              { head: t("files.size"), class: soft, cell: (artifact) => bytes(artifact.bytes) },
              { head: t("runs.began"), class: soft, cell: (artifact) => moment(artifact.created_at) },
              {
                head: t("schedules.run.head"),
                cell: ({ run }) => <a href={link("run", "runs", run)}>{t("questions.run")}</a>,
              },
              {
                head: t("actions"),
                quiet: true,
                cell: (artifact) => (
                  <div class="actions">
                    <button type="button" disabled={busy} onClick={() => save(artifact)}>
                      {t("skills.save")}
                    </button>
                    <IconButton
                      icon="remove"
                      label={t("files.remove", { name: artifact.name })}
                      onClick={() => remove(artifact)}
                    />
                  </div>
                ),
              },
            ]}
          />
        )}
      </Listing>
    </>
  );
}
