// Work that somebody begins by a button.

import { useState } from "preact/hooks";
import { sentence } from "../format";

/** Whether it is being done, why it failed, and a way to begin it. */
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
