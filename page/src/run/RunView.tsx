import type { FunctionComponent } from "preact";
import { Lazy, Tabs } from "../parts/ui";
import { link, route } from "../route";
import { t } from "../words/words";
import { Batches } from "./Batches";
import { Finetunes } from "./Finetunes";
import { Keys } from "./Keys";
import { Models } from "./Models";
import { Runs } from "./Runs";
import { Settings } from "./Settings";
import { Tools } from "./Tools";
import { UsageTable } from "./Usage";

function Webhooks() {
  return <Lazy name="webhooks" load={() => import("./Webhooks")} given={{}} />;
}

function Schedules() {
  return <Lazy name="schedules" load={() => import("./Schedules")} given={{}} />;
}

function Canaries() {
  return <Lazy name="canaries" load={() => import("./Canaries")} given={{}} />;
}

function Containers() {
  return <Lazy name="containers" load={() => import("./Containers")} given={{}} />;
}

function Machines() {
  return <Lazy name="machines" load={() => import("./Machines")} given={{}} />;
}

function Guards() {
  return <Lazy name="guards" load={() => import("./Guards")} given={{}} />;
}

const VIEWS = {
  models: Models,
  finetunes: Finetunes,
  batches: Batches,
  tools: Tools,
  runs: Runs,
  usage: UsageTable,
  keys: Keys,
  guards: Guards,
  canaries: Canaries,
  containers: Containers,
  schedules: Schedules,
  webhooks: Webhooks,
  machines: Machines,
  settings: Settings,
} satisfies Record<string, FunctionComponent>;

export type RunTab = keyof typeof VIEWS;
export const RUN_TABS = Object.keys(VIEWS) as RunTab[];

export function RunView() {
  const open = RUN_TABS.find((name) => name === route.value.rest[0]) ?? "models";
  const View = VIEWS[open];
  return (
    <div class="view">
      <Tabs
        label={t("view.run")}
        tabs={RUN_TABS.map((name) => ({
          address: link("run", name),
          label: t(`run.${name}`),
          open: name === open,
        }))}
      />
      <View />
    </div>
  );
}
