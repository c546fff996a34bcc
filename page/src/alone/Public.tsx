// A conversation that was shared by a link, for readers without a key.

import { json, part } from "../api";
import { dayAndTime } from "../format";
import { Skeleton, Trouble, useLoaded } from "../parts/ui";
import { route } from "../route";
import type { PublicSession } from "../types";
import { t } from "../words/words";
import { LanguageButton, SaidAlone } from "./Alone";

export function Public() {
  const secret = route.value.rest[0] ?? "";
  const { value, error, retry } = useLoaded(
    () => json<PublicSession>(`/api/public-sessions/${part(secret)}`),
    secret,
  );
  return (
    <main class="alone">
      <header class="actions spread">
        <h1>{value?.title ?? t("conversations.one")}</h1>
        <LanguageButton />
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="talkframe" tabIndex={0} aria-label={t("conversations.one")}>
        <div id="talk">
          <Trouble error={error} retry={retry} />
          {!value && !error && <Skeleton />}
          {value && (
            <p class="soft">
              {t("share.read", {
                created: dayAndTime(value.created_at),
                expires: dayAndTime(value.expires_at),
              })}
            </p>
          )}
          {value?.messages.map(({ role, text, attachments, passages }, place) => {
            const cited = passages.map((each) => ({
              index: each.rank,
              filename: each.filename,
              quote: each.text,
            }));
            return (
              // biome-ignore lint/suspicious/noArrayIndexKey: a message is identified by its position
              <div key={place} class={`saidframe ${role === "user" ? "mine" : ""}`}>
                <SaidAlone said={{ role, content: text, cited }} live={false} />
                {attachments > 0 && <p class="soft">{t("share.attachments", { count: attachments })}</p>}
              </div>
            );
          })}
        </div>
      </section>
    </main>
  );
}
