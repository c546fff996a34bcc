// What the daemon answers. Generated from its OpenAPI document by scripts/page-types; do not edit.

/**
 * An adapter of the model `base`.
 *
 * `state`: `cold` until its base is loaded, `ready`, `failed` if the base runs without it, `orphaned` if
 * there is no base any more. `rank`, `alpha` and `targets` are those of its files.
 */
export interface Adapter {
  name: string;
  base: string;
  kind: string;
  scale: number;
  state: "cold" | "ready" | "failed" | "orphaned";
  engine: string | null;
  rank: number | null;
  alpha: number | null;
  targets: string[];
  trained_on: string;
  bytes: number;
  sha256: string;
  configured: boolean;
  created_at: number;
}

/**
 * An app; its name is also a model name, and its `id` always means it.
 *
 * `shared`: the name means it for every key; `owner`: the key whose name it is otherwise, as an admin sees it.
 *
 * `kind` is `store`, `flow` or `agent`; `version` is 0 for one that was not deployed. `limits` hold
 * whoever calls it.
 */
export interface App {
  name: string;
  title: string;
  description: string;
  kind: string;
  version: number;
  input_schema: Record<string, unknown> | null;
  output_schema: Record<string, unknown> | null;
  limits: Record<string, number> | null;
  id: string;
  shared: boolean;
  owner: string | null;
}

/**
 * One version of a deployed app. `current`: it is the one that answers.
 *
 * `warnings`: what it still needs, such as functions that a client must serve; only in the response to a deployment.
 */
export interface AppVersion {
  id: string;
  name: string;
  version: number;
  digest: string;
  note: string;
  created_by: string;
  created_at: number;
  current: boolean;
  spec: Record<string, unknown>;
  warnings: string[];
}

/** A file that a run made; its bytes are at `link`. */
export interface Artifact {
  id: string;
  name: string;
  media_type: string;
  bytes: number;
  link: string;
}

/** A batch. Times in seconds since 1970; `run_id` is ours: the run whose events report progress. */
export interface Batch {
  id: string;
  object: "batch";
  endpoint: string;
  model: string | null;
  errors: OpenAIList_BatchProblem_ | null;
  input_file_id: string;
  completion_window: string;
  status: "validating" | "failed" | "in_progress" | "finalizing" | "completed" | "expired" | "cancelling" | "cancelled";
  output_file_id: string | null;
  error_file_id: string | null;
  created_at: number;
  in_progress_at: number | null;
  expires_at: number;
  finalizing_at: number | null;
  completed_at: number | null;
  failed_at: number | null;
  expired_at: number | null;
  cancelling_at: number | null;
  cancelled_at: number | null;
  request_counts: RequestCounts;
  usage: BatchUsage;
  metadata: Record<string, string> | null;
  run_id: string;
}

/** What is wrong with a file, at which line of it if it is one. */
export interface BatchProblem {
  code: string;
  message: string;
  param: string | null;
  line: number | null;
}

/** Tokens of all answers so far. */
export interface BatchUsage {
  input_tokens: number;
  input_tokens_details: InputDetails;
  output_tokens: number;
  output_tokens_details: OutputDetails;
  total_tokens: number;
}

/**
 * A canary, see `CanaryRequest`; the other side is what the `alias` meant when it was set.
 *
 * `status` is `running` until it is `promoted` or `rolled_back`, for a `reason`. `waits_for`: what is
 * missing for its promotion. `key`: who set it, and in whose name answers are judged. Times in seconds since 1970.
 */
export interface Canary {
  id: string;
  alias: string;
  status: "running" | "promoted" | "rolled_back";
  weight: number;
  keys: string[];
  sticky: "session" | "caller" | "request";
  sample: number;
  eval: string | null;
  promote: Record<string, unknown> | null;
  rollback: Record<string, unknown> | null;
  baseline: CanarySide;
  canary: CanarySide;
  waits_for: string[];
  reason: string | null;
  key: string;
  created_at: number;
  ended_at: number | null;
  journal: CanaryEntry[];
}

/** One entry of the journal. `by` is the id of a key; `None`: the rule. */
export interface CanaryEntry {
  at: number;
  by: string | null;
  action: "set" | "promoted" | "rolled_back";
  reason: string;
  figures: Record<string, unknown>;
}

