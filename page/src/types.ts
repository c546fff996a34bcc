// What the daemon answers. Generated from its OpenAPI document by scripts/page-types; do not edit.

/**
 * An adapter of the model `base`.
 *
 * `state`: `cold` until the base is loaded, `ready`, `failed` if the base runs without the adapter,
 * `orphaned` if the base no longer exists. `rank`, `alpha` and `targets` are read from the adapter's files.
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
 * An app. Its name is also a model name; its `id` is always unambiguous.
 *
 * `shared`: the name refers to this app for every key. Otherwise the name is valid only for the key `owner`,
 * which only admins can see.
 *
 * `kind` is `store`, `flow` or `agent`. `version` is 0 for an app that was not deployed. `limits` apply
 * to all callers.
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
 * A version of a deployed app. `current`: calls are answered by this version.
 *
 * `warnings`: what the app still needs, such as functions that a client must serve. Only the response to a
 * deployment contains them.
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

/** A proposal that was applied: the new version of the app is the canary of the `alias`. */
export interface AppliedProposal {
  alias: string;
  target: string;
  weight: number;
}

/** A file that a run has created. Its content can be downloaded from `link`. */
export interface Artifact {
  id: string;
  name: string;
  media_type: string;
  bytes: number;
  link: string;
}

/** An artifact together with the run that created it, and the time of creation in seconds since 1970. */
export interface ArtifactRecord {
  id: string;
  name: string;
  media_type: string;
  bytes: number;
  link: string;
  run: string;
  created_at: number;
}

/**
 * A batch. Times are in seconds since 1970. `run_id` is Portico's own field: the run whose events report
 * progress.
 */
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

/** An error in an input file; `line` is set if the error belongs to a single line. */
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
 * A canary; see `CanaryRequest`. The other side is the alias's target at the time when the canary was set.
 *
 * `status` is `running` until the canary is `promoted` or `rolled_back`; `reason` says why. `waits_for`:
 * the conditions for promotion that are not met yet. A canary with `min_confidence` keeps running after its
 * promotion, with all calls. `key`: the key that set the canary, on whose behalf answers
 * are graded. Times are in seconds since 1970.
 */
