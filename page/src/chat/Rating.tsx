// The user's rating of an answer. The daemon stores it with the message, for training and evaluation.

import { useState } from "preact/hooks";
import { FormDialog, Trouble, useWork } from "../parts/ui";
import { t } from "../words/words";
import { type Message, type Rating, textOf } from "./sessions";
import type { Talk } from "./talk";

const THUMB =
  "M7 21H4V11h3m0 10V11l4-8a2.2 2.2 0 0 1 2 2.6L12.4 9H19a2 2 0 0 1 2 2.3l-1.3 8a2 2 0 0 1-2 1.7z";
const PEN = "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4";
const ICONS = { good: THUMB, bad: THUMB, corrected: PEN };

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
            <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
              <path d={ICONS[value]} {...(value === "bad" ? { transform: "rotate(180 12 12)" } : {})} />
            </svg>
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

/** The form for a corrected answer. An empty text removes the correction. */
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