/**
 * What was counted of a side: calls that ended, `errors` of the side's own among them, tokens, and of the
 * `samples` that were judged the mean score from 0 to 1. `unjudged`: answers whose judge failed.
 */
export interface CanarySide {
  target: string;
  calls: number;
  errors: number;
  error_rate: number | null;
  milliseconds: number | null;
  tokens: number;
  samples: number;
  score: number | null;
  unjudged: number;
}

/** A chunk and where it stands. */
export interface Chunk {
  text: string;
  place: Place;
}

/**
 * A group with how far it is. `waiting` files of the store are not in it yet; `errors` says of files why they
 * cannot be in it, as (name, sentence).
 */
export interface ChunkGroup {
  name: string;
  parent: string;
  chunking: Record<string, unknown>;
  embedding_model: string;
  completed: number;
  failed: number;
  waiting: number;
  chunks: number;
  errors: [string, string][];
}

/** A chunker: sizes in columns (a CJK character takes two); `formats` are the ends of names it is `auto` for. */
export interface Chunker {
  name: string;
  description: string;
  size: number;
  overlap: number;
  formats: string[];
}

/**
 * A daemon on this database, `here` the one that answers. `jobs` is the number of processes that it has started
 * for models, trainings and documents, `runs` that of durable runs that it holds. `seen_at`: when it was heard of
 * last.
 */
export interface ClusterDaemon {
  id: string;
  name: string;
  url: string;
  version: string;
  started_at: number;
  seen_at: number;
  here: boolean;
  jobs: number;
  runs: number;
}

/**
 * A process of the model or training `name`: `queued` for a `reason`, `starting` or `running`. `job` is
 * what its scheduler calls it, `daemon` the id of the daemon whose it is.
 */
export interface ClusterJob {
  name: string;
  launcher: string;
  job: string;
  state: "queued" | "starting" | "running";
  node: string;
  reason: string;
  ends_at: number | null;
  daemon: string;
}

/**
 * The nodes of a launcher, of so many in `total`; `error` says why they are not known. `drains`: whether they
 * can be drained.
 */
export interface ClusterLauncher {
  name: string;
  drains: boolean;
  nodes: ClusterNode[];
  total: number;
  error: string | null;
}

/**
 * A machine on which a launcher starts processes, by the name that its scheduler has for it.
 *
 * `detail` is the scheduler's own word for the state, `reason` why nothing is started there. `…_used` is what is
 * taken, by whomever; `None` where the scheduler does not say.
 */
export interface ClusterNode {
  name: string;
  state: "idle" | "busy" | "draining" | "drained" | "down";
  address: string;
  detail: string;
  reason: string;
  cpus: number;
  cpus_used: number | null;
  memory_mb: number;
  memory_used_mb: number | null;
  gpus: number;
  gpus_used: number | null;
  gpu_types: string[];
  partitions: string[];
}

/** All of it at one moment. */
export interface ClusterStatus {
  daemons: ClusterDaemon[];
  launchers: ClusterLauncher[];
  jobs: ClusterJob[];
}

/**
 * A guard of the configuration. `on`: what it is around, `*` for everything. `detects`: the kinds of things
 * that it looks for; words and patterns of the operator are `word` and `pattern`.
 */
export interface ConfiguredGuard {
  name: string;
  on: string[];
  detects: string[];
  where: string[];
  action: string;
  on_error: string;
}

/** A container. Times in seconds since 1970. */
export interface Container {
  id: string;
  object: "container";
  name: string;
  status: "active";
  created_at: number;
  last_active_at: number;
  expires_after: ContainerExpiry;
  memory_limit: "1g" | "4g" | "16g" | "64g" | null;
  network_policy: NetworkPolicy;
}

/** How long a container is kept after its last use. */
export interface ContainerExpiry {
  anchor: "last_active_at";
  minutes: number;
}

/** A file of a container; `path` is where code finds it. */
export interface ContainerFileObject {
  id: string;
  object: "container.file";
  container_id: string;
  path: string;
  bytes: number;
  source: "user" | "assistant";
  created_at: number;
}

/** How many items a criterion passed. `mean` and `standard_error` of its scores are ours. */
export interface CriterionResult {
  testing_criteria: string;
  passed: number;
  failed: number;
  mean: number | null;
  standard_error: number | null;
}

