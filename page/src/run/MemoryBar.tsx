// The memory of all loaded models, as one bar.

import { bytes } from "../format";
import { status } from "../status";
import { t } from "../words/words";

/** The memory that each loaded model uses, of the memory that all may use. Hidden while the latter is unknown. */
export function MemoryBar() {
  const budget = status.value?.memory_budget_bytes;
  if (!budget) return null;
  const loaded = (status.value?.models ?? []).flatMap(({ name, memory_bytes: size }) =>
    size ? [{ name, size }] : [],
  );
  const used = loaded.reduce((sum, model) => sum + model.size, 0);
  const label = t("memory.used", { used: bytes(used) || "0 B", budget: bytes(budget) });
  return (
    <section class="memory" id="memory" aria-label={t("models.memory")}>
      <p>
        <strong>{t("models.memory")}</strong> <span class={used > budget ? "bad" : "soft"}>{label}</span>
      </p>
      {/* biome-ignore lint/a11y/useSemanticElements: a native meter cannot show a part for each model */}
      <div role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={budget} aria-valuenow={used}>
        {loaded.map((model) => (
          <span
            key={model.name}
            title={`${model.name} · ${bytes(model.size)}`}
            style={{ flexGrow: model.size }}
          />
        ))}
        <span class="free" style={{ flexGrow: Math.max(0, budget - used) }} />
      </div>
      <ul>
        {loaded.map((model) => (
          <li key={model.name}>
            {model.name} <span class="soft">{bytes(model.size)}</span>
          </li>
        ))}
        <li class="free">
          {t("memory.free")} <span class="soft">{bytes(Math.max(0, budget - used)) || "0 B"}</span>
        </li>
      </ul>
    </section>
  );
}
