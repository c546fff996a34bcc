import { useRef } from "preact/hooks";

/** An area for a file that the user drops or chooses. */
export function FileDrop(props: {
  id: string;
  note: string;
  chooses: string;
  accept: string;
  onFile: (file: File) => void;
}) {
  const chooser = useRef<HTMLInputElement>(null);
  const take = (files: FileList | undefined | null) => files?.[0] && props.onFile(files[0]);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the button inside does the same
    <div
      class="drop"
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        take(event.dataTransfer?.files);
      }}
    >
      <div class="actions">
        <span class="soft grow">{props.note}</span>
        <button type="button" onClick={() => chooser.current?.click()}>
          {props.chooses}
        </button>
      </div>
      <input
        ref={chooser}
        id={props.id}
        type="file"
        accept={props.accept}
        hidden
        aria-label={props.chooses}
        onChange={(event) => {
          take(event.currentTarget.files);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}
