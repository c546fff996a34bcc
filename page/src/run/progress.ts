// The progress of a run, from its first event on, so that it can be followed again after a reload.

import { useEffect, useState } from "preact/hooks";
import { followRun, isAbort, sentence } from "../api";
import { withQuestionEvent } from "../chat/answer";
import type { QuestionDescription } from "../types";
import { t } from "../words/words";

interface Status {
  stage: string;
  message: string;
  done: number | null;
  total: number | null;
  unit: string;
}

interface Followed<T> {
  progress: Status | null;
  ended: boolean;
  result: T | null;
  error: string;
  /** The open questions. */
  questions: QuestionDescription[];
}

type RunEvent<T> = { type: string; result?: T; error?: { message: string } } & Status;

const BEGUN = { progress: null, ended: false, result: null, error: "", questions: [] };

/** Follows a run while the component is mounted. `result` is set when the run completes, `error` when it fails. */
export function useProgress<T>(run: string): Followed<T> & { again: () => void } {
  const [found, setFound] = useState<Followed<T>>(BEGUN);
  const [round, setRound] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another round follows the run again
  useEffect(() => {
    const leaving = new AbortController();
    const listen = async () => {
      for await (const event of followRun<RunEvent<T>>(run, leaving.signal)) {
        if (event.type === "status") setFound((before) => ({ ...before, progress: event }));
        else if (event.type === "finished") {
          setFound((before) => ({ ...before, ended: true, result: event.result ?? null }));
        } else if (event.type === "failed") {
          const error = event.error?.message ?? t("runs.failed");
          setFound((before) => ({ ...before, ended: true, error }));
        } else {
          setFound((before) => ({ ...before, questions: withQuestionEvent(before.questions, { ...event }) }));
        }
      }
    };
    setFound(BEGUN);
    listen().catch((caught) => {
      if (!isAbort(caught)) setFound((before) => ({ ...before, ended: true, error: sentence(caught) }));
    });
    return () => leaving.abort();
  }, [run, round]);
  return { ...found, again: () => setRound((before) => before + 1) };
}
