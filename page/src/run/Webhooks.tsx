// Webhooks: addresses that are notified when something ends, and their deliveries.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { everyRow, json, type ListPage, part, rows } from "../api";
import { count, moment } from "../format";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import {
  CardList,
  Confirm,
  Dialog,
  FormDialog,
  Listing,
  ShownOnce,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import type { WebhookDelivery, WebhookEndpoint } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const MAX_WEBHOOKS = 1_000;
const MAX_DELIVERIES = 300;
const BASE = "/v1/webhook_endpoints";

export function View() {
  const id = route.value.rest[1];
  return id ? <WebhookPage key={id} id={id} /> : <WebhookList />;
}

function stateOf(hook: WebhookEndpoint): string {
  return t(hook.disabled === null ? "webhooks.enabled" : "webhooks.disabled");
}

function WebhookList() {
  const found = useLoaded(
    () => everyRow(MAX_WEBHOOKS, (after) => json<ListPage<WebhookEndpoint>>(`${BASE}?limit=100${after}`)),
    "webhooks",
  );
  const [making, setMaking] = useState(false);
  return (
    <>
      <CardList
        id="webhooks"
        title={t("section.webhooks")}
        adds={t("webhooks.new")}
        found={found}
        none={t("webhooks.none")}
        note={t("webhooks.noneNote")}
        onAdd={() => setMaking(true)}
      >
        {(hook) => <WebhookCard key={hook.id} hook={hook} />}
      </CardList>
      {making && (
        <NewWebhook
          onClose={() => {
            setMaking(false);
            found.reload();
          }}
        />
      )}
    </>
  );
}

function WebhookCard({ hook }: { hook: WebhookEndpoint }) {
  return (
    <li class="card">
      <div class="actions spread">
        <a class="name" href={link("run", "webhooks", hook.id)}>
          {hook.name}
        </a>
        <span class={hook.disabled === null ? "soft" : "bad"}>{stateOf(hook)}</span>
      </div>
      {hook.url !== hook.name && <p class="soft">{hook.url}</p>}
      {hook.disabled !== null && <p class="bad">{hook.disabled}</p>}
      <EventTypes hook={hook} />
      <LastDelivery id={hook.id} />
    </li>
  );
}

function EventTypes({ hook }: { hook: WebhookEndpoint }) {
  return (
    <p>
      {hook.event_types.map((name) => (
        <code key={name} class="chip">
          {name}
        </code>
      ))}
    </p>
  );
}

/** The state of the newest delivery of a webhook. */
function LastDelivery({ id }: { id: string }) {
  const path = `/api/webhooks/${part(id)}/deliveries`;
  const found = useLoaded(() => rows<WebhookDelivery>(`${path}?limit=1`), path);
  const last = found.value?.[0];
  if (!found.value) return <Trouble error={found.error} retry={found.retry} />;
  if (!last) return <p class="soft">{t("webhooks.nothing")}</p>;
  return (
    <p class="soft">
      {t("webhooks.last", { event: last.event_type })} · {moment(last.created_at)} ·{" "}
      <DeliveryState delivery={last} />
    </p>
  );
}

function DeliveryState({ delivery }: { delivery: WebhookDelivery }) {
  const { state, next_at: next } = delivery;
  return (
    <span class={state === "delivered" ? "good" : state === "failed" ? "bad" : "soft"}>
      {t(`delivery.${state}`)}
      {next !== null && delivery.attempts > 0 && ` · ${t("webhooks.next", { moment: moment(next) })}`}
    </span>
  );
}

/** One webhook: its state, its actions, and its deliveries. */
function WebhookPage({ id }: { id: string }) {
  const path = `/v1/webhook_endpoints/${part(id)}`;
  const found = useLoaded(() => json<WebhookEndpoint>(path), path, POLL_INTERVAL_MS);
  const [opened, setOpened] = useState<"" | "test" | "change" | "rotate" | "delete">("");
  const [busy, error, work] = useWork();
  const hook = found.value;
  useTrail({ label: hook?.name ?? id });
  if (!hook) return <Trouble error={found.error} retry={found.retry} />;
  const enabled = hook.disabled === null;
  const close = () => setOpened("");
  return (
    <>
      <h1>{hook.name}</h1>
      <p class="soft" id="webhookstate" aria-live="polite">
        <span class={enabled ? "good" : "bad"}>{stateOf(hook)}</span> · {hook.url} · {t("webhooks.secret")}{" "}
        {hook.signing_secret_hint} · {moment(hook.created_at)}
      </p>
      {hook.disabled !== null && <p class="bad">{hook.disabled}</p>}
      <EventTypes hook={hook} />
      <div class="actions">
        <button type="button" class="primary" onClick={() => setOpened("test")}>
          {t("webhooks.test")}
        </button>
        <Menu name={hook.name}>
          <button type="button" onClick={() => setOpened("change")}>
            {t("edit")}
          </button>
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              work(async () => {
                await json(path, { json: { disabled: enabled } });
                found.reload();
              })
            }
          >
            {t(enabled ? "webhooks.pause" : "webhooks.enable")}
          </button>
          <button type="button" onClick={() => setOpened("rotate")}>
            {t("webhooks.rotate")}
          </button>
          <button type="button" class="danger" disabled={busy} onClick={() => setOpened("delete")}>
            {t("delete")}
          </button>
        </Menu>
      </div>
      <Trouble error={error || found.error} />
      <h2>{t("webhooks.deliveries")}</h2>
      <Deliveries id={id} enabled={enabled} />
      {opened === "test" && <TestDialog hook={hook} onClose={close} />}
      {opened === "change" && <ChangeDialog hook={hook} onClose={close} onChange={found.reload} />}
      {opened === "rotate" && <RotateDialog hook={hook} onClose={close} onChange={found.reload} />}
      {opened === "delete" && (
        <Confirm
          title={t("webhooks.delete", { name: hook.name })}
          does={t("delete")}
          onClose={close}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              go(link("run", "webhooks"));
            })
          }
        />
      )}
    </>
  );
}

