import { useEffect, useState } from "preact/hooks";
import { sentence } from "../api";
import { Trouble } from "../parts/ui";
import type { MadeFile } from "./answer";
import { fetchFile, type Shown } from "./media";

/** An image, an audio player, or a file to download. */
export function ShownFile({ file }: { file: Shown }) {
  if (file.kind === "picture") return <img class="made" src={file.url} alt={file.name} />;
  if (file.kind === "sound") {
    // biome-ignore lint/a11y/useMediaCaption: the text of the recording is shown next to it
    return <audio class="made" controls src={file.url} title={file.name} />;
  }
  return (
    <a class="made" href={file.url} download={file.name}>
      {file.name}
    </a>
  );
}

/** A file created by a tool, fetched with the key. */
export function Made({ file }: { file: MadeFile }) {
  const [found, setFound] = useState<Shown | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    fetchFile(file.id, file.name).then(setFound, (caught) => setError(sentence(caught)));
  }, [file.id, file.name]);
  return found ? <ShownFile file={found} /> : <Trouble error={error} />;
}