/** What one strategy makes of the document: its first chunks, how many there are, their lengths in characters. */
export interface Cut {
  strategy: Record<string, unknown>;
  total: number;
  shortest: number;
  longest: number;
  chunks: Chunk[];
}

/**
 * What a recipe must know of the examples. Lengths in tokens, of whole conversations as the template writes them.
 *
 * `typical` is the length that 95 of 100 examples do not exceed. `measured` is how many examples were really
 * told in tokens; the others are estimated from their characters.
 */
export interface DataFacts {
  examples: number;
  tokens: number;
  longest: number;
  typical: number;
  validation: number;
  measured: number;
}

/**
 * A model on an engine. Times in seconds since 1970; `memory_bytes` is what its process holds.
 *
 * `calls` wait for it or are being answered; `starts` and `crashes` are counted since the daemon started.
 * With several `replicas` each number is their sum. `gpus` are the numbers of those that it has a share of.
 * `answers`, of one chat model: whether it answers from passages in its own words (`write`) or by quotation, as
 * its configuration or its test says; null until it was tested.
 */
export interface Deployment {
  name: string;
  source: string;
  engine: string;
  task: string;
  state: "cold" | "downloading" | "loading" | "ready" | "failed";
  pid: number | null;
  memory_bytes: number | null;
  error: string | null;
  aliases: string[];
  loaded_at: number | null;
  last_used_at: number | null;
  context_length: number | null;
  dimensions: number | null;
  description: string;
  pin: boolean;
  keep_alive: number | null;
  calls: number;
  starts: number;
  crashes: number;
  replicas: Replica[];
  gpus: number[];
  answers: "write" | "quote" | null;
}

/**
 * What draining a node does: models in `moves` are started elsewhere, then ended there; `stays` works on until
 * it ends by itself.
 */
export interface DrainedNode {
  launcher: string;
  node: ClusterNode;
  moves: string[];
  stays: string[];
  dry_run: boolean;
}

/** Bytes by what they are for; per GPU where there are several. `available` is what models may have. */
export interface Estimate {
  device: "cpu" | "gpu";
  weights: number;
  cache: number;
  other: number;
  total: number;
  available: number;
}

/** Items that are done, by how they did. */
export interface EvalCounts {
  total: number;
  passed: number;
  failed: number;
  errored: number;
}

/** What went wrong. */
export interface EvalError {
  code: string;
  message: string;
}

/** What is tested: the form of the items, and the graders. */
export interface EvalObject {
  object: "eval";
  id: string;
  name: string;
  created_at: number;
  data_source_config: Record<string, unknown>;
  testing_criteria: Record<string, unknown>[];
  metadata: Record<string, string>;
}

/**
 * What a search would take, by a dry run: `asked` items in all, `judged` calls of judges, and `trained`
 * models.
 *
 * `settings` are those of the first trials.
 */
export interface EvalPlan {
  trials: number;
  items: number;
  asked: number;
  judged: number;
  trained: number;
  settings: Record<string, unknown>[];
}

/**
 * A run. `items`, `run_id` (the durable run with its events), `search_id` and `settings` (of a trial),
 * `score` with `standard_error`, `cost` and `seconds` (of all items, one after another) are ours.
 */
export interface EvalRun {
  object: "eval.run";
  id: string;
  eval_id: string;
  name: string;
  status: "queued" | "in_progress" | "completed" | "canceled" | "failed";
  model: string;
  created_at: number;
  finished_at: number | null;
  data_source: Record<string, unknown>;
  error: EvalError | null;
  metadata: Record<string, string>;
  per_model_usage: ModelUsage[];
  per_testing_criteria_results: CriterionResult[];
  report_url: string;
  result_counts: EvalCounts;
  items: number;
  run_id: string;
  search_id: string | null;
  settings: Record<string, unknown> | null;
  score: number | null;
  standard_error: number | null;
  cost: number | null;
  seconds: number;
}

/**
 * A search over settings. `trials` stand with the best first; `best` is its id once the search has ended.
 *
 * `spec` has what was asked for; `items` is how many there are, `run_id` the durable run with its events.
 */