export interface Canary {
  id: string;
  alias: string;
  status: "running" | "promoted" | "rolled_back";
  weight: number;
  keys: string[];
  sticky: "session" | "caller" | "request";
  min_confidence: number | null;
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

/** An entry of the journal. `by` is the id of the key that acted; `None` if a rule acted. */
export interface CanaryEntry {
  at: number;
  by: string | null;
  action: "set" | "promoted" | "rolled_back";
  reason: string;
  figures: Record<string, unknown>;
}

/**
 * Statistics of one side: `calls` that have finished, `errors` that the side itself caused, tokens, and
 * `score`, the mean from 0 to 1 over the `samples` that were graded. `unjudged`: answers that could not be
 * graded, because the judge failed.
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

/** The result of checking an input file: the number of requests, their model, and the errors. */
export interface CheckedBatch {
  total: number;
  model: string | null;
  errors: BatchProblem[];
}

/** A chunk and its position. */
export interface Chunk {
  text: string;
  place: Place;
}

/**
 * A chunk group of a store and its progress. `waiting`: number of files in the store that are not in the group
 * yet. `errors`: files that cannot be added, as (name, message).
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

/**
 * A chunker. Sizes are in columns (a CJK character counts as two). `formats`: the file suffixes for which
 * `auto` uses this chunker.
 */
export interface Chunker {
  name: string;
  description: string;
  size: number;
  overlap: number;
  formats: string[];
}

/**
 * A daemon that uses this database; `here` marks the daemon that answered the request. `jobs` is the number of
 * processes that the daemon has started for models, training jobs and documents, `runs` the number of its
 * durable runs. `seen_at`: when the daemon was last seen.
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
 * A process that runs the model or training job `name`. `state`: `queued` (see `reason`), `starting` or
 * `running`. `job` is the process's id in the scheduler, `daemon` the id of the daemon that owns it.
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
 * A launcher and its nodes; `total` is their number. `error` says why the nodes are unknown. `drains`:
 * whether the launcher's nodes can be drained.
 */
export interface ClusterLauncher {
  name: string;
  drains: boolean;
  nodes: ClusterNode[];
  total: number;
  error: string | null;
}

/**
 * A machine on which a launcher starts processes. `name` is the scheduler's name for the machine.
 *
 * `detail` is the scheduler's own term for the state; `reason` says why no work is started on the machine.
 * `…_used` is the amount that all users together use; `None` if the scheduler does not report it.
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

/** The state of the cluster at one time. */
export interface ClusterStatus {
  daemons: ClusterDaemon[];
  launchers: ClusterLauncher[];
  jobs: ClusterJob[];
}

/**
 * A configured guard. `on`: what the guard protects, `*` for everything. `detects`: the kinds of content
 * that the guard looks for; `word` and `pattern` stand for the operator's own words and patterns.
 */
export interface ConfiguredGuard {
  name: string;
  on: string[];
  detects: string[];
  where: string[];
  action: string;
  on_error: string;
}

/**
 * What an OAuth client asks a person for. `document`: the address of the client's metadata document, empty for a
 * registered client. `redirect`: where the browser returns to. `audience`: where the access is valid.
 *
 * If the request is invalid, only `error` and `location` are set: the reason, and the address at which the client
 * learns it.
 */
export interface Consent {
  name: string;
  document: string;
  redirect: string;
  audience: string;
  scopes: string[];
  error: string;
  location: string;
}

/** The answer of a person to an OAuth client. `location`: the address to which the browser must return. */
export interface ConsentAnswer {
  location: string;
}

/** A container. Times are in seconds since 1970. */
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

/** How long a container is kept after it was last used. */
export interface ContainerExpiry {
  anchor: "last_active_at";
  minutes: number;
}

/** A file in a container; `path` is the file's location as code in the container sees it. */
export interface ContainerFileObject {
  id: string;
  object: "container.file";
  container_id: string;
  path: string;
  bytes: number;
  source: "user" | "assistant";
  created_at: number;
}

/**
 * How many items passed a criterion. `mean` and `standard_error` of the criterion's scores are Portico's
 * additions.
 */
export interface CriterionResult {
  testing_criteria: string;
  passed: number;
  failed: number;
  mean: number | null;
  standard_error: number | null;
}

/**
 * The result of splitting a document with one strategy: the first chunks, and the number and lengths (in
 * characters) of all chunks.
 */
export interface Cut {
  strategy: Record<string, unknown>;
  total: number;
  shortest: number;
  longest: number;
  chunks: Chunk[];
}

/**
 * The data about the examples that the choice of a recipe needs. Lengths are in tokens of whole conversations, as
 * the template formats them.
 *
 * 95 of 100 examples have at most `typical` tokens. `measured` is the number of examples whose tokens were
 * counted; the lengths of the other examples are estimated from their characters.
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
 * A model on an engine. Times are in seconds since 1970; `memory_bytes` is the memory that the model's process
 * uses.
 *
 * `calls` counts calls that wait or are being answered; `starts` and `crashes` are counted since the daemon
 * started. With several `replicas`, each of these numbers is the sum over the replicas. `gpus`: the numbers of
 * the GPUs that the model uses. `answers`, for a chat model: whether it answers from passages in its own words
 * (`write`) or by quotation (`quote`), as configured or as its test decided; null before the test.
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
 * The effect of draining a node. Models in `moves` are started on other nodes and then stopped on this node;
 * work in `stays` runs to completion.
 */
export interface DrainedNode {
  launcher: string;
  node: ClusterNode;
  moves: string[];
  stays: string[];
  dry_run: boolean;
}

/**
 * An engine. `state` is `built in` for engines that have no separate environment.
 *
 * `problem` says why an engine is broken, or why an absent engine cannot be installed on this machine. `built_at`
 * is in seconds since 1970.
 */
export interface Engine {
  name: string;
  state: string;
  version: string;
  python: string;
  packages: number;
  gigabytes: number;
  path: string;
  built_at: number | null;
  problem: string;
}

/** A parameter that models can set for an engine. `kind` is the type of its value. */
export interface EngineParameter {
  name: string;
  kind: string;
  doc: string;
}

/**
 * Memory in bytes by purpose, per GPU if the machine has several. `available` is the memory that models may
 * use.
 */
export interface Estimate {
  device: "cpu" | "gpu";
  weights: number;
  cache: number;
  other: number;
  total: number;
  available: number;
}

/** Numbers of finished items by outcome. */
export interface EvalCounts {
  total: number;
  passed: number;
  failed: number;
  errored: number;
}

/** An error of an evaluation run. */
export interface EvalError {
  code: string;
  message: string;
}

/** The definition of an evaluation: the schema of its items, and its graders. */
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
 * The cost of a search, computed without starting it: `asked` is the total number of items to answer, `judged`
 * the number of judge calls, and `trained` the number of models to train.
 *
 * `settings`: the settings of the first trials.
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
 * A run of an evaluation.
 *
 * Portico's additions are `items`; `run_id`, the durable run with its events; `search_id` and `settings` of a
 * trial; `score` with `standard_error`; `cost`; and `seconds`, the sum of the times of all items.
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
 * A search over settings. `trials` are sorted by score, best first; `best` is the id of the best trial once
 * the search has ended.
 *
 * `spec` is the requested search, `items` the number of items, `run_id` the durable run with the search's
 * events.
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

/** An example question and its answer, inserted verbatim. */
export interface Example {
  user: string;
  assistant: string;
}

/**
 * A version of a fact in long-term memory; `store` is the store that contains the fact.
 *
 * `span` is null if no words of the user support the text: a person wrote the text, or Portico stored it before it
 * recorded spans. A former version has `ended_at` and `reason`: `changed` by a person, `merged` with the same
 * statement of the user, `replaced` by a fact that contradicts it, or `reverted` by a person. Times
 * are in seconds since 1970.
 */
export interface Fact {
  id: string;
  store: string;
  text: string;
  source: FactSource;
  created_at: number;
  changed_at: number;
  span: FactSpan | null;
  ended_at: number | null;
  reason: "changed" | "merged" | "replaced" | "reverted" | null;
}

/** A fact, and its former versions, newest first. */
export interface FactHistory {
  fact: Fact;
  versions: Fact[];
}

/**
 * The origin of a fact: `agent` learned the fact in `run`.
 *
 * `session` is the id of the session, `app` its app and `name` its name. `message` is the number of the
 * message in that session, and `said` the text of the message. Each field is null if the object no longer exists.
 */
export interface FactSource {
  agent: string | null;
  app: string | null;
  name: string | null;
  run: string | null;
  session: string | null;
  message: number | null;
  said: string | null;
}

/**
 * The words of the user from which a fact was learnt, and their character range in the text of the message, see
 * `FactSource.said`.
 */
export interface FactSpan {
  words: string;
  start: number;
  end: number;
}

/**
 * A chunk of a file. `chunk` is its number in search results, `number` its number within its file and group,
 * from 0.
 */
export interface FileChunk {
  chunk: number;
  number: number;
  text: string;
  place: Place;
}

/** The number of files in each state. */
export interface FileCounts {
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  total: number;
}

/** The result of one check of an engine's environment. */
export interface Finding {
  check: string;
  ok: boolean;
  detail: string;
}

/**
 * A fine-tuning job.
 *
 * The status of a paused job is `queued`, because OpenAI's clients know no other status for it.
 *
 * `run_id`, `step`, `total_steps`, `recipe`, `paused`, `app`, `store`, `evaluation` and `cost` are
 * Portico's additions. The recipe is set once the files are checked. `cost` is in US dollars and is set if a
 * provider with a known price trains the job.
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
  status: "validating_files" | "queued" | "running" | "succeeded" | "failed" | "cancelled";
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
  paused: boolean;
  cost: number | null;
  app: string | null;
  store: string | null;
  evaluation: RankingEvaluation | null;
}

/**
 * A question that must keep its answer: text that `passage` quotes from `file`, any passage of `file`, or
 * `facts`.
 *
 * `passes` is true if the answer was among the hits of the last search.
 */
export interface GuardQuestion {
  id: string;
  question: string;
  file: string;
  passage: string;
  facts: string[];
  passes: boolean;
  created_at: number;
}

/** The results of the held-back cases: means per case. `cost` is in US dollars. */
export interface HeldBackFigures {
  score: number | null;
  seconds: number;
  tokens: number;
  cost: number | null;
}

/** The names of the prompts in an import, grouped by result. */
export interface ImportedPrompts {
  added: string[];
  changed: string[];
  unchanged: string[];
}

/**
 * An improvement of `version` of an `app`. Of its `cases`, the app answers `bad` badly; `diagnosed` of
 * these were used to name the `part` that fails, the others and all good cases are `held_back`.
 *
 * `baseline` are the figures of the held-back cases without a change. `run_id` is the durable run with the events.
 */
export interface ImprovementDescription {
  id: string;
  app: string;
  version: number;
  eval_id: string;
  run_id: string;
  status: string;
  created_at: number;
  finished_at: number | null;
  cases: number;
  bad: number | null;
  diagnosed: number | null;
  held_back: number | null;
  part: string | null;
  diagnosis: PartRepairs[];
  baseline: HeldBackFigures | null;
  proposals: Proposal[];
  error: EvalError | null;
}

/** Input tokens that were read from a cache. */
export interface InputDetails {
  cached_tokens: number;
}

/**
 * A state of the model from which training can continue.
 *
 * `served`, Portico's addition, is whether requests can use the checkpoint's name as a model. This is true for the
 * checkpoint that became the result, and for the other checkpoint kept on disk.
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

/** An event of a job: a message, or the measurements of a training step in `data`. */
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
 * A key without its secret. `hint`: the last four characters of the secret. `limits`: the limits that are set.
 *
 * `filters`: which files the key can read in each store, keyed by the store's name or id. `groups`: the groups of
 * the key at the sources of stores, as its newest token states them for a user who signs in. `stored_bytes`: the
 * size of the key's data on disk: files, parts of uploads, mirrors of its stores, and artifacts.
 *
 * Users who sign in through an issuer are listed as well, from their first token on, with `issuer` and `subject`.
 * `signed_in_at` is when the user's newest token was issued, `blocked_at` when the user was blocked.
 *
 * So is the access that people have granted to OAuth clients: `parent` is the id of the person's key, and `name`
 * the name of the client.
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
  parent: string;
  groups: string[];
}

