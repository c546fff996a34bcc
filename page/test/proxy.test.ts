// @vitest-environment jsdom
import { expect, test } from "vitest";
import { addressOf } from "../src/address";
import { errorOf } from "../src/api";

const NGINX = (what: string) =>
  `<html>\r\n<head><title>${what}</title></head>\r\n<body>\r\n<center><h1>${what}</h1></center>\r\n` +
  "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
const HAPROXY =
  "<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>\n";
const APACHE = "<html><head><title>413 Request Entity Too Large</title></head><body></body></html>";

test.each([
  [
    "nginx",
    413,
    "",
    NGINX("413 Request Entity Too Large"),
    "(nginx) refused 3.0 MB: raise client_max_body_size.",
  ],
  ["Apache", 413, "Apache/2.4.71 (Debian)", APACHE, "(Apache) refused 3.0 MB: raise LimitRequestBody."],
  ["Caddy", 413, "Caddy", "", "(Caddy) refused 3.0 MB: raise request_body max_size."],
  [
    "a proxy",
    413,
    "",
    "Payload Too Large",
    "Portico refused 3.0 MB: raise its limit on the size of a request.",
  ],
  ["nginx", 502, "nginx", NGINX("502 Bad Gateway"), "(nginx) got no answer from Portico (HTTP 502)"],
  ["Traefik", 502, "", "Bad Gateway", "The proxy in front of Portico got no answer from Portico (HTTP 502)"],
  [
    "Apache",
    502,
    "Apache/2.4.71 (Debian)",
    "<html></html>",
    "or raise ProxyTimeout if the answer takes long.",
  ],
  ["Caddy", 502, "Caddy", "", "or raise request_body max_size if the request is large."],
  ["HAProxy", 504, "", HAPROXY, "(HAProxy) stopped waiting for Portico's answer: raise timeout server."],
  ["nginx", 504, "", NGINX("504 Gateway Time-out"), "raise proxy_read_timeout"],
  ["a sign-in", 401, "nginx", NGINX("401 Authorization Required"), "(nginx) answered HTTP 401 itself"],
])("an error of %s with status %i becomes a sentence", (_proxy, status, server, text, words) => {
  const error = errorOf(status, server, text, 3_000_000);
  expect(error.message).toContain(words);
  expect([error.status, error.code]).toEqual([status, "proxy"]);
});

test("an error of the daemon stays as it is, whichever proxy passes it on", () => {
  const body = JSON.stringify({ error: { message: "The file has 3 MB.", code: "request_too_large" } });
  const error = errorOf(413, "nginx", body, 3_000_000);
  expect([error.message, error.code]).toEqual(["The file has 3 MB.", "request_too_large"]);
});

test("an address of the daemon is in the folder of the page", () => {
  expect(addressOf("/v1/files")).toBe(new URL("v1/files", location.href).href);
});
