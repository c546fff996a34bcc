// A form generated from a JSON schema: one field per property of an object, or one field for a single value.

import { useState } from "preact/hooks";
import { t } from "../words/words";
import type { JsonSchema } from "./jsonSchema";

type Values = Record<string, unknown>;

const VALUE = "value";

function typeOf(schema: JsonSchema): string {
  return Array.isArray(schema.type)
    ? (schema.type.find((type) => type !== "null") ?? "")
    : (schema.type ?? "");
}

function read(text: string, schema: JsonSchema): unknown {
  const type = typeOf(schema);
  if (type === "number" || type === "integer") return Number(text);
  if (type === "string" || type === "") return text;
  return JSON.parse(text);
}

/** `onSend` receives the value that the schema describes. `label` names a single value without a title. */
export function SchemaForm(props: {
  schema: Record<string, unknown> | null;
  send: string;
  label?: string;
  onSend: (value: unknown) => void;
}) {
  const form = props.schema as JsonSchema | null;
  const whole = form?.properties ? form : null;
  const fields = whole?.properties ?? { [VALUE]: form ?? {} };
  const required = new Set(whole ? (whole.required ?? []) : [VALUE]);
  const [typed, setTyped] = useState<Values>({});
  const [error, setError] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    const found: Values = {};
    try {
      for (const [name, schema] of Object.entries(fields)) {
        const given = typed[name] ?? schema.default;
        if (typeOf(schema) === "boolean") found[name] = Boolean(given);
        else if (given !== undefined && given !== "") {
          found[name] = typeof given === "string" && !schema.enum ? read(given, schema) : given;
        }
      }
    } catch {
      setError(t("form.json"));
      return;
    }
    setError("");
    props.onSend(whole ? found : found[VALUE]);
  };
  return (
    <form class="fields" onSubmit={submit}>
      {Object.entries(fields).map(([name, schema]) => (
        // biome-ignore lint/a11y/noLabelWithoutControl: the field inside is the control
        <label key={name} class={typeOf(schema) === "boolean" && !schema.enum ? "check tick" : ""}>
          <span>{schema.title ?? (name === VALUE && !whole ? (props.label ?? t("runs.input")) : name)}</span>
          <Field
            schema={schema}
            value={typed[name] ?? schema.default}
            required={required.has(name)}
            onChange={(value) => setTyped({ ...typed, [name]: value })}
          />
          {schema.description && <small class="soft">{schema.description}</small>}
        </label>
      ))}
      {error && <p class="trouble">{error}</p>}
      <div class="actions">
        <button type="submit" class="primary">
          {props.send}
        </button>
      </div>
    </form>
  );
}

function Field(props: {
  schema: JsonSchema;
  value: unknown;
  required: boolean;
  onChange: (value: unknown) => void;
}) {
  const { schema, value, required } = props;
  const type = typeOf(schema);
  if (schema.enum) {
    return (
      <select
        required={required}
        value={value === undefined ? "" : JSON.stringify(value)}
        onChange={(event) =>
          props.onChange(event.currentTarget.value ? JSON.parse(event.currentTarget.value) : "")
        }
      >
        <option value="" />
        {schema.enum.map((choice) => (
          <option key={JSON.stringify(choice)} value={JSON.stringify(choice)}>
            {String(choice)}
          </option>
        ))}
      </select>
    );
  }
  if (type === "boolean") {
    return (
      <input
        type="checkbox"
        checked={Boolean(value)}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
    );
  }
  const text = value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  if (type === "number" || type === "integer") {
    return (
      <input
        type="number"
        step={type === "integer" ? 1 : "any"}
        required={required}
        value={text}
        onInput={(event) => props.onChange(event.currentTarget.value)}
      />
    );
  }
  return (
    <textarea
      rows={type === "object" || type === "array" ? 4 : 2}
      required={required}
      value={text}
      onInput={(event) => props.onChange(event.currentTarget.value)}
    />
  );
}