/** Why a file could not be indexed. */
export interface LastError {
  code: "server_error" | "unsupported_file" | "invalid_file";
  message: string;
}

/**
 * A passage that mentions the same `term` as the requested passage. `chunk` is the passage's number; `kind`
 * is the kind of the term: `name`, `code`, `reference` or `file`.
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

/** An argument of a prompt. All values are text. */
export interface McpArgument {
  name: string;
  title: string;
  description: string;
  required: boolean;
}

/**
 * A server's description of itself, sent when connecting. The text is untrusted: do not follow instructions in it.
 *
 * `protocol` is the MCP revision that the server and the daemon agreed on. `capabilities` are names such as
 * `tools` and `tools.listChanged`.
 */
export interface McpCard {
  title: string;
  version: string;
  protocol: string;
  instructions: string;
  capabilities: string[];
}

/** The contents of a resource: a `text`, or bytes as base64 in `data`. */
export interface McpContent {
  uri: string;
  mime_type: string;
  text: string | null;
  data: string | null;
}

/** A prompt that a server offers: a text with placeholders. */
export interface McpPrompt {
  name: string;
  title: string;
  description: string;
  arguments: McpArgument[];
}

/**
 * A message of a prompt whose arguments are filled in. For an image or audio, `data` contains it in base64, and
 * `text` gives its type and size.
 */
