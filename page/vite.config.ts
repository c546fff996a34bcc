import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";
import { views } from "./views.ts";

const OLD_FONTS = /,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("(?:woff|truetype)"\)/g;

export default defineConfig({
  // The page is in the folder of the daemon's address, which may have a path, and its assets are in "web" there.
  base: "./",
  experimental: {
    renderBuiltUrl: (name, { hostType }) => (hostType === "html" ? `web/${name}` : { relative: true }),
  },
  publicDir: false,
  plugins: [
    preact(),
    views(),
    {
      // All browsers that can run the page support woff2, so other copies of the formula fonts are omitted.
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
    chunkSizeWarningLimit: 600, // kB: the editor, which is loaded when one is opened
    license: { fileName: "licenses.md" },
    rolldownOptions: { checks: { pluginTimings: false } },
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  test: { include: ["test/**/*.test.ts"] },
});
