import { Tabs } from "../parts/ui";
import { link, route } from "../route";
import { t } from "../words/words";
import { Apps } from "./Apps";
import { Prompts } from "./Prompts";

const VIEWS = { apps: Apps, prompts: Prompts };

export type BuildTab = keyof typeof VIEWS;
export const BUILD_TABS = Object.keys(VIEWS) as BuildTab[];

export function BuildView() {
  const open = BUILD_TABS.find((name) => name === route.value.rest[0]) ?? "apps";
  const View = VIEWS[open];
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
      <View />
    </div>
  );
}
