// What the next sync of a store would change.

import { json, part } from "../api";
import { count } from "../format";
import { Dialog, Skeleton, Trouble, useLoaded } from "../parts/ui";
import type { Store, SyncPlan } from "../types";
import { t } from "../words/words";

export function View({ store, onClose }: { store: Store; onClose: () => void }) {
  const found = useLoaded(() => json<SyncPlan>(`/api/stores/${part(store.id)}/sync/plan`), store.id);
  const plan = found.value;
  const changes = plan
    ? [
        { head: "stores.added" as const, names: plan.added },
        { head: "stores.changed" as const, names: plan.changed },
        { head: "stores.moved" as const, names: plan.moved.map((names) => names.join(" → ")) },
        { head: "stores.removed" as const, names: plan.removed },
      ].filter(({ names }) => names.length)
    : [];
  return (
    <Dialog title={t("stores.planOf", { name: store.name })} onClose={onClose} side>
      <Trouble error={found.error} retry={found.retry} />
      {!plan && !found.error && <Skeleton />}
      {plan && !changes.length && <p>{t("stores.unchanged")}</p>}
      {changes.map(({ head, names }) => (
        <details key={head} class="aside" open>
          <summary>{t(head, { count: count(names.length) })}</summary>
          <ul>
            {names.map((name) => (
              <li key={name}>{name}</li>
            ))}
          </ul>
        </details>
      ))}
    </Dialog>
  );
}
