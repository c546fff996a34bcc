// A round trip with a client of the TypeScript SDK: node typescript.mjs PACKAGES WAY URL FILE PROMPT
//
// PACKAGES is the folder with node_modules, WAY is sdk (the 1.x package), legacy or modern (the 2.x package in either
// era). FILE belongs to the store "handbook" and is rewritten to see the notice about it. Prints what it saw as JSON.

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, way, url, file, prompt] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const old = way === "sdk";
const { Client } = await load(old ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = await load(
  old ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client",
);
const mode = way === "modern" ? { pin: "2026-07-28" } : "legacy";
const capabilities = { sampling: {} };
const options = old ? { capabilities } : { capabilities, versionNegotiation: { mode } };
const client = new Client({ name: "interop", version: "1" }, options);

// The model that this client lends says again what it is asked.
const speak = async ({ params: { messages } }) => {
  const said = [messages[0].content].flat()[0].text;
  return { role: "assistant", model: "echo", content: { type: "text", text: `${said}!` } };
};
let heard;
const changed = new Promise((resolve) => (heard = resolve));
const uri = "portico://stores/handbook/files/bread.txt";
if (old) {
  const { CreateMessageRequestSchema, ResourceUpdatedNotificationSchema } = await load(
    "@modelcontextprotocol/sdk/types.js",
  );
  client.setRequestHandler(CreateMessageRequestSchema, speak);
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, (notice) => heard(notice.params.uri));
} else {
  client.setRequestHandler("sampling/createMessage", speak);
  client.setNotificationHandler("notifications/resources/updated", (notice) => heard(notice.params.uri));
}

await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const seen = {};
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.found = (
  await client.callTool({ name: "search_handbook", arguments: { query: "Lighthouse port", max_num_results: 1 } })
).structuredContent.passages[0].filename;
seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
seen.text = (await client.readResource({ uri: "portico://stores/handbook/files/port.md" })).contents[0].text;
seen.lent = (await client.callTool({ name: "poet", arguments: { message: "A rhyme" } })).structuredContent.answer;
seen.prompts = (await client.listPrompts()).prompts.map((item) => item.name);
seen.prompt = (await client.getPrompt({ name: prompt, arguments: { name: "Ann" } })).messages[0].content.text;
const ref = { type: "ref/resource", uri: "portico://stores/{store}/files/{file}" };
seen.completed = (await client.complete({ ref, argument: { name: "store", value: "hand" } })).completion.values;

if (way === "modern") await client.listen({ resourceSubscriptions: [uri] });
else await client.subscribeResource({ uri });
let number = 0;
const again = setInterval(() => writeFileSync(file, `Bread, version ${way} ${++number}.\n`), 1000);
writeFileSync(file, `Bread, version ${way}.\n`);
seen.changed = await changed;
clearInterval(again);

const stop = new AbortController();
const call = old
  ? client.callTool({ name: "nap", arguments: {} }, undefined, { signal: stop.signal })
  : client.callTool({ name: "nap", arguments: {} }, { signal: stop.signal });
setTimeout(() => stop.abort("enough"), 500);
seen.cancelled = await call.then(
  () => false,
  () => true,
);
await client.listPrompts(); // the word to the server is on its way before anything is closed
console.log(JSON.stringify(seen));
await client.close();
process.exit(0);