/** The deliveries of a webhook. A webhook that is not `enabled` offers no redelivery. */
function Deliveries({ id, enabled }: { id: string; enabled: boolean }) {
  const path = `/api/webhooks/${part(id)}/deliveries`;
  const found = useLoaded(
    () => everyRow(MAX_DELIVERIES, (after) => json<ListPage<WebhookDelivery>>(`${path}?limit=100${after}`)),
    path,
    POLL_INTERVAL_MS,
  );
  const [busy, error, work] = useWork();
  return (
    <>
      <Trouble error={error} />
      <Listing found={found} none={t("webhooks.noDeliveries")} note={t("webhooks.noDeliveriesNote")}>
        {(listed) => (
          <Table
            label={t("webhooks.deliveries")}
            id="deliveries"
            rows={listed}
            keyOf={(delivery) => delivery.id}
            columns={[
              {
                head: t("webhooks.event"),
                cell: (delivery) => (
                  <>
                    {delivery.event_type} · <Subject delivery={delivery} />
                    {delivery.last_error && <p class="bad">{delivery.last_error}</p>}
                  </>
                ),
              },
              { head: t("files.state"), cell: (delivery) => <DeliveryState delivery={delivery} /> },
              { head: t("webhooks.attempts"), cell: (delivery) => count(delivery.attempts) },
              { head: t("runs.began"), class: soft, cell: (delivery) => moment(delivery.created_at) },
              {
                head: t("webhooks.answer"),
                class: soft,
                cell: (delivery) => (delivery.last_status ? `HTTP ${delivery.last_status}` : ""),
              },
              {
                head: t("actions"),
                quiet: true,
                cell: (delivery) => (
                  <button
                    type="button"
                    disabled={busy || !enabled}
                    onClick={() =>
                      work(async () => {
                        await json(`${path}/${part(delivery.id)}/redeliver`, { method: "POST" });
                        found.reload();
                      })
                    }
                  >
                    {t("webhooks.again")}
                  </button>
                ),
              },
            ]}
          />
        )}
      </Listing>
    </>
  );
}

/** The id of the ended object. The id of a run is a link to it. */
function Subject({ delivery }: { delivery: WebhookDelivery }) {
  const { id } = delivery.payload.data as { id: string };
  return delivery.event_type.startsWith("run.") ? (
    <a href={link("run", "runs", id)}>{id}</a>
  ) : (
    <span class="soft">{id}</span>
  );
}

/** The fields for address and events, with the initial values of `given`. */
function WebhookFields({ given }: { given?: WebhookEndpoint }) {
  const known = useLoaded(() => rows<string>("/v1/webhook_event_types"), "events");
  const groups = new Map<string, string[]>();
  for (const name of known.value ?? []) {
    const group = name.slice(0, name.lastIndexOf("."));
    groups.set(group, [...(groups.get(group) ?? []), name]);
  }
  return (
    <>
      <label>
        <span>{t("server.address")}</span>
        <input
          name="url"
          type="url"
          required
          maxLength={2_048}
          placeholder="https://example.com/hook"
          defaultValue={given?.url ?? ""}
        />
        <small class="soft">{t("webhooks.urlNote")}</small>
      </label>
      <label>
        <span>{t("name")}</span>
        <input name="name" maxLength={200} defaultValue={given?.name ?? ""} />
        <small class="soft">{t("webhooks.nameNote")}</small>
      </label>
      <fieldset id="eventtypes">
        <legend>{t("webhooks.events")}</legend>
        <Trouble error={known.error} retry={known.retry} />
        {[...groups].map(([group, names]) => (
          <div key={group} class="ticks">
            {names.map((name) => (
              <label key={name} class="check">
                <input
                  type="checkbox"
                  name="event"
                  value={name}
                  defaultChecked={given?.event_types.includes(name) ?? false}
                />
                <code>{name}</code>
              </label>
            ))}
          </div>
        ))}
      </fieldset>
    </>
  );
}