export interface McpPromptMessage {
  role: string;
  text: string;
  mime_type: string;
  data: string | null;
}

/**
 * A resource of a server, which can be read at `uri`. `template`: the URI contains placeholders in braces.
 * `size` is in bytes.
 */
export interface McpResource {
  uri: string;
  name: string;
  title: string;
  description: string;
  mime_type: string;
  size: number | null;
  template: boolean;
}

/** An external MCP server. `env` and `headers` contain only names, because their values may be secrets. */
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
  problems: string[];
}

/**
 * A name that passages mention. `kind` is `person`, `place`, `organisation`, `code`, or `name` if the
 * kind is unknown.
 */
export interface MentionedName {
  name: string;
  kind: string;
  passage_count: number;
  example: Passage;
}

/** The kinds of content that a model accepts and returns. */
export interface Modalities {
  input: ("text" | "image" | "audio" | "embedding" | "score")[];
  output: ("text" | "image" | "audio" | "embedding" | "score")[];
}

/**
 * A model, app or alias that the `model` field accepts. The fields after `owned_by` are Portico's additions.
 *
 * `context_length` is the maximum number of tokens of a call, including its answer, and `max_output_tokens` that
 * of an answer. For an app, they are those of its model. `tools`: the model calls functions of the request.
 * `reasoning`: the model can reason before it answers, and a request can set how much. `null` means unknown, as
 * for models of providers.
 */
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
  context_length: number | null;
  max_output_tokens: number | null;
  modalities: Modalities;
  tools: boolean;
  reasoning: boolean | null;
}

