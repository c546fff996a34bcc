// Builds the views of src/views: one HTML file each, with inline script and style and a policy that allows no others.
// MCP serves them to hosts that display them.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import preact from "@preact/preset-vite";
import { build, type Plugin } from "vite";

const VIEWS = ["citations", "approvals", "chart"];
const SOURCES = fileURLToPath(new URL("src", import.meta.url));
const USED = [
  ...["View", "Questions", "approvals", "citations", "chart"].map((name) => `views/${name}`),
  ...["Chart", "Question", "SchemaForm"].map((name) => `parts/${name}`),
];
const WORD = /"([a-z][\w]*\.\w+)"/g;

/** Returns the keys of the texts that views use. */
function wordsUsed(): Set<string> {
  return new Set(
    USED.flatMap((name) =>
      [...readFileSync(`${SOURCES}/${name}.tsx`, "utf-8").matchAll(WORD)].map(([, word]) => word ?? ""),
    ),
  );
}

/** Keeps only those texts, in the language of the host. */
function fewWords(): Plugin {
  const used = wordsUsed();
  return {
    name: "few-words",
    enforce: "pre",
    resolveId: (source) => (source.endsWith("/words/words") ? `${SOURCES}/views/words.ts` : undefined),
    transform(code, id) {
      if (!/\/words\/(?:en|zh)\.ts$/.test(id)) return;
      return code.replace(/^ {2}"?([\w.]+)"?:\s*\n?.*\n/gm, (line, word) => (used.has(word) ? line : ""));
    },
  };
}

const digest = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

async function htmlOf(view: string): Promise<string> {
  const built = await build({
    configFile: false,
    logLevel: "warn",
    publicDir: false,
    plugins: [fewWords(), preact()],
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      write: false,
      target: "es2022",
      lib: { entry: `${SOURCES}/views/${view}.tsx`, formats: ["iife"], name: "view", fileName: view },
    },
  });
  let script = "";
  let style = "";
  for (const { output } of Array.isArray(built) ? built : "output" in built ? [built] : []) {
    for (const file of output) {
      if (file.type === "chunk") script += file.code.replaceAll("</script", "<\\/script").trim();
      else if (file.fileName.endsWith(".css")) style += String(file.source).trim();
    }
  }
  const policy =
    `default-src 'none'; script-src ${digest(script)}; style-src ${digest(style)}; img-src data:; ` +
    "base-uri 'none'; form-action 'none'";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>Portico</title>
<style>${style}</style>
</head>
<body><main></main><script>${script}</script></body>
</html>
`;
}

export function views(): Plugin {
  return {
    name: "views",
    apply: "build",
    async generateBundle() {
      for (const view of VIEWS)
        this.emitFile({ type: "asset", fileName: `view-${view}.html`, source: await htmlOf(view) });
    },
  };
}
