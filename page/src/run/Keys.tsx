import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { moment } from "../format";
import { Menu } from "../parts/Menu";
import { Confirm, Dialog, FormDialog, Listing, ShownOnce, Trouble, useLoaded, useWork } from "../parts/ui";
import { apps, status } from "../status";
import type { Key } from "../types";
import { t } from "../words/words";
import { readFilter, writeFilter } from "./filters";
import { InstallLinks } from "./InstallLinks";
import { KEY_LIMITS, Limits, readLimits, writeLimits } from "./Limits";

export function Keys() {
  const found = useLoaded(() => rows<Key>("/api/keys"), "keys");
  const blocked = useLoaded(() => rows<Key>("/api/keys?blocked=true"), "keys");
  const [making, setMaking] = useState(false);
  const [changing, setChanging] = useState<Key | null>(null);
  const [admitting, setAdmitting] = useState<Key | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const [busy, error, work] = useWork();
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.keys")}</h1>
        {!found.denied && (
          <button type="button" class="primary" disabled={busy} onClick={() => setMaking(true)}>
            {t("keys.new")}
          </button>
        )}
      </div>
      <Trouble error={error} />
      <Listing found={found} none={t("keys.none")} note={t("keys.noneNote")}>
        {(listed) => (
          <ul class="cards" id="keys">
            {listed.map((each) => (
              <li key={each.id} class="card">
                <div class="actions spread">
                  <span class="name">{each.name}</span>
                  <span class="actions">
                    {!isFixed(each) && !each.parent && (
                      <button type="button" disabled={busy} onClick={() => setChanging(each)}>
                        {t("keys.change")}
                      </button>
                    )}
                    <Menu name={each.name}>
                      <button type="button" class="danger" disabled={busy} onClick={() => setRevoking(each)}>
                        {t("keys.revoke")}
                      </button>
                    </Menu>
                  </span>
                </div>
                <p class="soft">
                  {each.issuer ? `${each.issuer} · ${each.subject}` : `…${each.hint}`} ·{" "}
                  {moment(each.created_at)}
                </p>
                <p>
                  {each.scopes.map((scope) => (
                    <code key={scope} class="chip">
                      {scope}
                    </code>
                  ))}
                </p>
                <p class="soft">{writeLimits(each.limits)}</p>
                {Object.entries(each.filters).map(([store, filter]) => (
                  <p key={store}>
                    {t("keys.reads", { store })} <code class="chip">{writeFilter(filter)}</code>
                  </p>
                ))}
              </li>
            ))}
          </ul>
        )}
      </Listing>
      {making && (
        <NewKey
          onClose={() => {
            setMaking(false);
            found.reload();
          }}
        />
      )}
      {changing && (
        <ChangeKey
          held={changing}
          onClose={() => {
            setChanging(null);
            found.reload();
          }}
        />
      )}
      {revoking && (
        <Confirm
          title={t("keys.revokeNamed", { name: revoking.name })}
          does={t("keys.revoke")}
          onClose={() => setRevoking(null)}
          onYes={() =>
            work(async () => {
              await json(`/api/keys/${part(revoking.id)}`, { method: "DELETE" });
              found.reload();
              blocked.reload();
            })
          }
        />
      )}
      {!!blocked.value?.length && (
        <>
          <h2>{t("keys.blocked")}</h2>
          <ul class="cards" id="blocked">
            {blocked.value.map((each) => (
              <li key={each.id} class="card">
                <div class="actions spread">
                  <span class="name">{each.name}</span>
                  <button type="button" disabled={busy} onClick={() => setAdmitting(each)}>
                    {t("keys.unblock")}
                  </button>
                </div>
                <p class="soft">
                  {each.issuer} · {each.subject}
                </p>
              </li>
            ))}
          </ul>
        </>
      )}
      {admitting && (
        <Confirm
          title={t("keys.unblockNamed", { name: admitting.name })}
          does={t("keys.unblock")}
          onClose={() => setAdmitting(null)}
          onYes={() =>
            work(async () => {
              await json(`/api/keys/${part(admitting.id)}/unblock`, { method: "POST" });
              found.reload();
              blocked.reload();
            })
          }
        />
      )}
    </>
  );
}

/** Returns whether the configuration file or an issuer determines the rights of a key. */
export function isFixed(key: Key): boolean {
  return key.id.startsWith("config:") || Boolean(key.issuer);
}

