import { Lazy, Tabs } from "../parts/ui";
import { link, route } from "../route";
import { t } from "../words/words";
import { Apps } from "./Apps";
import { AppEditor } from "./Editor";
import { Prompts } from "./Prompts";

function Evals() {
  return <Lazy name="evals" load={() => import("./Evals")} given={{}} />;
}

function Skills() {
  return <Lazy name="skills" load={() => import("./Skills")} given={{}} />;
}

const VIEWS = { apps: Apps, prompts: Prompts, skills: Skills, evals: Evals };

export type BuildTab = keyof typeof VIEWS;
export const BUILD_TABS = Object.keys(VIEWS) as BuildTab[];

export function BuildView() {
  const [tab, named = "", what] = route.value.rest;
  const open = BUILD_TABS.find((name) => name === tab) ?? "apps";
  const View = VIEWS[open];
  const isEdited = tab === "new" || (tab === "apps" && what === "edit");
  return (
    <div class="view">
      <Tabs
        label={t("view.build")}
        tabs={BUILD_TABS.map((name) => ({
          address: link("build", name),
          label: t(`build.${name}`),
          open: name === open,
        }))}
      />
      {isEdited ? <AppEditor key={named} name={named} /> : <View />}
    </div>
  );
}
