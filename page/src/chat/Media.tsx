import { useEffect, useState } from "preact/hooks";
import { sentence } from "../api";
import { Trouble } from "../parts/ui";
import type { MadeFile } from "./answer";
import { fetchFile, type Shown } from "./media";

/** A picture, a sound, or a file to keep. */
export function ShownFile({ file }: { file: Shown }) {
  if (file.kind === "picture") return <img class="made" src={file.url} alt={file.name} />;
  if (file.kind === "sound") {
    // biome-ignore lint/a11y/useMediaCaption: what it says stands beside it
    return <audio class="made" controls src={file.url} title={file.name} />;
  }
  return (
    <a class="made" href={file.url} download={file.name}>
      {file.name}
    </a>
  );
}

/** A file that a tool made, fetched with the key. */
export function Made({ file }: { file: MadeFile }) {
  const [found, setFound] = useState<Shown | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    fetchFile(file.id, file.name).then(setFound, (caught) => setError(sentence(caught)));
  }, [file.id, file.name]);
  return found ? <ShownFile file={found} /> : <Trouble error={error} />;
}
