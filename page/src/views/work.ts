// Work that somebody began by a button.

import { useState } from "preact/hooks";

/** Whether something is being done, what was wrong with it, and a way to begin it. */
export function useWork(): [boolean, string, (work: () => Promise<void>) => Promise<void>] {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const start = async (work: () => Promise<void>) => {
    setBusy(true);
    setError("");
    try {
      await work();
    } catch (caught) {
      setError(caught instanceof Error ? caught.message : String(caught));
    } finally {
      setBusy(false);
    }
  };
  return [busy, error, start];
}
