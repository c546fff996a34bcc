import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";
import { views } from "./views.ts";

const OLD_FONTS = /,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("(?:woff|truetype)"\)/g;

export default defineConfig({
  base: "/web/",
  publicDir: false,
  plugins: [
    preact(),
    views(),
    {
      // Every browser that can run the page reads woff2: the other copies of the formula fonts are left out.
      name: "woff2-only",
      enforce: "pre",
      transform(code, id) {
        return id.includes("katex") && id.includes(".css") ? code.replace(OLD_FONTS, "") : undefined;
      },
    },
  ],
  build: {
    outDir: "../server/portico_server/api/web",
    emptyOutDir: true,
    assetsDir: ".",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 600, // kB: the editor, which is fetched when one is opened
    license: { fileName: "licenses.md" },
    rolldownOptions: { checks: { pluginTimings: false } },
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  test: { include: ["test/**/*.test.ts"] },
});
