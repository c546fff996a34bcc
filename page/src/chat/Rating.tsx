// What the reader thinks of an answer. The daemon keeps it with the message, to train on and to evaluate with.

import { useState } from "preact/hooks";
import { FormDialog, Trouble, useWork } from "../parts/ui";
import { t } from "../words/words";
import { type Message, type Rating, textOf } from "./sessions";
import type { Talk } from "./talk";

const SIGNS = { good: "👍", bad: "👎", corrected: "✎" };

export function RatingButtons({ talk, message }: { talk: Talk; message: Message }) {
  const [correcting, setCorrecting] = useState(false);
  const [busy, error, work] = useWork();
  const given = message.rating?.value;
  const rate = (rating: Rating | null) => work(() => talk.rate(message, rating));
  return (
    <>
      <span class="rating">
        {(["good", "bad", "corrected"] as const).map((value) => (
          <button
            key={value}
            type="button"
            class="quiet"
            disabled={busy}
            aria-label={t(`rate.${value}`)}
            title={t(`rate.${value}`)}
            aria-pressed={given === value}
            onClick={() => {
              if (value === "corrected") setCorrecting(true);
              else rate(given === value ? null : { value });
            }}
          >
            <span aria-hidden="true">{SIGNS[value]}</span>
          </button>
        ))}
      </span>
      <Trouble error={error} />
      {correcting && (
        <Correction
          message={message}
          onClose={() => setCorrecting(false)}
          onSave={(correction) => talk.rate(message, correction ? { value: "corrected", correction } : null)}
        />
      )}
    </>
  );
}

/** The answer as the reader wants it; an empty one takes the correction back. */
function Correction(props: {
  message: Message;
  onClose: () => void;
  onSave: (text: string) => Promise<unknown>;
}) {
  const { message } = props;
  return (
    <FormDialog
      title={t("rate.corrected")}
      does={t("save")}
      onSend={(form) => props.onSave(String(form.get("correction")).trim())}
      onClose={props.onClose}
    >
      <label>
        <span>{t("rate.wanted")}</span>
        <textarea
          name="correction"
          rows={10}
          maxLength={100_000}
          defaultValue={message.rating?.correction || textOf(message.content)}
        />
        <small class="soft">{t("rate.wantedNote")}</small>
      </label>
    </FormDialog>
  );
}