export interface EvalSearch {
  id: string;
  eval_id: string;
  run_id: string;
  name: string;
  status: string;
  created_at: number;
  finished_at: number | null;
  items: number;
  spec: Record<string, unknown>;
  best: string | null;
  error: EvalError | null;
  trials: Trial[];
  object: string;
}

/** What is asked and what is answered, as written. */
export interface Example {
  user: string;
  assistant: string;
}

/** A piece of a file: `chunk` is its number in searches, `number` the one in its file and group, from 0. */
export interface FileChunk {
  chunk: number;
  number: number;
  text: string;
  place: Place;
}

/** How many files are in which state. */
export interface FileCounts {
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  total: number;
}

/**
 * A job. `run_id`, `step`, `total_steps`, `recipe`, `app`, `store`, `evaluation` and `cost` are
 * ours; the recipe is there once the files are checked. `cost`: US dollars of one that a provider trained, where
 * its price is known.
 */
export interface FineTuningJob {
  object: "fine_tuning.job";
  id: string;
  created_at: number;
  finished_at: number | null;
  estimated_finish: number | null;
  model: string;
  fine_tuned_model: string | null;
  organization_id: string;
  status: "validating_files" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
  training_file: string;
  validation_file: string | null;
  result_files: string[];
  trained_tokens: number | null;
  hyperparameters: Record<string, unknown>;
  method: Record<string, unknown>;
  integrations: unknown[];
  seed: number;
  suffix: string | null;
  metadata: Record<string, string>;
  error: JobError | null;
  run_id: string;
  step: number | null;
  total_steps: number | null;
  recipe: Record<string, unknown> | null;
  cost: number | null;
  app: string | null;
  store: string | null;
  evaluation: RankingEvaluation | null;
}

/** Of the tokens that were read, those that were not computed again. */
export interface InputDetails {
  cached_tokens: number;
}

/**
 * A state of the model that training can continue from. `served` is ours: whether its name can be called, which
 * holds for the one that became the result, and for the other one that was kept on the disk.
 */
export interface JobCheckpoint {
  object: "fine_tuning.job.checkpoint";
  id: string;
  created_at: number;
  fine_tuned_model_checkpoint: string;
  fine_tuning_job_id: string;
  step_number: number;
  metrics: Record<string, number>;
  served: boolean;
}

/** Why a job failed. */
export interface JobError {
  code: string;
  message: string;
  param: string | null;
}

/** Something that happened: a sentence, or the measurements of a step in `data`. */
export interface JobEvent {
  object: "fine_tuning.job.event";
  id: string;
  created_at: number;
  level: "info" | "warn" | "error";
  message: string;
  type: "message" | "metrics";
  data: Record<string, unknown>;
}

/**
 * A key without its secret; `hint` is the last four characters of it. `limits` are those that are set.
 *
 * `filters`: which files of a store it may read, by the name or id of the store. `stored_bytes`: what it keeps on
 * the disk: files, parts of uploads, what its stores mirror, and artifacts. Who signs in by an issuer is listed too,
 * from the first token on, with `issuer` and `subject`; `signed_in_at` is when the newest token was issued,
 * `blocked_at` since when they are kept out.
 */
export interface Key {
  id: string;
  name: string;
  scopes: string[];
  hint: string;
  created_at: number;
  limits: Record<string, number>;
  filters: Record<string, Record<string, unknown>>;
  stored_bytes: number;
  issuer: string;
  subject: string;
  signed_in_at: number | null;
  blocked_at: number | null;
}

/** Why a file could not be indexed. */
export interface LastError {
  code: "server_error" | "unsupported_file" | "invalid_file";
  message: string;
}

/**
 * A passage, by its `chunk`, that names `term`, as the one that was asked about does; `kind`: `name`,
 * `code`, `reference` or `file`.
 */
export interface LinkedPassage {
  chunk: number;
  term: string;
  kind: string;
  text: string;
  file_id: string;
  filename: string;
  place: Place;
}

/** What a prompt takes. All values are text. */
export interface McpArgument {
  name: string;
  title: string;
  description: string;
  required: boolean;
}

/**
 * What a server says of itself when it is reached: its words, which are text whatever they ask of a reader.
 *
 * `protocol` is the revision of MCP that both speak; `capabilities` such as `tools` and `tools.listChanged`.
 */
