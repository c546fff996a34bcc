// What the daemon answers, as far as the page reads it. Shapes and units: /docs.

import type { Filter } from "./run/filters";

export interface Deployment {
  name: string;
  source: string;
  engine: string;
  task: string;
  state: "cold" | "downloading" | "loading" | "ready" | "failed";
  memory_bytes: number | null;
  error: string | null;
  aliases: string[];
  context_length: number | null;
  description: string;
  calls: number;
  /** Numbers of the GPUs that it has a share of. */
  gpus: number[];
  /** Its processes, where it has several. */
  replicas: Replica[];
}

export interface Replica {
  source: string;
  engine: string;
  state: Deployment["state"];
  pid: number | null;
  memory_bytes: number | null;
  error: string | null;
  calls: number;
  starts: number;
  crashes: number;
}

/** A name to ask for; `alias_of`: what it means, if it has no model of its own. */
export interface ServedModel {
  id: string;
  kind: "model" | "app";
  capabilities: string[];
  alias_of: string | null;
}

export interface Store {
  id: string;
  name: string;
  description: string;
  folder: string | null;
  source: string | string[] | null;
  app: boolean;
  embedding_model: string;
  /** What its vectors were measured to be worth; null: what their model's profile says. */
  vector_weight: number | null;
  /** Whether passages that name the same are linked, and searches follow that. */
  links: boolean;
  /** How it is searched, by it and by its app: `steps` is `off`, `auto` or a number. */
  search: Record<string, unknown>;
  file_counts: { in_progress: number; completed: number; failed: number; cancelled: number; total: number };
  problem: string | null;
  skipped: Record<string, number>;
  usage_bytes: number;
}

export interface StoreFile {
  id: string;
  filename: string;
  bytes: number;
  status: "in_progress" | "completed" | "failed" | "cancelled";
  error: string | null;
  created_at: number;
}

export interface Problem {
  name: string;
  place: string;
  reason: string;
}

export interface Status {
  version: string;
  home: string;
  url: string;
  models: Deployment[];
  stores: Store[];
  apps: string[];
  recommended: { name: string; size_gb: number } | null;
  problems: Problem[];
  small_model: { names: string[]; apps: string[]; hint: string; fetching: boolean } | null;
}

export interface App {
  name: string;
  title: string;
  description: string;
  kind: "store" | "flow" | "agent";
  version: number;
  input_schema: Schema | null;
}

export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: unknown[];
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
}

/** What the run waits for: an approval, or something that a person has to say. */
export interface Question {
  id: string;
  kind: string;
  name: string;
  message: string;
  arguments: Record<string, unknown>;
  answer_schema: Schema | null;
}

export interface Session {
  id: string;
  app: string;
  name: string;
  title: string;
  metadata: Record<string, unknown>;
  created_at: number;
  updated_at: number;
}

export interface Place {
  page?: number | null;
  line?: number | null;
  heading?: string[];
  row?: number | null;
  start?: number;
  end?: number;
  sheet?: string | null;
  cell?: string | null;
  seconds?: number | null;
  symbol?: string | null;
}

export interface Passage {
  rank: number;
  score: number;
  text: string;
  file_id: string;
  filename: string;
  place: Place;
  store: string;
  /** The characters that the answer quotes: of `text`, from and to. */
  quote?: [number, number] | null;
}

export interface Run {
  id: string;
  kind: string;
  name: string;
  status: "queued" | "running" | "waiting" | "completed" | "failed" | "cancelled";
  created_at: number;
  finished_at: number | null;
  error: { message: string } | null;
  usage: Usage | null;
}

export interface TraceStep {
  path: string;
  kind: string;
  status: "completed" | "failed" | "skipped";
  attempt: number;
  input: unknown;
  output: unknown;
  error: Record<string, unknown> | null;
  milliseconds: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number | null;
}

export interface AppVersion {
  version: number;
  digest: string;
  note: string;
  created_by: string;
  created_at: number;
  current: boolean;
  spec: Record<string, unknown>;
}

export interface Prompt {
  id: string;
  name: string;
  version: number;
  title: string;
  description: string;
  arguments: { name: string; description?: string; required?: boolean }[];
  messages: { role: string; content: string }[];
  examples: { user: string; assistant: string }[];
  created_at: number;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  cost: number | null;
}

export interface Key {
  id: string;
  name: string;
  scopes: string[];
  hint: string;
  created_at: number;
  /** What it may use at most, by the names of the daemon. */
  limits: Record<string, number>;
  /** Which files of a store it reads, by the name or id of the store or `*`. */
  filters: Record<string, Filter>;
  /** Of somebody who signs in: who says so, and as whom. */
  issuer: string;
  subject: string;
}

export type Part =
  | { type: "text"; text: string }
  | { type: "image_url"; image_url: { url: string } }
  | { type: string };

export type Content = string | Part[];
