// The form in which a person signs in or enters a key, and the reason why a sign-in failed.

import { storeKey } from "../api";
import { issuers, refused, signIn } from "../signIn";
import { refresh } from "../status";
import { t } from "../words/words";
import { Trouble, useWork } from "./ui";

const REASONS = ["denied", "expired", "issuer", "no_role", "blocked", "ended"] as const;

/** Explains why the user is not signed in. */
export function Refused() {
  if (!refused.value) return null;
  const reason = REASONS.find((known) => known === refused.value) ?? "failed";
  return (
    <p class="trouble" role="alert" id="refused">
      <span>{t(`signIn.${reason}`)}</span>
    </p>
  );
}

export function Unlock() {
  const [busy, error, work] = useWork();
  return (
    <section class="card" id="locked">
      <h2>{t(issuers.value.length ? "signIn.title" : "key.title")}</h2>
      <Trouble error={error} />
      {issuers.value.length > 0 && (
        <div class="actions" id="signin">
          {issuers.value.map((issuer) => (
            <button
              key={issuer}
              type="button"
              class="primary"
              disabled={busy}
              onClick={() => work(() => signIn(issuer))}
            >
              {t("signIn.with", { issuer: new URL(issuer).host })}
            </button>
          ))}
        </div>
      )}
      <p class="soft">{t(issuers.value.length ? "signIn.orKey" : "key.note")}</p>
      <form
        id="unlock"
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          refused.value = "";
          storeKey(String(form.get("key")).trim(), form.get("keep") === "on");
          refresh();
        }}
      >
        <input
          id="key"
          name="key"
          type="password"
          autocomplete="off"
          placeholder="pk-…"
          aria-label={t("key.label")}
          required
        />
        <label class="check">
          <input type="checkbox" name="keep" /> {t("key.keep")}
        </label>
        <div class="actions">
          <button type="submit" class="primary">
            {t("key.use")}
          </button>
        </div>
      </form>
    </section>
  );
}
