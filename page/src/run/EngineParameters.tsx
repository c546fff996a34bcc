import { part, rows } from "../api";
import { soft, Table } from "../parts/Table";
import { Listing, useLoaded } from "../parts/ui";
import type { EngineParameter } from "../types";
import { t } from "../words/words";

/** The parameters that models can set for an engine. */
export function EngineParameters({ engine }: { engine: string }) {
  const path = `/api/engines/${part(engine)}/parameters`;
  const found = useLoaded(() => rows<EngineParameter>(path), path);
  return (
    <Listing found={found} none={t("engines.noParameters")}>
      {(parameters) => (
        <Table
          label={t("engines.parametersOf", { name: engine })}
          id="parameters"
          rows={parameters}
          keyOf={(parameter) => parameter.name}
          text={(parameter) => `${parameter.name} ${parameter.doc}`}
          columns={[
            { head: t("name"), cell: (parameter) => <code>{parameter.name}</code> },
            { head: t("engines.kind"), class: soft, cell: (parameter) => parameter.kind },
            { head: t("search.note"), class: soft, cell: (parameter) => parameter.doc },
          ]}
        />
      )}
    </Listing>
  );
}