export interface McpCard {
  title: string;
  version: string;
  protocol: string;
  instructions: string;
  capabilities: string[];
}

/** What stands in a resource: a `text`, or bytes as base64 in `data`. */
export interface McpContent {
  uri: string;
  mime_type: string;
  text: string | null;
  data: string | null;
}

/** A text with places, written by the server. */
export interface McpPrompt {
  name: string;
  title: string;
  description: string;
  arguments: McpArgument[];
}

/**
 * A message of a prompt that was filled in. `data` is base64 where it is a picture or a sound; `text` names
 * that with its type and size.
 */
export interface McpPromptMessage {
  role: string;
  text: string;
  mime_type: string;
  data: string | null;
}

/** Something to read at `uri`. `template`: the braces in it stand for what is asked for. `size` in bytes. */
export interface McpResource {
  uri: string;
  name: string;
  title: string;
  description: string;
  mime_type: string;
  size: number | null;
  template: boolean;
}

/** One server as it is shown. `env` and `headers` are names alone: their values may be secrets. */
export interface McpServer {
  name: string;
  command: string[];
  url: string;
  env: string[];
  headers: string[];
  state: string;
  error: string | null;
  tools: string[];
  restarts: number;
  configured: boolean;
  card: McpCard;
  reached_at: number | null;
}

/** A name to put into `model`. `kind`, `title`, `capabilities` and `labels` are ours. */
export interface Model {
  id: string;
  object: "model";
  created: number;
  owned_by: string;
  kind: string;
  title: string;
  description: string;
  capabilities: string[];
  labels: Record<string, unknown>;
  alias_of: string | null;
}

/** What one model was asked. `cost` in US dollars, null where no price is known; ours. */
export interface ModelUsage {
  model_name: string;
  invocation_count: number;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  total_tokens: number;
  cost: number | null;
}

/** What code may reach: nothing. */
export interface NetworkPolicy {
  type: "disabled";
}

export interface OpenAIList_BatchProblem_ {
  data: BatchProblem[];
  object: "list";
}

/** Of the tokens that were said, those of thoughts; not counted here. */
export interface OutputDetails {
  reasoning_tokens: number;
}

/**
 * What became of one item: what was asked and answered, and what each criterion gave it. `score` and `seconds`
 * are ours.
 */
export interface OutputItem {
  object: "eval.run.output_item";
  id: string;
  eval_id: string;
  run_id: string;
  created_at: number;
  status: "pass" | "fail" | "error";
  datasource_item_id: number;
  datasource_item: Record<string, unknown>;
  results: Record<string, unknown>[];
  sample: Record<string, unknown>;
  score: number;
  seconds: number;
}

/**
 * Where in a source a passage stands. Only what the format has is set.
 *
 * `page` and `line` count from 1; `start` and `end` are character offsets into the extracted text of
 * the file, `end` exclusive; `heading` is the path of headings above the passage, outermost first. A slide is a
 * page. `cell` is the range of a spreadsheet's `sheet` (`A2:C9`), or the number of a notebook's cell;
 * `seconds` count from the start of a recording; `symbol` names a definition in code (`Client.ask`) or a value
 * in JSON (`$.ports[2]`) or elements in XML (`/orders/order[2]`).
 */
export interface Place {
  page: number | null;
  line: number | null;
  heading: string[];
  row: number | null;
  start: number;
  end: number;
  sheet: string | null;
  cell: string | null;
  seconds: number | null;
  symbol: string | null;
}

/** What would run, and why; if it does not fit, `nearest` says what would. */
export interface Plan {
  model: string;
  hardware: string;
  engine: string;
  parameters: Record<string, unknown>;
  estimate: Estimate;
  fits: boolean;
  reasons: string[];
  nearest: string;
}

/**
 * An entry of a configuration that cannot work as it says. `place`: where that stands, as in
 * `models[0].source`.
 */
export interface Problem {
  name: string;
  place: string;
  reason: string;
}

/**
 * One version of a prompt. `origin` is where it was imported from, empty if it was written here; `portico` for
 * one that came with Portico.
 *
 * `id` always means this prompt; `shared`: its name means it for every key, `owner`: the key whose name it is
 * otherwise, as an admin sees it.
 */
