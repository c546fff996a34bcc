// Twenty calls with types that openapi-typescript generated: node generated.mjs URL
//
// `tsc --strict` compiles this file beside the generated `api.d.ts`, so a wrong path, field or answer is an error.
// Prints the paths of the calls that worked, one a line.

import assert from "node:assert";
import createClient from "openapi-fetch";
import type { paths } from "./api.d.ts";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const messages = [{ role: "user" as const, content: "Hello" }];

// Return the data of an answer. An error document is a failure.
async function data<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  assert.equal(response.status, 200, JSON.stringify(error));
  console.log(new URL(response.url).pathname);
  return data as T;
}

assert.equal((await data(client.GET("/health"))).status, "ok");
assert.equal((await data(client.GET("/ready"))).status, "ready");
assert((await data(client.GET("/v1/models"))).data.some((model) => model.id === "echo"));
const chat = await data(client.POST("/v1/chat/completions", { body: { model: "echo", messages } }));
assert(typeof chat === "object");
assert.equal(chat.choices[0]?.message.content, "Hello");
assert.equal(chat.choices[0]?.message.tool_calls?.[0]?.function.name, undefined);
assert.equal(chat.usage?.completion_tokens, 1);
const vectors = await data(client.POST("/v1/embeddings", { body: { model: "fake-embedding", input: "Hello" } }));
assert.equal(vectors.data[0]?.embedding.length, 64);
const response = await data(client.POST("/v1/responses", { body: { model: "echo", input: "Hello" } }));
assert(typeof response === "object");
assert.equal(response.output[0]?.content?.[0]?.text, "Hello");
const response_id = response.id;
const query = { include: ["message.output_text.logprobs"] };
await data(client.GET("/v1/responses/{response_id}", { params: { path: { response_id }, query } }));
const conversation = await data(client.POST("/v1/conversations", { body: { items: messages } }));
const path = { conversation_id: conversation.id };
await data(client.GET("/v1/conversations/{conversation_id}/items", { params: { path, query } }));
const message = await data(client.POST("/v1/messages", { body: { model: "echo", messages, max_tokens: 9 } }));
assert(typeof message === "object");
assert.equal(message.content[0]?.text, "Hello");
const count = await data(client.POST("/v1/messages/count_tokens", { body: { model: "echo", messages } }));
assert(count.input_tokens > 0);
const form = new FormData();
form.set("purpose", "user_data");
form.set("file", new Blob([new Uint8Array([0, 255])]), "note.bin");
const file = await data(
  client.POST("/v1/files", { body: { file: "", purpose: "user_data" }, bodySerializer: () => form }),
);
const content = { params: { path: { file_id: file.id } }, parseAs: "arrayBuffer" as const };
assert.equal((await data(client.GET("/v1/files/{file_id}/content", content))).byteLength, 2);
const speech = { model: "voice", input: "Hello", response_format: "wav" as const };
assert((await data(client.POST("/v1/audio/speech", { body: speech, parseAs: "blob" }))).size > 44);
const store = { path: { store: "handbook" } };
const search = await data(client.POST("/api/stores/{store}/search", { params: store, body: { query: "port" } }));
assert.match(String(search.data[0]?.["text"]), /7419/);
const zip = await data(client.GET("/api/stores/{store}/export", { params: store, parseAs: "blob" }));
assert(zip.size > 100);
const spec = { portico_flow: 1, step: { op: "llm" } };
const app = await data(client.POST("/api/apps", { body: { name: "parrot", spec } }));
const params = { path: { name: app.name } };
const once = { ...params, query: { stream: false } };
const run = await data(client.POST("/api/apps/{name}/run", { params: once, body: { input: "Hello" } }));
assert(typeof run === "object" && run.output === "Hello");
const drawing = await data(client.GET("/api/apps/{name}/drawing", { params, parseAs: "text" }));
assert.match(String(drawing), /^flowchart/);
const key = await data(client.POST("/api/keys", { body: { name: "guest", scopes: ["chat"] } }));
await data(client.DELETE("/api/keys/{key_id}", { params: { path: { key_id: key.id } } }));
