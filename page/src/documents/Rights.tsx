// What each key can do with a store, and which of its files it can read.

import { useState } from "preact/hooks";
import { rows } from "../api";
import { soft, Table } from "../parts/Table";
import { Listing, Trouble, useLoaded, useWork } from "../parts/ui";
import { readFilter, writeFilter } from "../run/filters";
import { changeKey, isFixed } from "../run/Keys";
import type { Key, Store } from "../types";
import { t } from "../words/words";

const RIGHTS = ["none", "read", "write", "manage"] as const;
type Right = (typeof RIGHTS)[number];

/** Returns the highest right that the scopes of a key give for one of these names of a store. */
export function rightOn(scopes: string[], names: string[]): Right {
  const found = scopes.flatMap((scope) => {
    const [kind, name = "", right = ""] = scope.split(":");
    return kind === "stores" && names.includes(name) ? [RIGHTS.indexOf(right as Right)] : [];
  });
  return RIGHTS[Math.max(0, ...found)] ?? "none";
}

export function View({ store }: { store: Store }) {
  const found = useLoaded(() => rows<Key>("/api/keys"), "keys");
  return (
    <>
      <h1>{t("rights.title")}</h1>
      <p class="soft">{t("rights.note")}</p>
      <Listing found={found} none={t("keys.none")} note={t("keys.noneNote")}>
        {(keys) => (
          <Table
            label={t("rights.title")}
            id="rights"
            rows={keys}
            keyOf={(key) => key.id}
            text={(key) => key.name}
            columns={[
              { head: t("name"), cell: (key) => <span class="name">{key.name}</span> },
              {
                head: t("rights.may"),
                cell: (key) => <KeyRights key={key.id} held={key} store={store} onChange={found.reload} />,
              },
              { head: t("rights.all"), class: soft, cell: (key) => <Elsewhere held={key} /> },
            ]}
          />
        )}
      </Listing>
    </>
  );
}

/** The right of a key on any store, and why it cannot be changed here. */
function Elsewhere({ held }: { held: Key }) {
  const any = held.filters["*"];
  const said = [
    ...held.scopes.filter((scope) => scope.startsWith("stores:*:")),
    ...(any ? [writeFilter(any)] : []),
    ...(isFixed(held) ? [t(held.issuer ? "rights.signedIn" : "rights.configured")] : []),
  ];
  return <>{said.join(" · ")}</>;
}

function KeyRights({ held, store, onChange }: { held: Key; store: Store; onChange: () => void }) {
  const names = [store.name, store.id];
  const right = rightOn(held.scopes, names);
  const bound = held.filters[store.name] ?? held.filters[store.id];
  const [busy, error, work] = useWork();
  const [done, setDone] = useState(false);
  if (held.scopes.includes("admin")) return <span class="soft">{t("rights.admin")}</span>;
  const others = held.scopes.filter((scope) => {
    const [kind, name = ""] = scope.split(":");
    return kind !== "stores" || !names.includes(name);
  });
  const { [store.name]: _name, [store.id]: _id, ...elsewhere } = held.filters;
  return (
    <form
      class="line"
      onInput={() => setDone(false)}
      onSubmit={(event) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget);
        const wanted = String(form.get("right"));
        work(async () => {
          const filter = readFilter(String(form.get("only")), t("rights.wrong"));
          await changeKey(held.id, {
            scopes: wanted === "none" ? others : [...others, `stores:${store.name}:${wanted}`],
            filters: filter ? { ...elsewhere, [store.name]: filter } : elsewhere,
          });
          setDone(true);
          onChange();
        });
      }}
    >
      <select name="right" aria-label={t("rights.of", { name: held.name })} disabled={isFixed(held)}>
        {RIGHTS.map((each) => (
          <option key={each} value={each} selected={each === right}>
            {t(`rights.${each}`)}
          </option>
        ))}
      </select>
      <input
        name="only"
        aria-label={t("rights.onlyOf", { name: held.name })}
        placeholder={t("rights.only")}
        defaultValue={bound ? writeFilter(bound) : ""}
        disabled={isFixed(held)}
      />
      <button type="submit" disabled={busy || isFixed(held)}>
        {t("save")}
      </button>
      {done && (
        <span class="good" role="status">
          {t("rights.done")}
        </span>
      )}
      <Trouble error={error} />
    </form>
  );
}