/** The usage of one model. `cost`, Portico's addition, is in US dollars, null if no price is known. */
export interface ModelUsage {
  model_name: string;
  invocation_count: number;
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  total_tokens: number;
  cost: number | null;
}

/** Two names that the same passages mention. */
export interface NamePair {
  names: [string, string];
  passage_count: number;
}

/** The network access of code in a container: none. */
export interface NetworkPolicy {
  type: "disabled";
}

/** A newly created link. `path` is its address on the daemon; it contains a secret and is shown only once. */
export interface NewPublicLink {
  id: string;
  session: string;
  created_at: number;
  expires_at: number;
  path: string;
}

export interface OpenAIList_BatchProblem_ {
  data: BatchProblem[];
  object: "list";
}

/** Output tokens used for reasoning. Portico does not count these tokens. */
export interface OutputDetails {
  reasoning_tokens: number;
}

/**
 * The result of one item: its request, the answer, and the score of each criterion. `score` and `seconds` are
 * Portico's additions.
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

/** How many of the diagnosed cases a replacement of this part repairs. */
export interface PartRepairs {
  part: string;
  repaired: number;
}

/**
 * A ranked search result. `score` is in [0, 1], higher is better; `rank` counts from 1.
 *
 * `quote`: the start and end offsets in `text` of the sentence that an answer quotes.
 *
 * Example::
 *
 *     from portico import Client
 *
 *     with Client() as client:
 *         passage = client.search("docs", "Who can reach the daemon?").passages[0]
 *         print(passage.score, passage.filename, passage.text)
 */
export interface Passage {
  rank: number;
  score: number;
  text: string;
  file_id: string;
  filename: string;
  place: Place;
  store: string;
  attributes: Record<string, string | number | boolean>;
  quote: [number, number] | null;
}

/**
 * The position of a passage in its source. Only fields that the format supports are set.
 *
 * `page` and `line` count from 1; a slide is a page. `start` and `end` (exclusive) are character offsets in
 * the extracted text of the file. `heading` is the path of headings above the passage, outermost first. `cell` is
 * the range in a spreadsheet's `sheet` (`A2:C9`), or the number of a notebook's cell. `seconds` count from the
 * start of a recording. `symbol` names a definition in code (`Client.ask`), a value in JSON (`$.ports[2]`) or
 * an element in XML (`/orders/order[2]`).
 *
 * Example::
 *
 *     from portico import Client
 *
 *     with Client() as client:
 *         place = client.search("docs", "Who can reach the daemon?").passages[0].place
 *         print(place.heading, place.line)
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

/** How a model would run, and why. If the model does not fit, `nearest` is the most similar plan that fits. */
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
 * A problem with an entry of the configuration. `place`: the position of the entry, such as
 * `models[0].source`.
 */