/** Returns the request body for the fields. Throws an `Error` if no event is chosen. */
function readFields(form: FormData): { url: string; name: string; event_types: string[] } {
  const url = String(form.get("url")).trim();
  const types = form.getAll("event").map(String);
  if (!types.length) throw new Error(t("webhooks.noEvents"));
  return { url, name: String(form.get("name")).trim() || url.slice(0, 200), event_types: types };
}

/** A form whose result is a secret that is shown once. */
function SecretDialog(props: {
  title: string;
  does: string;
  send: (form: FormData) => Promise<{ signing_secret: string }>;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const [busy, error, work] = useWork();
  const [made, setMade] = useState("");
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      {made ? (
        <ShownOnce id="newsecret" note={t("webhooks.once")} secret={made} onClose={props.onClose} />
      ) : (
        <form
          class="fields"
          onSubmit={(event) => {
            event.preventDefault();
            const form = new FormData(event.currentTarget);
            work(async () => setMade((await props.send(form)).signing_secret));
          }}
        >
          {props.children}
          <Trouble error={error} />
          <div class="actions">
            <button type="submit" class="primary" disabled={busy}>
              {props.does}
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}

function NewWebhook({ onClose }: { onClose: () => void }) {
  return (
    <SecretDialog
      title={t("webhooks.new")}
      does={t("create")}
      send={async (form) => json<{ signing_secret: string }>(BASE, { json: readFields(form) })}
      onClose={onClose}
    >
      <WebhookFields />
    </SecretDialog>
  );
}

interface OfWebhook {
  hook: WebhookEndpoint;
  onClose: () => void;
  onChange: () => void;
}

/** The form that changes a webhook. A disabled webhook is enabled again. */
function ChangeDialog({ hook, onClose, onChange }: OfWebhook) {
  const change = async (form: FormData) => {
    await json(`${BASE}/${part(hook.id)}`, { json: readFields(form) });
    onChange();
  };
  const does = t(hook.disabled === null ? "save" : "webhooks.saveEnable");
  return (
    <FormDialog title={hook.name} does={does} onSend={change} onClose={onClose}>
      <WebhookFields given={hook} />
    </FormDialog>
  );
}

function RotateDialog({ hook, onClose, onChange }: OfWebhook) {
  return (
    <SecretDialog
      title={t("webhooks.rotate")}
      does={t("webhooks.rotate")}
      send={async (form) => {
        const keep = form.get("keep") === "on";
        const made = await json<{ signing_secret: string }>(`${BASE}/${part(hook.id)}/rotate_secret`, {
          json: { keep_old_secret_active_for_24_hours: keep },
        });
        onChange();
        return made;
      }}
      onClose={onClose}
    >
      <p>{t("webhooks.rotateNote")}</p>
      <label class="check">
        <input type="checkbox" name="keep" defaultChecked /> {t("webhooks.keepOld")}
      </label>
    </SecretDialog>
  );
}

/** The form that sends a sample event and shows the receiver's response. */
function TestDialog({ hook, onClose }: { hook: WebhookEndpoint; onClose: () => void }) {
  const [answered, setAnswered] = useState<number | null>(null);
  const [busy, error, work] = useWork();
  const took = answered !== null && answered >= 200 && answered < 300;
  return (
    <Dialog title={t("webhooks.test")} onClose={onClose}>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          const type = String(new FormData(event.currentTarget).get("event"));
          setAnswered(null);
          work(async () => {
            const path = `/v1/webhook_endpoints/${part(hook.id)}/test`;
            const found = await json<{ status_code: number }>(path, { json: { event_type: type } });
            setAnswered(found.status_code);
          });
        }}
      >
        <p class="soft">{t("webhooks.testNote")}</p>
        <label>
          <span>{t("webhooks.testEvent")}</span>
          <select name="event">
            {hook.event_types.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <Trouble error={error} />
        <p id="testanswer" class={took ? "good" : "bad"} aria-live="polite">
          {answered !== null && t("webhooks.answered", { status: answered })}
        </p>
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>
            {t("webhooks.testSend")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
