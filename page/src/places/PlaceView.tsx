// A place other than the chat: its open section below the way to it.

import type { FunctionComponent } from "preact";
import { Apps } from "../apps/Apps";
import { Prompts } from "../apps/Prompts";
import { DocumentsView } from "../documents/DocumentsView";
import { Lazy } from "../parts/ui";
import { route } from "../route";
import { Finetunes } from "../run/Finetunes";
import { Keys } from "../run/Keys";
import { Models } from "../run/Models";
import { Runs } from "../run/Runs";
import { Settings } from "../run/Settings";
import { Tools } from "../run/Tools";
import { UsageTable } from "../run/Usage";
import { Crumbs, SectionLinks } from "./Navigation";
import { openSection, type Place, type Section } from "./places";

/** Returns a section whose code is loaded when it is first opened. */
function later(name: Section, load: () => Promise<{ View: FunctionComponent }>): FunctionComponent {
  return () => <Lazy name={name} load={load} given={{}} />;
}

const VIEWS: Record<Section, FunctionComponent> = {
  documents: DocumentsView,
  apps: Apps,
  prompts: Prompts,
  skills: later("skills", () => import("../apps/Skills")),
  tools: Tools,
  facts: later("facts", () => import("../apps/Facts")),
  models: Models,
  engines: later("engines", () => import("../run/Engines")),
  finetunes: Finetunes,
  evals: later("evals", () => import("../apps/Evals")),
  canaries: later("canaries", () => import("../run/Canaries")),
  runs: Runs,
  questions: later("questions", () => import("../run/Questions")),
  batches: later("batches", () => import("../run/Batches")),
  chats: later("chats", () => import("../run/StoredChats")),
  artifacts: later("artifacts", () => import("../run/Artifacts")),
  schedules: later("schedules", () => import("../run/Schedules")),
  containers: later("containers", () => import("../run/Containers")),
  webhooks: later("webhooks", () => import("../run/Webhooks")),
  keys: Keys,
  usage: UsageTable,
  guards: later("guards", () => import("../run/Guards")),
  machines: later("machines", () => import("../run/Machines")),
  settings: Settings,
};

export function PlaceView({ place }: { place: Place }) {
  const section = openSection(place);
  if (!section) return null;
  const View = VIEWS[section];
  const isIndex = !route.value.rest.length;
  return (
    <div class={`view ${isIndex ? "index" : ""}`}>
      {isIndex && <SectionLinks place={place} />}
      <Crumbs place={place} section={section} />
      <View key={section} />
    </div>
  );
}