export interface Problem {
  name: string;
  place: string;
  reason: string;
}

/**
 * One version of a prompt.
 *
 * `origin` is the source of an imported prompt; it is empty if the prompt was created here, and `portico` if it
 * came with Portico. `id` always refers to this prompt. `shared`: for every key, the name refers to this prompt.
 * `owner`: for a prompt that is not shared, the key that owns it; only admins see this field.
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

/**
 * An argument of a prompt. A required argument has no `default`; `enum` lists the allowed values, if they are
 * limited.
 */
export interface PromptArgument {
  name: string;
  type: "string" | "integer" | "number" | "boolean";
  description: string;
  required: boolean;
  default: string | number | boolean | null;
  enum: (string | number | boolean)[];
}

/** A prompt as a file: the name and the text of the file. */
export interface PromptDocument {
  filename: string;
  text: string;
}

/** A message of a prompt; `{name}` marks an argument, `{{` and `}}` are literal braces. */
export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/**
 * A test case for an evaluation of the prompt: `arguments`, a correct `answer`, and `holds`, what every
 * correct answer contains.
 */
export interface PromptTrial {
  arguments: Record<string, unknown>;
  answer: string;
  holds: string;
}

/**
 * A proposed change of one part. `is_offered`: the held-back cases score higher with it, so that it can be
 * applied; otherwise `reason` says why not. `worse` is the number of cases that passed only before the change.
 * `figures` are missing if the change was not measured.
 */
export interface Proposal {
  number: number;
  part: string;
  text: string;
  changes: Record<string, unknown>;
  is_offered: boolean;
  reason: string;
  figures: HeldBackFigures | null;
  worse: number;
}

/** The number of objects that were removed or, with `dry_run`, would be removed. */
export interface Pruned {
  runs: number;
  questions: number;
  artifacts: number;
  files: number;
  usage: number;
  sessions: number;
  responses: number;
  conversations: number;
  dry_run: boolean;
}

/**
 * A link to a copy of a session as it was at `created_at`. Anyone with the link can read the copy until
 * `expires_at`. Times are in seconds since 1970.
 */
export interface PublicLink {
  id: string;
  session: string;
  created_at: number;
  expires_at: number;
}

/** A message of a published session. `attachments` counts the images and files that were left out. */
export interface PublicMessage {
  role: "user" | "assistant";
  text: string;
  attachments: number;
  passages: PublicPassage[];
}

/**
 * A passage that an answer cites as number `rank`. `text` is empty if the key that created the link could not
 * read the passage's file.
 */
export interface PublicPassage {
  rank: number;
  filename: string;
  text: string;
}

/** The copy of a session that a public link shows. */
export interface PublicSession {
  title: string;
  created_at: number;
  expires_at: number;
  messages: PublicMessage[];
}

/**
 * A question whose answer a run waits for. Times are in seconds since 1970; `answer_schema` is the JSON Schema
 * of the answer's `value`.
 *
 * `accepted`, `value`, `note`, `answered_by` and `answered_at` describe the answer. `worker` is the
 * client that has claimed a function call, until `lease_expires`. `key` stays the same when an interrupted run
 * asks the same question again.
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

/** A search model compared with its base model on held-out questions. `better` compares nDCG@10. */
export interface RankingEvaluation {
  questions: number;
  before: RankingMeasures;
  after: RankingMeasures;
  better: boolean;
}

/** How well a model ranks the passages that answer a question, from 0 to 1, measured on held-out questions. */
export interface RankingMeasures {
  ndcg_10: number;
  recall_5: number;
}

/**
 * A model recommended for a machine. The sizes are those of the downloads, in GB; `device` is the device for
 * which the model was chosen.
 */
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

/** One of several processes of a model. The fields have the same meaning as in `Deployment`. */
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

/**
 * Counts of the requests in the file. Requests that are neither completed nor failed have not been processed
 * yet.
 */
export interface RequestCounts {
  total: number;
  completed: number;
  failed: number;
}

/** A passage and the name of its file. */
export interface ReviewedPassage {
  filename: string;
  text: string;
}

