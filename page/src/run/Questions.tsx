// The open questions of all runs, answered in place.

import { rows } from "../api";
import { QuestionView } from "../chat/AnswerView";
import { dayAndTime } from "../format";
import { Listing, useLoaded } from "../parts/ui";
import { link } from "../route";
import type { QuestionDescription } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
/** The kinds of questions that people answer. Programs answer the others. */
const FOR_PEOPLE = new Set(["approval", "input"]);

export function View() {
  const found = useLoaded(
    async () =>
      (await rows<QuestionDescription>("/api/questions?status=pending&limit=1000")).filter((question) =>
        FOR_PEOPLE.has(question.kind),
      ),
    "questions",
    POLL_INTERVAL_MS,
  );
  return (
    <>
      <h1>{t("section.questions")}</h1>
      <Listing found={found} none={t("questions.none")} note={t("questions.noneNote")}>
        {(questions) => (
          <ul class="cards" id="questions">
            {questions.map((question) => (
              <li class="card" key={question.id}>
                <div class="actions spread">
                  <span class="soft">
                    {t("questions.asked", {
                      asked: dayAndTime(question.created_at),
                      until: dayAndTime(question.expires_at),
                    })}
                  </span>
                  <a href={link("run", "runs", question.run)}>{t("questions.run")}</a>
                </div>
                <QuestionView question={question} onAnswer={found.reload} />
              </li>
            ))}
          </ul>
        )}
      </Listing>
    </>
  );
}
