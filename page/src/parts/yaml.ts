// Specifications as YAML: parse and write them, locate errors, and suggest what their schema allows.

import {
  type Document,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument,
  stringify,
  visit,
  type YAMLMap,
} from "yaml";
import type { JsonSchema } from "./jsonSchema";

/** An error with its position: offsets into the text, line and column counted from 1. */
export interface Fault {
  from: number;
  to: number;
  line: number;
  column: number;
  message: string;
}

export interface Read {
  value: Record<string, unknown>;
  faults: Fault[];
  /** Returns the error for a path such as `flow.step.steps[0].op`, located at the nearest existing value. */
  faultAt: (path: string, message: string) => Fault;
}

export function write(value: unknown): string {
  return stringify(value, { lineWidth: 0 });
}

/** Parses YAML, which includes JSON. `noMapping`: the message for a text that is not a mapping. */
export function read(text: string, noMapping: string): Read {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const faultOf = ([from, to]: [number, number], message: string): Fault => {
    const start = Math.min(from, text.length);
    const { line, col } = lines.linePos(start);
    return { from: start, to: Math.min(Math.max(to, start), text.length), line, column: col, message };
  };
  const faults = document.errors.map((error) => faultOf(error.pos, error.message));
  let value: unknown = null;
  try {
    if (!faults.length) value = document.toJS();
  } catch (error) {
    faults.push(faultOf([0, 0], error instanceof Error ? error.message : String(error)));
  }
  if (!faults.length && !isMap(document.contents)) faults.push(faultOf([0, firstLine(text)], noMapping));
  return {
    value: value as Record<string, unknown>,
    faults,
    faultAt: (path, message) => faultOf(placeOf(document, path) ?? [0, firstLine(text)], message),
  };
}

function firstLine(text: string): number {
  const end = text.indexOf("\n");
  return end < 0 ? text.length : end;
}

function nameOf(pair: Pair): string {
  return String(isScalar(pair.key) ? pair.key.value : pair.key);
}

function rangeOf(node: unknown): [number, number] | undefined {
  return isNode(node) && node.range ? [node.range[0], node.range[1]] : undefined;
}

/** Returns the span of the value at a path, as far as the document has it. The path begins with the document's name. */
function placeOf(document: Document.Parsed, path: string): [number, number] | undefined {
  let node: unknown = document.contents;
  let place: [number, number] | undefined;
  for (const name of path
    .split(/[.[\]]+/)
    .filter(Boolean)
    .slice(1)) {
    if (isMap(node)) {
      const pair = node.items.find((each) => nameOf(each) === name);
      if (!pair) break;
      node = pair.value;
      const value = isScalar(node) && node.source ? rangeOf(node) : undefined;
      place = value ?? rangeOf(pair.key);
    } else if (isSeq(node) && node.items[Number(name)]) {
      node = node.items[Number(name)];
      place = rangeOf(isMap(node) ? node.items[0]?.key : node) ?? place;
    } else break;
  }
  return place;
}

export interface Suggestion {
  label: string;
  /** The text to insert. */
  apply: string;
  /** The type of the value. */
  detail: string;
  info: string;
  /** Whether the field is required. */
  needed: boolean;
}

const HERE = "portico_here";

/**
 * Returns the suggestions at an offset, and where they start. `names`: the known names for a field, such as `model`.
 */
