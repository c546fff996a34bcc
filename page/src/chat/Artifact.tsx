// Artifacts: HTML and SVG that a model wrote, shown in a frame without rights, with the versions of the conversation.

import { signal } from "@preact/signals";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { addressOf } from "../address";
import type { CodeAction } from "../parts/Markdown";
import { codeBlocks } from "../parts/markdown";
import { Copy, Dialog, saveAs } from "../parts/ui";
import { t } from "../words/words";
import { messages } from "./conversation";
import { textOf } from "./sessions";

/** The document of the frame, which writes what it receives. The daemon serves it with a policy of its own. */
const FRAME = addressOf("/web/artifact.html");
const TYPES = { html: "text/html", svg: "image/svg+xml" };

interface Artifact {
  kind: keyof typeof TYPES;
  /** The content of the element `title`, which versions share. */
  title: string;
  code: string;
}

const artifact = signal<Artifact | null>(null);

/** Returns a code block as an artifact, or null if it is neither HTML nor SVG. */
export function artifactOf(language: string, code: string): Artifact | null {
  const isSvg = /^\s*(?:<\?xml[^>]*>\s*)?<svg[\s>]/i.test(code);
  const kind = isSvg ? "svg" : language.toLowerCase() === "html" ? "html" : null;
  if (!kind || !["", "html", "svg", "xml"].includes(language.toLowerCase())) return null;
  return { kind, title: /<title>([^<]{1,200})<\/title>/i.exec(code)?.[1]?.trim() ?? "", code };
}

/** Returns all artifacts of the conversation with the kind and title of this one, oldest first. */
function versionsOf({ kind, title }: Artifact): Artifact[] {
  return messages.value
    .filter((message) => message.role === "assistant")
    .flatMap((message) => codeBlocks(textOf(message.content)))
    .flatMap(({ language, code }) => artifactOf(language, code) ?? [])
    .filter((each) => each.kind === kind && each.title === title);
}

export const SHOW_ARTIFACT: CodeAction = {
  label: () => t("artifact.show"),
  fits: (language, code) => artifactOf(language, code) !== null,
  does: (language, code) => {
    artifact.value = artifactOf(language, code);
  },
};

export function ArtifactPanel() {
  return artifact.value && <OpenArtifact shown={artifact.value} />;
}

function OpenArtifact({ shown }: { shown: Artifact }) {
  const [asCode, setAsCode] = useState(false);
  const versions = versionsOf(shown);
  const at = versions.findLastIndex((each) => each.code === shown.code);
  const step = (by: number) => {
    artifact.value = versions[at + by] ?? shown;
  };
  const name = shown.title || t(`artifact.${shown.kind}`);
  return (
    <Dialog
      title={name}
      side
      onClose={() => {
        artifact.value = null;
      }}
    >
      <div class="actions spread">
        <span class="branches">
          <button type="button" aria-label={t("artifact.before")} disabled={at <= 0} onClick={() => step(-1)}>
            ‹
          </button>
          <span>{t("artifact.version", { at: at + 1, count: versions.length })}</span>
          <button
            type="button"
            aria-label={t("artifact.next")}
            disabled={at >= versions.length - 1}
            onClick={() => step(1)}
          >
            ›
          </button>
        </span>
        <span class="actions">
          <button type="button" aria-pressed={asCode} onClick={() => setAsCode(!asCode)}>
            {t("code.source")}
          </button>
          <Copy key={shown.code} text={shown.code} />
          <button
            type="button"
            onClick={() =>
              saveAs(new Blob([shown.code], { type: TYPES[shown.kind] }), `${name}.${shown.kind}`)
            }
          >
            {t("artifact.download")}
          </button>
        </span>
      </div>
      {asCode ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard
        <pre class="document" tabIndex={0}>
          {shown.code}
        </pre>
      ) : (
        <Frame key={shown.code} name={name} code={shown.code} />
      )}
    </Dialog>
  );
}

/** The frame asks for its content when it is ready. It has no origin, so its window identifies it. */
function Frame({ name, code }: { name: string; code: string }) {
  const place = useRef<HTMLIFrameElement>(null);
  // The frame may be ready before an effect runs after the paint.
  useLayoutEffect(() => {
    const frame = place.current;
    const onMessage = ({ source }: MessageEvent) => {
      if (source && source === frame?.contentWindow) frame.contentWindow?.postMessage(code, "*");
    };
    addEventListener("message", onMessage);
    return () => removeEventListener("message", onMessage);
  }, [code]);
  return <iframe ref={place} class="artifact" title={name} sandbox="allow-scripts" src={FRAME} />;
}
