// The user's rating of an answer. The daemon stores it with the message, for training and evaluation.

import { useState } from "preact/hooks";
import { IconButton } from "../parts/Icon";
import { FormDialog, Trouble, useWork } from "../parts/ui";
import { t } from "../words/words";
import { type Message, type Rating, textOf } from "./sessions";
import type { Talk } from "./talk";

const ICONS = { good: "good", bad: "badly", corrected: "edit" } as const;

export function RatingButtons({ talk, message }: { talk: Talk; message: Message }) {
  const [correcting, setCorrecting] = useState(false);
  const [busy, error, work] = useWork();
  const given = message.rating?.value;
  const rate = (rating: Rating | null) => work(() => talk.rate(message, rating));
  return (
    <>
      <span class="rating">
        {(["good", "bad", "corrected"] as const).map((value) => (
          <IconButton
            key={value}
            icon={ICONS[value]}
            label={t(`rate.${value}`)}
            disabled={busy}
            pressed={given === value}
            onClick={() => {
              if (value === "corrected") setCorrecting(true);
              else rate(given === value ? null : { value });
            }}
          />
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