export interface Prompt {
  id: string;
  name: string;
  version: number;
  shared: boolean;
  owner: string | null;
  title: string;
  description: string;
  arguments: PromptArgument[];
  messages: PromptMessage[];
  examples: Example[];
  cases: PromptTrial[];
  origin: string;
  created_at: number;
}

/** One argument. A required one has no `default`; `enum` lists what it may be, if it may not be anything. */
export interface PromptArgument {
  name: string;
  type: "string" | "integer" | "number" | "boolean";
  description: string;
  required: boolean;
  default: string | number | boolean | null;
  enum: (string | number | boolean)[];
}

/** A message; `{name}` in it stands for an argument, `{{` and `}}` for braces. */
export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** What an evaluation of the prompt asks: `arguments`, an `answer` that is right, what a right one `holds`. */
export interface PromptTrial {
  arguments: Record<string, unknown>;
  answer: string;
  holds: string;
}

/**
 * What a run waits for. Times in seconds since 1970; `answer_schema` is the JSON Schema of a value.
 *
 * `accepted`, `value`, `note`, `answered_by` and `answered_at` are the answer. `worker` is the client that
 * has taken a function, until `lease_expires`. `key` is the same when a run that was cut off asks the same again.
 */
export interface QuestionDescription {
  id: string;
  run: string;
  kind: "approval" | "function" | "input" | "chat";
  name: string;
  message: string;
  arguments: Record<string, unknown>;
  answer_schema: Record<string, unknown> | null;
  status: "pending" | "answered" | "expired" | "cancelled";
  created_at: number;
  expires_at: number;
  accepted: boolean | null;
  value: unknown;
  note: string | null;
  answered_by: string | null;
  answered_at: number | null;
  worker: string | null;
  lease_expires: number | null;
  key: string;
}

/** A model for search beside its base, on questions that were held back. `better`: by nDCG@10. */
export interface RankingEvaluation {
  questions: number;
  before: RankingMeasures;
  after: RankingMeasures;
  better: boolean;
}

/** How well a model ranks the passages that answer a question, from 0 to 1, over the questions held back. */
export interface RankingMeasures {
  ndcg_10: number;
  recall_5: number;
}

/** A model for a machine; sizes are downloads in GB, `device` is what it was chosen for. */
export interface Recommendation {
  name: string;
  source: string;
  size_gb: number;
  safetensors: string;
  safetensors_gb: number;
  licence: string;
  device: "gpu" | "cpu";
  reason: string;
}

/** One process of a model that has several; as in `DeploymentInfo`. */
export interface Replica {
  source: string;
  engine: string;
  state: "cold" | "downloading" | "loading" | "ready" | "failed";
  pid: number | null;
  memory_bytes: number | null;
  error: string | null;
  calls: number;
  starts: number;
  crashes: number;
}

/** Requests of the file; those neither completed nor failed were not asked, or not yet. */
export interface RequestCounts {
  total: number;
  completed: number;
  failed: number;
}

/** One execution. Times in seconds since 1970; `error` is in OpenAI's shape, `last_event` a number. */
export interface RunDescription {
  id: string;
  kind: string;
  name: string;
  status: "queued" | "running" | "waiting" | "completed" | "failed" | "cancelled";
  created_at: number;
  finished_at: number | null;
  error: Record<string, unknown> | null;
  usage: RunTokens | null;
  last_event: number;
}

/** Tokens of one run; `cost` in US dollars, null where no price is known. */
export interface RunTokens {
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost: number | null;
}

/** The steps of a run, in the order in which they ended, and what they used together. */
export interface RunTrace {
  run: string;
  usage: RunTokens;
  steps: TraceStep[];
}

/**
 * A schedule: an `app` that is called with `input`, or a `store` that syncs, at the times of `cron` by the
 * clocks of `timezone`, or `every` so long.
 *
 * `missed`: what becomes of times at which no daemon ran; `overlap`: of those at which a run was under way.
 * `paused`: why it does not run; so many `failures` in a row as `pause_after` says pause it, 0 never does.
 * Times in seconds since 1970. `shared`: it is the operator's; `owner`: the key whose it is otherwise, `key`: in
 * whose name it runs, as an admin sees them.
 */
