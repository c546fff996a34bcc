// The form that sets parameters of a model, above the list of the parameters that its engine has.

import { json, part } from "../api";
import { jsonOrText, readPairs } from "../parts/pairs";
import { Dialog, Trouble, useWork } from "../parts/ui";
import { refresh } from "../status";
import type { Deployment } from "../types";
import { t } from "../words/words";
import { EngineParameters } from "./EngineParameters";

export function View({ model, onClose }: { model: Deployment; onClose: () => void }) {
  const [busy, error, work] = useWork();
  const change = (text: string) =>
    work(async () => {
      const pairs = Object.entries(readPairs(text));
      const parameters = Object.fromEntries(pairs.map(([name, value]) => [name, jsonOrText(value)]));
      const path = `/api/deployments/${model.name.split("/").map(part).join("/")}`;
      await json(path, { method: "PATCH", json: { parameters } });
      await refresh();
      onClose();
    });
  return (
    <Dialog title={t("engines.parametersOf", { name: model.name })} onClose={onClose} side>
      <div class="sections">
        <form
          class="fields"
          onSubmit={(event) => {
            event.preventDefault();
            change(String(new FormData(event.currentTarget).get("parameters")));
          }}
        >
          <label>
            <span>{t("models.parameters")}</span>
            <textarea name="parameters" rows={4} required />
            <small class="soft">{t("models.parametersNote")}</small>
          </label>
          <Trouble error={error} />
          <div class="actions">
            <button type="submit" class="primary" disabled={busy}>
              {t("save")}
            </button>
          </div>
        </form>
        <h2>{t("engines.parametersOf", { name: model.engine })}</h2>
        <EngineParameters engine={model.engine} />
      </div>
    </Dialog>
  );
}
