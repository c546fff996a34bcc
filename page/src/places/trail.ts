// The breadcrumbs below the open section.

import { signal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";

export interface Crumb {
  label: string;
  /** The address of the step; the last step has none. */
  address?: string;
}

export const trail = signal<Crumb[]>([]);

/** Shows these steps behind the section while the view is open. */
export function useTrail(...steps: Crumb[]): void {
  const text = JSON.stringify(steps);
  useLayoutEffect(() => {
    trail.value = JSON.parse(text) as Crumb[];
    return () => {
      trail.value = [];
    };
  }, [text]);
}
