// What the next sync of a store would change.

import { json, part } from "../api";
import { Dialog, Skeleton, Trouble, useLoaded } from "../parts/ui";
import type { Store, SyncPlan } from "../types";
import { t } from "../words/words";
import { type FileChange, FileChanges } from "./FileChanges";

export function View({ store, onClose }: { store: Store; onClose: () => void }) {
  const found = useLoaded(() => json<SyncPlan>(`/api/stores/${part(store.id)}/sync/plan`), store.id);
  const plan = found.value;
  const changes: FileChange[] = plan
    ? [
        { head: "stores.added", names: plan.added },
        { head: "stores.changed", names: plan.changed },
        { head: "stores.moved", names: plan.moved.map((names) => names.join(" → ")) },
        { head: "stores.removed", names: plan.removed },
      ]
    : [];
  return (
    <Dialog title={t("stores.planOf", { name: store.name })} onClose={onClose} side>
      <Trouble error={found.error} retry={found.retry} />
      {!plan && !found.error && <Skeleton />}
      {plan && !changes.some(({ names }) => names.length) && <p>{t("stores.unchanged")}</p>}
      <FileChanges changes={changes} />
    </Dialog>
  );
}
