// Open questions, and the results of calls that asked one.

import { textOf } from "./host";
import { QuestionList, questionsOf } from "./Questions";
import { show } from "./View";
import { t } from "./words";

show((found) => {
  if (!Array.isArray(found.structuredContent?.questions)) return <pre>{textOf(found)}</pre>;
  const open = questionsOf(found.structuredContent);
  return open.length ? <QuestionList questions={open} /> : <p class="soft">{t("views.none")}</p>;
});
