// A client of the TypeScript SDK that starts with a bare address: node oauth.mjs PACKAGES WAY URL KEY
//
// PACKAGES is the folder with node_modules, WAY is sdk (the 1.x package) or modern (the 2.x package). The owner of KEY
// grants what the client asks for. Prints the tools and the scopes as JSON.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, way, url, key] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const old = way === "sdk";
const { Client } = await load(old ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
const { StreamableHTTPClientTransport } = await load(
  old ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client",
);

const redirectUrl = "http://127.0.0.1:8765/callback";
let registration, tokens, verifier, answer;
const authProvider = {
  redirectUrl,
  clientMetadata: { client_name: "TypeScript", redirect_uris: [redirectUrl] },
  state: () => "state-1",
  clientInformation: () => registration,
  saveClientInformation: (information) => (registration = information),
  tokens: () => tokens,
  saveTokens: (issued) => (tokens = issued),
  saveCodeVerifier: (text) => (verifier = text),
  codeVerifier: () => verifier,
  redirectToAuthorization: async (address) => {
    const response = await fetch(new URL("/api/authorization", address), {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ query: address.search.slice(1), approve: true }),
    });
    answer = new URL((await response.json()).location).searchParams;
  },
};

const connect = async () => {
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  const client = new Client({ name: "interop", version: "1" });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!answer) throw error;
    await (old ? transport.finishAuth(answer.get("code")) : transport.finishAuth(answer));
    return null;
  }
  return client;
};
const client = (await connect()) ?? (await connect());
const tools = (await client.listTools()).tools.map((tool) => tool.name);
console.log(JSON.stringify({ tools, scope: tokens.scope }));
await client.close();
process.exit(0);
