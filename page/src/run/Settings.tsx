import { rows } from "../api";
import { soft, Table } from "../parts/Table";
import { Listing, useLoaded } from "../parts/ui";
import type { Setting } from "../types";
import { t } from "../words/words";

export function Settings() {
  const found = useLoaded(() => rows<Setting>("/api/settings"), "settings");
  return (
    <>
      <h1>{t("section.settings")}</h1>
      <p class="soft">{t("daemon.settingsNote")}</p>
      <Listing found={found} none={t("daemon.noSettings")}>
        {(settings) => (
          <Table
            label={t("section.settings")}
            id="daemonsettings"
            rows={settings}
            keyOf={(setting) => setting.name}
            text={(setting) => `${setting.name} ${setting.doc} ${setting.origin}`}
            columns={[
              { head: t("name"), cell: (setting) => <code>{setting.name}</code> },
              { head: t("daemon.value"), cell: (setting) => <code>{JSON.stringify(setting.value)}</code> },
              { head: t("daemon.origin"), class: soft, cell: (setting) => setting.origin },
              { head: t("search.note"), class: soft, cell: (setting) => setting.doc },
            ]}
          />
        )}
      </Listing>
    </>
  );
}