export function suggestionsAt(
  schema: JsonSchema,
  text: string,
  at: number,
  names: Record<string, string[]> = {},
): { from: number; given: Suggestion[] } {
  const line = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  const word = /[\w$-]*$/.exec(line)?.[0] ?? "";
  const before = line.slice(0, line.length - word.length);
  const from = at - word.length;
  if (/(^|\s)#/.test(before)) return { from, given: [] };
  const isValue = /:\s+["']?$/.test(before);
  const rest = text.slice(at).replace(/^[\w$-]*/, "");
  const made = isValue || /^\s*:/.test(rest) ? HERE : `${HERE}: 0`;
  const document = parseDocument(text.slice(0, from) + made + rest, { logLevel: "silent" });
  let given: Suggestion[] = [];
  visit(document, {
    Pair(_key, pair, path) {
      if (nameOf(pair) !== HERE) return;
      const around = schemasAt(schema, path);
      given = [...fieldsOf(around.schemas, path.at(-1) as YAMLMap), ...around.values(names)];
      return visit.BREAK;
    },
    Scalar(key, node, path) {
      if (key === "key" || node.value !== HERE) return;
      given = schemasAt(schema, path).values(names);
      return visit.BREAK;
    },
  });
  return { from, given: [...new Map(given.map((each) => [each.label, each])).values()] };
}

/** Returns the schemas of the innermost node on a path, and the name of the field that contains it. */
function schemasAt(root: JsonSchema, path: readonly unknown[]) {
  let schemas = variantsOf(root, root);
  let outer = schemas;
  let key = "";
  for (const node of path) {
    if (isMap(node)) {
      outer = schemas;
      schemas = formsOf(schemas, node);
    } else if (isPair(node)) {
      key = nameOf(node);
      const inside = key;
      schemas = schemas.flatMap((each) => variantsOf(root, fieldOf(each, inside)));
    } else if (isSeq(node)) schemas = schemas.flatMap((each) => variantsOf(root, each.items));
  }
  // A new list item can be a text or begin an object. The schemas for a text are those outside the object.
  const whole = isCollection(path.at(-1)) ? (isSeq(path.at(-2)) ? outer : []) : schemas;
  const isText = whole.length > 0;
  return {
    schemas,
    values: (names: Record<string, string[]>) => (isText ? valuesOf(whole, names[key] ?? []) : []),
  };
}

function fieldOf(schema: JsonSchema, name: string): JsonSchema | undefined {
  const more = schema.additionalProperties;
  return schema.properties?.[name] ?? (typeof more === "object" ? more : undefined);
}

/** Resolves references and choices of a schema. Returns one schema for each form that it allows. */
function variantsOf(root: JsonSchema, schema: JsonSchema | undefined): JsonSchema[] {
  if (!schema) return [];
  const { $ref, allOf, anyOf, oneOf, ...own } = schema;
  let found: JsonSchema[] = [own];
  const named = $ref ? root.$defs?.[$ref.replace("#/$defs/", "")] : undefined;
  for (const each of [...(named ? [named] : []), ...(allOf ?? [])])
    found = joined(found, variantsOf(root, each));
  for (const choice of [anyOf, oneOf]) {
    if (choice)
      found = joined(
        found,
        choice.flatMap((each) => variantsOf(root, each)),
      );
  }
  return found;
}

function joined(ones: JsonSchema[], others: JsonSchema[]): JsonSchema[] {
  return ones.flatMap((one) =>
    others.map((other) => {
      const properties = { ...one.properties };
      for (const [name, field] of Object.entries(other.properties ?? {})) {
        properties[name] = { ...properties[name], ...field };
      }
      return {
        ...one,
        ...other,
        properties,
        required: [...(one.required ?? []), ...(other.required ?? [])],
      };
    }),
  );
}

/** Returns the forms that an object does not contradict, preferably those that know all of its fields. */
function formsOf(schemas: JsonSchema[], map: YAMLMap): JsonSchema[] {
  const possible = schemas.filter((each) => fits(each, map));
  const known = possible.filter((each) => map.items.every((pair) => knows(each, nameOf(pair))));
  return known.length ? known : possible;
}

/** Returns whether no value of an object contradicts a form, such as the `op` of another form. */
function fits(schema: JsonSchema, map: YAMLMap): boolean {
  return map.items.every((pair) => {
    const known = schema.properties?.[nameOf(pair)];
    const given = isScalar(pair.value) ? pair.value.value : null;
    return known?.const === undefined || given === known.const || given === HERE;
  });
}

function knows(schema: JsonSchema, name: string): boolean {
  return name === HERE || schema.additionalProperties !== false || name in (schema.properties ?? {});
}

function fieldsOf(schemas: JsonSchema[], map: YAMLMap): Suggestion[] {
  const there = new Set(map.items.map(nameOf));
  const forms = schemas.filter((each) => Object.keys(each.properties ?? {}).length);
  const named = (form: JsonSchema) => Object.entries(form.properties ?? {});
  // The field that distinguishes the forms comes before the fields of a single form.
  const isOpen =
    forms.length > 1 &&
    named(forms[0] as JsonSchema).some(([name, field]) => {
      const apart =
        field.const !== undefined && forms.every((form) => form.properties?.[name]?.const !== undefined);
      return apart && !there.has(name);
    });
  return forms
    .flatMap(named)
    .filter(([name]) => !there.has(name) && (!isOpen || forms.every((form) => form.properties?.[name])))
    .map(([name, field]) => ({
      label: name,
      apply: /^(object|array)$/.test(String(field.type)) ? `${name}:` : `${name}: `,
      detail: field.enum?.join(" | ") ?? String(field.type ?? ""),
      info: field.description ?? "",
      needed: forms.every((form) => form.required?.includes(name)),
    }));
}

function valuesOf(schemas: JsonSchema[], names: string[]): Suggestion[] {
  const known = schemas.flatMap((each) => [
    ...(each.const === undefined ? [] : [each.const]),
    ...(each.enum ?? []),
    ...(each.type === "boolean" ? [true, false] : []),
  ]);
  return [...known.map(String), ...names].map((label) => ({
    label,
    apply: label,
    detail: "",
    info: "",
    needed: false,
  }));
}
