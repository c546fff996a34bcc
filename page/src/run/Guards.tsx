import { rows } from "../api";
import { soft, Table } from "../parts/Table";
import { Listing, useLoaded } from "../parts/ui";
import type { ConfiguredGuard } from "../types";
import { t } from "../words/words";

/** The guards of the configuration, in the order in which they run. */
export function View() {
  const found = useLoaded(() => rows<ConfiguredGuard>("/api/guards"), "guards");
  return (
    <>
      <h1>{t("section.guards")}</h1>
      <p class="soft">{t("guards.note")}</p>
      <Listing found={found} none={t("guards.none")} note={t("guards.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.guards")}
            id="guards"
            rows={listed}
            keyOf={(guard) => guard.name}
            text={(guard) => `${guard.name} ${guard.on.join(" ")} ${guard.detects.join(" ")} ${guard.action}`}
            columns={[
              { head: t("name"), cell: (guard) => guard.name },
              { head: t("guards.on"), cell: (guard) => guard.on.join(", ") },
              { head: t("guards.detects"), class: soft, cell: (guard) => guard.detects.join(", ") },
              { head: t("guards.where"), class: soft, cell: (guard) => guard.where.join(", ") },
              { head: t("guards.action"), cell: (guard) => guard.action },
              { head: t("guards.onError"), class: soft, cell: (guard) => guard.on_error },
            ]}
          />
        )}
      </Listing>
    </>
  );
}
