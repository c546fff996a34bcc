// An action that the user starts with a button.

import { useState } from "preact/hooks";
import { sentence } from "../format";

/** Returns whether the action is in progress, its error, and a function that starts it. */
export function useWork(): [boolean, string, (work: () => Promise<unknown>) => Promise<void>] {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const run = async (work: () => Promise<unknown>) => {
    setBusy(true);
    setError("");
    try {
      await work();
    } catch (caught) {
      setError(sentence(caught));
    }
    setBusy(false);
  };
  return [busy, error, run];
}
