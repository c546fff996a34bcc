// The links with which others read a copy of a conversation.

import { useState } from "preact/hooks";
import { addressOf } from "../address";
import { json, part, rows } from "../api";
import { dayAndTime } from "../format";
import { Copy, Dialog, Trouble, useLoaded, useWork } from "../parts/ui";
import type { NewPublicLink, PublicLink, Session } from "../types";
import { t } from "../words/words";
import { titleOf } from "./sessions";

const DAYS = [7, 30, 90, 365];
const USUAL_DAYS = 30;

/** Creates a link to a copy of a conversation, and removes links that were created before. */
export function ShareDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const path = `/api/sessions/${part(session.id)}/public-links`;
  const links = useLoaded(() => rows<PublicLink>(path), path);
  const [address, setAddress] = useState("");
  const [busy, error, work] = useWork();
  const create = (days: number) =>
    work(async () => {
      const link = await json<NewPublicLink>(path, { json: { days } });
      setAddress(addressOf(link.path));
      links.reload();
    });
  const remove = (link: PublicLink) =>
    work(async () => {
      await json(`/api/sessions/${part(session.id)}/public-links/${part(link.id)}`, { method: "DELETE" });
      setAddress("");
      links.reload();
    });
  return (
    <Dialog title={t("share.title", { title: titleOf(session) })} onClose={onClose}>
      <p>{t("share.note")}</p>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          create(Number(new FormData(event.currentTarget).get("days")));
        }}
      >
        <label>
          <span>{t("share.expires")}</span>
          <select name="days" defaultValue={String(USUAL_DAYS)}>
            {DAYS.map((days) => (
              <option key={days} value={days}>
                {t("share.days", { count: days })}
              </option>
            ))}
          </select>
        </label>
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>
            {t("share.create")}
          </button>
        </div>
      </form>
      <Trouble error={error || links.error} retry={links.retry} />
      {address && (
        <>
          <p role="status">{t("share.once")}</p>
          <div class="actions">
            <pre id="publiclink" class="grow">
              {address}
            </pre>
            <Copy text={address} />
          </div>
        </>
      )}
      {links.value && links.value.length > 0 && (
        <ul class="cards" id="publiclinks" aria-label={t("share.links")}>
          {links.value.map((link) => (
            <li key={link.id} class="actions spread">
              <span>
                {t("share.link", {
                  created: dayAndTime(link.created_at),
                  expires: dayAndTime(link.expires_at),
                })}
              </span>
              <button type="button" class="danger" disabled={busy} onClick={() => remove(link)}>
                {t("share.remove")}
              </button>
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}