/** Changes scopes, filters and limits of a key, with immediate effect. */
export async function changeKey(
  id: string,
  given: Pick<Key, "scopes" | "filters"> & Partial<Pick<Key, "limits">>,
): Promise<void> {
  await json(`/api/keys/${part(id)}`, { method: "PATCH", json: given });
}

/** The form for scopes, filters as lines such as `handbook: team=sales`, and limits. */
function ChangeKey({ held, onClose }: { held: Key; onClose: () => void }) {
  const change = async (form: FormData) => {
    const scopes = String(form.get("scopes"))
      .split(/[\s,]+/)
      .filter(Boolean);
    const filters = readFilters(String(form.get("filters")));
    await changeKey(held.id, { scopes, filters, limits: readLimits(form, KEY_LIMITS) });
  };
  return (
    <FormDialog
      title={t("keys.changeNamed", { name: held.name })}
      does={t("save")}
      onSend={change}
      onClose={onClose}
    >
      <label>
        <span>{t("keys.scopes")}</span>
        <textarea name="scopes" class="code" required rows={4} defaultValue={held.scopes.join("\n")} />
      </label>
      <label>
        <span>{t("keys.filters")}</span>
        <textarea
          name="filters"
          class="code"
          rows={3}
          placeholder="handbook: team=sales and level<=2"
          defaultValue={Object.entries(held.filters)
            .map(([store, filter]) => `${store}: ${writeFilter(filter)}`)
            .join("\n")}
        />
        <small class="soft">{t("keys.filtersNote")}</small>
      </label>
      <Limits names={KEY_LIMITS} held={held.limits} note={t("keys.limitsNote")} />
      <p class="soft">{t("keys.changeNote")}</p>
    </FormDialog>
  );
}

function readFilters(text: string): Key["filters"] {
  const found: Key["filters"] = {};
  for (const line of text.split("\n").filter((each) => each.trim())) {
    const [store = "", ...rest] = line.split(":");
    const filter = readFilter(rest.join(":"), t("rights.wrong"));
    if (!store.trim() || !filter) throw new Error(t("rights.wrong"));
    found[store.trim()] = filter;
  }
  return found;
}

function NewKey({ onClose }: { onClose: () => void }) {
  const [busy, error, work] = useWork();
  const [made, setMade] = useState("");
  const offered = [
    "chat",
    "models:read",
    ...(status.value?.stores ?? []).map((store) => `stores:${store.name}:read`),
    ...apps.value.map((app) => `apps:${app.name}:call`),
    "finetune",
    "admin",
  ];
  return (
    <Dialog title={t("keys.new")} onClose={onClose}>
      {made ? (
        <>
          <InstallLinks secret={made} />
          <ShownOnce id="newkey" note={t("keys.once")} secret={made} onClose={onClose} />
        </>
      ) : (
        <form
          class="fields"
          onSubmit={(event) => {
            event.preventDefault();
            const form = new FormData(event.currentTarget);
            const more = String(form.get("more"))
              .split(/[\s,]+/)
              .filter(Boolean);
            const scopes = [...form.getAll("scope").map(String), ...more];
            work(async () => {
              const name = String(form.get("name")).trim();
              const filters = readFilters(String(form.get("filters")));
              const body = { name, scopes, limits: readLimits(form, KEY_LIMITS), filters };
              setMade((await json<{ key: string }>("/api/keys", { json: body })).key);
            });
          }}
        >
          <label>
            <span>{t("name")}</span>
            <input name="name" required maxLength={128} />
          </label>
          <fieldset>
            <legend>{t("keys.scopes")}</legend>
            {offered.map((scope) => (
              <label key={scope} class="check">
                <input type="checkbox" name="scope" value={scope} /> <code>{scope}</code>
              </label>
            ))}
          </fieldset>
          <label>
            <span>{t("keys.more")}</span>
            <input name="more" placeholder="tools:*:call" />
          </label>
          <label>
            <span>{t("keys.filters")}</span>
            <textarea name="filters" class="code" rows={2} placeholder="handbook: team=sales and level<=2" />
            <small class="soft">{t("keys.filtersNote")}</small>
          </label>
          <Limits names={KEY_LIMITS} held={{}} note={t("keys.limitsNote")} />
          <Trouble error={error} />
          <div class="actions">
            <button type="submit" class="primary" disabled={busy}>
              {t("create")}
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
