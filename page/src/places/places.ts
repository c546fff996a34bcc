// The places of the page, and the sections of each place in the order of its list.

import type { IconName } from "../parts/Icon";
import { route } from "../route";

export const PLACES = ["chat", "library", "run"] as const;
export type Place = (typeof PLACES)[number];

export const PLACE_ICONS: Record<Place, IconName> = { chat: "chat", library: "library", run: "run" };

const LIBRARY = {
  documents: "documents",
  apps: "app",
  prompts: "prompt",
  skills: "skill",
  tools: "tool",
  facts: "memory",
} as const;
const RUN = {
  models: "model",
  engines: "engine",
  finetunes: "training",
  evals: "evaluation",
  canaries: "split",
  runs: "runs",
  questions: "question",
  batches: "batch",
  chats: "archive",
  artifacts: "artifact",
  schedules: "schedule",
  containers: "container",
  webhooks: "webhook",
  keys: "access",
  usage: "usage",
  guards: "guard",
  machines: "machine",
  settings: "settings",
} as const;

export const SECTION_ICONS = { ...LIBRARY, ...RUN } satisfies Record<string, IconName>;
export type Section = keyof typeof SECTION_ICONS;

export interface Group {
  /** The heading of the group; a place with one group needs none. */
  name: "models" | "work" | "automation" | "access" | "daemon" | "";
  sections: Section[];
}

export const GROUPS: Record<Place, Group[]> = {
  chat: [],
  library: [{ name: "", sections: ["documents", "apps", "prompts", "skills", "tools", "facts"] }],
  run: [
    { name: "models", sections: ["models", "engines", "finetunes", "evals", "canaries"] },
    { name: "work", sections: ["runs", "questions", "batches", "chats", "artifacts", "containers"] },
    { name: "automation", sections: ["schedules", "webhooks"] },
    { name: "access", sections: ["keys", "usage", "guards"] },
    { name: "daemon", sections: ["machines", "settings"] },
  ],
};

/** Takes the place of a section in the address of the editor of a new app. */
export const NEW_APP = "new";

export function sectionsOf(place: Place): Section[] {
  return GROUPS[place].flatMap((group) => group.sections);
}

/** Returns the place in the address; any unknown address is the chat. */
export function openPlace(): Place {
  return PLACES.find((place) => place === route.value.view) ?? "chat";
}

/** Returns the section in the address, or the first section of the place. */
export function openSection(place: Place): Section | undefined {
  const sections = sectionsOf(place);
  const named = route.value.rest[0] === NEW_APP ? "apps" : route.value.rest[0];
  return sections.find((section) => section === named) ?? sections[0];
}