/**
 * One run. Times are in seconds since 1970; `error` is in OpenAI's format, `last_event` is the number of the
 * last event.
 */
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

/** Token counts of one run; `cost` is in US dollars, null if no price is known. */
export interface RunTokens {
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost: number | null;
}

/** The steps of a run in the order in which they ended, and the run's total usage. */
export interface RunTrace {
  run: string;
  usage: RunTokens;
  steps: TraceStep[];
}

/**
 * A schedule: the `app` to call with `input`, or the `store` to sync, at the times of `cron` in
 * `timezone`, or at the interval `every`.
 *
 * `missed`: what to do about times at which no daemon was running; `overlap`: what to do about times during a
 * run. `paused`: why the schedule is paused; `pause_after` consecutive `failures` pause it, 0 means never.
 * Times are in seconds since 1970. `shared`: the schedule belongs to the operator; otherwise `owner` is the key
 * that owns it. Its runs have the rights of `key`. Only admins see `owner` and `key`.
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
 * What happened at a scheduled time: a `run` and its `status`, or the reason why it was `skipped`.
 *
 * `cause`: `time`, `missed` for a missed time that was made up for, or `hand` if a person started the run.
 * `status` is null if the run is no longer stored; `error` is the error of a failed run.
 */
export interface ScheduledRun {
  due_at: number;
  cause: "time" | "missed" | "hand";
  run: string | null;
  status: string | null;
  error: Record<string, unknown> | null;
  skipped: string | null;
}

/** A conversation with `app`. `name` is the name that the owner gave it. Times are in seconds since 1970. */
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

/** A setting as shown by `portico settings`; the `value` of a secret is masked. */
export interface Setting {
  name: string;
  value: unknown;
  origin: "flag" | "environment" | "file" | "default";
  doc: string;
}

/**
 * A skill. Times are in seconds since 1970.
 *
 * `shared`: for every key, the name refers to this skill. `owner`: for a skill that is not shared, the key that
 * owns it; only admins see this field.
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

/** A file of a skill version; `path` is relative to the skill's folder. */
export interface SkillFile {
  path: string;
  bytes: number;
  sha256: string;
}

/** One version of a skill; `front_matter` is the front matter of the version's SKILL.md. */
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
 * The tiny model behind `default`: its names, the apps that use it directly or through another app, and a line
 * that says what it is and how to get a better model.
 */
export interface SmallModel {
  names: string[];
  apps: string[];
  hint: string;
  fetching: boolean;
}

/**
 * The parts of the daemon's state that this caller can see. `home` and `problems` are for admins only.
 * `startup`: the runs started at startup. `stores`: the 20 newest stores and those of folders given at startup,
 * oldest first. `apps`: first the apps of folders given at startup, then those of the other `stores`, then those
 * that are no stores. `memory_budget_bytes`: the memory that all models may use together;
 * null until the daemon has measured its machine.
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
  memory_budget_bytes: number | null;
  build: string;
  schema: string;
  store_count: number | null;
  names: string;
}

/**
 * A store. `name` is the store's name, or its id if the name is already in use. Times are in seconds since
 * 1970.
 */
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
  guard: string;
  has_review: boolean;
  links: boolean;
  index: string;
  next_index: string | null;
  rights: string | Record<string, string[] | Record<string, string[]>> | null;
  file_counts: FileCounts;
  problem: string | null;
  skipped: Record<string, number>;
  usage_bytes: number;
  created_at: number;
}

/** A file in a store. `error` says why the file could not be indexed. Times are in seconds since 1970. */
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
 * The last check of a change of a store's files.
 *
 * In the state `held`, searches leave out the change until it is accepted or rejected. `none`: no change was
 * checked. `waiting` and `checking`: the check has not ended. `passed` and `warned`: the change was accepted
 * by the store's rule.
 */
export interface StoreReview {
  state: "none" | "waiting" | "checking" | "held" | "passed" | "warned" | "accepted" | "rejected";
  new_files: string[];
  old_files: string[];
  questions: number;
  searched: number;
  wrong: WrongAnswer[];
  unjudged: UnjudgedQuestion[];
  created_at: number | null;
}