export interface Schedule {
  id: string;
  name: string;
  app: string | null;
  store: string | null;
  input: unknown;
  cron: string | null;
  every: string | null;
  timezone: string;
  missed: "skip" | "once" | "all";
  overlap: "skip" | "queue" | "allow";
  pause_after: number;
  paused: string | null;
  failures: number;
  next_at: number | null;
  created_at: number;
  updated_at: number;
  shared: boolean;
  owner: string | null;
  key: string | null;
}

/**
 * What came of a time: a `run` and its `status`, or why it was `skipped`.
 *
 * `cause`: it was `time`, it was `missed` and made up for, or somebody began it by `hand`. `status` is null
 * when the run is not kept any more; `error` is that of one that failed.
 */
export interface ScheduledRun {
  due_at: number;
  cause: "time" | "missed" | "hand";
  run: string | null;
  status: string | null;
  error: Record<string, unknown> | null;
  skipped: string | null;
}

/** One conversation with `app`. `name` is what its owner calls it; times in seconds since 1970. */
export interface Session {
  id: string;
  app: string;
  name: string;
  title: string;
  metadata: Record<string, unknown>;
  owner: string;
  created_at: number;
  updated_at: number;
}

/** One setting as `portico settings` shows it; `value` of a secret is masked. */
export interface Setting {
  name: string;
  value: unknown;
  origin: "flag" | "environment" | "file" | "default";
  doc: string;
}

/**
 * A skill. `shared`: its name means it for every key, `owner`: the key whose name it is otherwise, as an admin
 * sees it. Times in seconds since 1970.
 */
export interface Skill {
  id: string;
  object: "skill";
  name: string;
  description: string;
  default_version: string;
  latest_version: string;
  created_at: number;
  shared: boolean;
  owner: string | null;
}

/** A file of a version, by its path in the folder of the skill. */
export interface SkillFile {
  path: string;
  bytes: number;
  sha256: string;
}

/** One version; `front_matter` is that of its SKILL.md. */
export interface SkillVersion {
  id: string;
  object: "skill.version";
  skill_id: string;
  version: string;
  name: string;
  description: string;
  created_at: number;
  front_matter: Record<string, unknown>;
  files: SkillFile[];
}

/**
 * The tiny model that `default` means: its names, the apps that ask it themselves or through another app, and a
 * line that says what it is and how to get a better one.
 */
export interface SmallModel {
  names: string[];
  apps: string[];
  hint: string;
  fetching: boolean;
}

/**
 * What there is for this caller. `home` and `problems` are for admins only; `startup`: the runs that the
 * start began; `apps`: those of the folders it was started with, those of other stores, oldest first, then others.
 */
export interface Status {
  version: string;
  home: string;
  url: string;
  started_at: number;
  startup: string[];
  models: Deployment[];
  stores: Store[];
  apps: string[];
  recommended: Recommendation | null;
  problems: Problem[];
  small_model: SmallModel | null;
}

/** A store. `name` is what it is called by: its own name, or its id where that is taken. Times since 1970. */
export interface Store {
  id: string;
  name: string;
  description: string;
  folder: string | null;
  source: string | string[] | null;
  keep_removed: boolean;
  search: Record<string, unknown>;
  paused: boolean;
  app: boolean;
  answers: string;
  embedding_model: string;
  next_embedding_model: string | null;
  vector_weight: number | null;
  links: boolean;
  file_counts: FileCounts;
  problem: string | null;
  skipped: Record<string, number>;
  usage_bytes: number;
  created_at: number;
}

/** A file in a store. `error` says why it could not be indexed; times in seconds since 1970. */
export interface StoreFile {
  id: string;
  filename: string;
  bytes: number;
  status: "in_progress" | "completed" | "failed" | "cancelled";
  error: string | null;
  usage_bytes: number;
  attributes: Record<string, string | number | boolean>;
  created_at: number;
}

/**
 * A tool, the JSON Schema of its arguments, what a call may do, whether somebody is asked before it, the group that
 * it is in, what a call costs in US dollars, and where the tool comes from.
 */
export interface Tool {
  name: string;
  title: string;
  description: string;
  input_schema: Record<string, unknown>;
  output_schema: Record<string, unknown> | null;
  read_only: boolean;
  destructive: boolean;
  needs_approval: boolean;
  group: string;
  cost: number;
  source: string;
}

