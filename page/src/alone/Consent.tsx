// The question of an OAuth client to a person: may the client use the daemon with the person's rights?

import { useEffect, useState } from "preact/hooks";
import { json } from "../api";
import { Refused, Unlock } from "../parts/Unlock";
import { Skeleton, Trouble, useLoaded, useWork } from "../parts/ui";
import { locked, refresh } from "../status";
import type { ConsentAnswer, Consent as ConsentRequest, Whoami } from "../types";
import { t } from "../words/words";
import { LanguageButton } from "./Alone";

export function Consent() {
  const query = location.search.slice(1);
  const [answered, setAnswered] = useState(false);
  const [busy, error, work] = useWork();
  const { value, error: refusal } = useLoaded(
    async () => ({
      request: await json<ConsentRequest>(`/api/authorization?${query}`),
      caller: await json<Whoami>("/api/whoami"),
    }),
    query,
  );
  useEffect(() => {
    refresh();
  }, []);
  const leave = (address: string) => {
    setAnswered(true);
    location.assign(address);
  };
  const answer = (approve: boolean) =>
    work(async () =>
      leave((await json<ConsentAnswer>("/api/authorization", { json: { query, approve } })).location),
    );
  const request = value?.request;
  return (
    <main class="consent">
      <header class="actions spread">
        <h1>{request?.name ? t("consent.title", { name: request.name }) : t("consent.untitled")}</h1>
        <LanguageButton />
      </header>
      <Refused />
      <Trouble error={locked.value ? "" : refusal || error} />
      {locked.value ? (
        <Unlock />
      ) : answered ? (
        <p role="status" id="answered">
          {t("consent.answered")}
        </p>
      ) : !request ? (
        !refusal && <Skeleton />
      ) : request.error ? (
        <section class="card">
          <Trouble error={request.error} />
          <div class="actions">
            <button type="button" onClick={() => leave(request.location)}>
              {t("consent.back")}
            </button>
          </div>
        </section>
      ) : (
        <section class="card" id="consent">
          <p>
            {request.document
              ? t("consent.document", { document: request.document })
              : t("consent.unverified")}
          </p>
          <p>{t("consent.redirect", { redirect: request.redirect })}</p>
          <p>{t("consent.person", { name: value.caller.name, audience: request.audience })}</p>
          {request.scopes.length ? (
            <ul>
              {request.scopes.map((scope) => (
                <li key={scope}>
                  <code class="chip">{scope}</code>
                </li>
              ))}
            </ul>
          ) : (
            <p>{t("consent.nothing")}</p>
          )}
          <p class="soft">{t("consent.note")}</p>
          <div class="actions">
            <button
              type="button"
              class="primary"
              id="approve"
              disabled={busy || !request.scopes.length}
              onClick={() => answer(true)}
            >
              {t("consent.approve")}
            </button>
            <button type="button" id="deny" disabled={busy} onClick={() => answer(false)}>
              {t("consent.deny")}
            </button>
          </div>
        </section>
      )}
    </main>
  );
}