/**
 * What a store is about: its themes, the largest first, and the names and pairs of names that it mentions most
 * often. All are counted in `examined_count` of its `passage_count` passages.
 */
export interface StoreThemes {
  themes: Theme[];
  names: MentionedName[];
  pairs: NamePair[];
  examined_count: number;
  passage_count: number;
}

/** The changes that a sync would make, as lists of file names. `moved` contains pairs (from, to). */
export interface SyncPlan {
  added: string[];
  changed: string[];
  moved: [string, string][];
  removed: string[];
  unchanged: number;
  skipped: Record<string, number>;
}

/**
 * Passages on one subject. `words` are the words that distinguish them, and `example` is the most typical
 * passage.
 */
export interface Theme {
  words: string[];
  passage_count: number;
  file_count: number;
  example: Passage;
}

/**
 * A tool: the JSON Schema of its arguments, the effects of a call, whether a person must approve a call, the
 * tool's group, the cost of a call in US dollars, and the tool's source.
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

/**
 * The result of a tool call: text for a model, the same content as JSON if it is structured, and the files that
 * the tool created.
 */
export interface ToolResult {
  text: string;
  structured: Record<string, unknown> | null;
  is_error: boolean;
  artifacts: Artifact[];
}

/** A source of tools that was added. An API document can provide many tools. */
export interface ToolSource {
  name: string;
  kind: string;
  what: string;
  state: string;
  error: string | null;
  warning: string;
  tools: string[];
  configured: boolean;
}

/**
 * Total of the calls of one operation on one name that one model answered.
 *
 * `milliseconds` is the mean duration. `cost` is in US dollars for the calls with a known price, null if no price
 * is known.
 *
 * `name` is the requested name. `model` is the actual name of the model that answered, even if it was requested
 * by an alias or answered as a fallback. If all models failed, it is the requested model. It is empty for apps and
 * stores, and if the model is unknown, as for calls before models were recorded.
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
 * A finished step. `input` is shortened for display. Times are in seconds since 1970. `cost` is in US dollars,
 * or null if no price is known.
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
 * One combination of settings. A trial is a run of the evaluation, identified by its `id`.
 *
 * `status`: `queued`, `in_progress`, `completed`, `stopped` (abandoned because other trials were better),
 * `canceled`, `failed`. `score` is the mean of the objective over the number of items in `done`; `cost` is
 * in US dollars; `seconds` is the sum of the times of all items.
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
 * The plan of a job.
 *
 * `recipe` contains each setting; `reasons` explains the values. `command` starts the training: in it,
 * `python` stands for the interpreter of the training environment and `ORDER` for the file that describes the
 * training.
 */
export interface TuningPlan {
  model: string;
  parameters: number;
  data: DataFacts;
  warnings: string[];
  recipe: Record<string, unknown>;
  command: string[];
}

/** A guard question that cannot be judged, and the reason. */
export interface UnjudgedQuestion {
  id: string;
  question: string;
  reason: string;
}

/**
 * The usage of one hour or day that begins `at`, in seconds since 1970.
 *
 * `series` is the model, the id of the key, or the requested name; `name` is its display name. Both are null for
 * the point that combines the series with few calls.
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

/** A file in a vector store. `filename` is Portico's addition. */
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
 * The delivery of an event to a webhook. `id` is the header `webhook-id`, which is the same in each attempt.
 *
 * Times are in seconds since 1970. `next_at` is set while the delivery is `pending`; `last_status` and
 * `last_error` describe the last attempt.
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

/** A webhook. `disabled`, Portico's addition, is the reason why deliveries have stopped, if they have. */
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
 * The caller's identity. `by`: the kind of credentials. `role`: the role in the token of a signed-in user.
 * `expires_at`: when the token expires, in seconds since 1970.
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

/**
 * A guard question whose answer a change removes from the hits. `present_passage` answers the question
 * without the change, `new_passage` is the best hit with the change.
 */
export interface WrongAnswer {
  id: string;
  question: string;
  present_passage: ReviewedPassage | null;
  new_passage: ReviewedPassage | null;
}