/** What a tool answered: text for a model, the same as JSON where there is a structure, and files it made. */
export interface ToolResult {
  text: string;
  structured: Record<string, unknown> | null;
  is_error: boolean;
  artifacts: Artifact[];
}

/**
 * Calls of one operation on one name that one model answered; `milliseconds` is the mean duration, `cost` in US
 * dollars for the calls whose price is known, null if none is.
 *
 * `name` is what was asked for. `model` is the model that answered, by its own name: behind an alias, or as a
 * fallback. It is the one that was asked if all of them failed, and empty for apps and stores and where it is not
 * known, as of calls that were made before it was kept.
 */
export interface Total {
  name: string;
  operation: string;
  model: string;
  calls: number;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost: number | null;
  milliseconds: number;
}

/**
 * A finished step. `input` is cut to what a person looks at; times in seconds since 1970, `cost` in US dollars,
 * null where no price is known.
 */
export interface TraceStep {
  path: string;
  kind: string;
  status: "completed" | "failed" | "skipped";
  attempt: number;
  input: unknown;
  output: unknown;
  error: Record<string, unknown> | null;
  started_at: number;
  milliseconds: number;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  hit: boolean;
  cost: number | null;
}

/**
 * One combination of settings, which is a run of the evaluation by its `id`.
 *
 * `status`: `queued`, `in_progress`, `completed`, `stopped` (given up for better ones), `canceled`,
 * `failed`. `score` is the mean of the objective over the items that are `done`; `cost` in US dollars;
 * `seconds` those of all items, one after another.
 */
export interface Trial {
  id: string;
  settings: Record<string, unknown>;
  status: string;
  score: number | null;
  standard_error: number | null;
  done: number;
  passed: number;
  failed: number;
  errored: number;
  tokens: number;
  cost: number | null;
  seconds: number;
  error: EvalError | null;
}

/**
 * What a job would do. `recipe` has each setting, and under `reasons` why it is so; `command` starts the
 * training, with `python` for the interpreter of its environment and `ORDER` for the file that describes it.
 */
export interface TuningPlan {
  model: string;
  parameters: number;
  data: DataFacts;
  warnings: string[];
  recipe: Record<string, unknown>;
  command: string[];
}

/**
 * What was used in one hour or day, which begins `at`, in seconds since 1970.
 *
 * `series`: the model, the id of the key, or the name that was asked for, and `name`: what it is called. Both are
 * null of those together that have few calls.
 */
export interface UsagePoint {
  at: number;
  series: string | null;
  name: string | null;
  calls: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number | null;
}

/** A file in a vector store. `filename` is ours. */
export interface VectorStoreFile {
  id: string;
  object: "vector_store.file";
  usage_bytes: number;
  created_at: number;
  vector_store_id: string;
  status: "in_progress" | "completed" | "cancelled" | "failed";
  last_error: LastError | null;
  chunking_strategy: Record<string, unknown>;
  attributes: Record<string, string | number | boolean>;
  filename: string;
}

/**
 * An event for a webhook; `id` is its `webhook-id`, the same in each attempt.
 *
 * Times in seconds since 1970. `next_at` while it is `pending`; `last_status` and `last_error` are those of
 * the last attempt.
 */
export interface WebhookDelivery {
  id: string;
  webhook_id: string;
  event_type: string;
  state: "pending" | "delivered" | "failed";
  attempts: number;
  next_at: number | null;
  last_status: number | null;
  last_error: string | null;
  created_at: number;
  delivered_at: number | null;
  payload: Record<string, unknown>;
}

/** A webhook. `disabled` is ours: why nothing is sent to it any more. */
export interface WebhookEndpoint {
  id: string;
  object: "webhook_endpoint";
  created_at: number;
  updated_at: number;
  event_types: string[];
  name: string;
  url: string;
  signing_secret_hint: string;
  disabled: string | null;
}

/**
 * `by`: what was shown. `role`: what the token of somebody who signed in gives. `expires_at`: when that
 * expires, in seconds since 1970.
 */
export interface Whoami {
  id: string;
  name: string;
  by: "nothing" | "key" | "token" | "page";
  role: string;
  scopes: string[];
  limits: Record<string, number>;
  issuer: string;
  subject: string;
  expires_at: number | null;
}
