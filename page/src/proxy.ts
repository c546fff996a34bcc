// Errors that a proxy in front of the daemon wrote. The daemon itself answers every error with JSON.

import { bytes } from "./format";
import { textsOf } from "./words/words";

const t = textsOf({
  en: {
    anyProxy: "The proxy in front of Portico",
    tooLarge: "{proxy} refused {size}: {advice}.",
    request: "the request",
    raise: "raise {setting}",
    raiseSize: "raise its limit on the size of a request",
    unreachable:
      "{proxy} got no answer from Portico (HTTP {status}): check that Portico runs and that the proxy forwards to its address{cause}.",
    late: ", or raise ProxyTimeout if the answer takes long",
    large: ", or raise request_body max_size if the request is large",
    tooLate: "{proxy} stopped waiting for Portico's answer: {advice}.",
    raiseTime: "raise its limit on the time until an answer",
    other:
      "{proxy} answered HTTP {status} itself, without Portico: check the proxy's configuration, or sign in there.",
    noJson:
      "The answer is not from Portico but a web page: something in front of Portico, such as a sign-in, answered.",
    cut: "The connection was cut while {size} were sent: is the daemon running, or does a proxy in front of it refuse that much?",
  },
  zh: {
    anyProxy: "Portico 前面的代理",
    tooLarge: "{proxy} 拒绝了 {size}：{advice}。",
    request: "该请求",
    raise: "请调大 {setting}",
    raiseSize: "请调大其请求大小限制",
    unreachable:
      "{proxy} 没有得到 Portico 的响应（HTTP {status}）：请检查 Portico 是否在运行，以及代理的转发地址是否正确{cause}。",
    late: "；如果响应时间较长，请调大 ProxyTimeout",
    large: "；如果请求较大，请调大 request_body max_size",
    tooLate: "{proxy} 等待 Portico 响应超时：{advice}。",
    raiseTime: "请调大其等待响应的时间限制",
    other: "{proxy} 自行返回了 HTTP {status}，请求没有到达 Portico：请检查代理的配置，或先在代理处登录。",
    noJson: "响应不是来自 Portico，而是一个网页：可能是 Portico 前面的登录页等程序返回的。",
    cut: "发送 {size} 时连接中断：请检查服务是否在运行，以及前面的代理是否限制了请求大小。",
  },
});

interface Proxy {
  name: string;
  /** Matches the header `Server` and the text of its errors. */
  sign: RegExp;
  /** Its limit on the size of a request. */
  size?: string;
  /** Its limit on the time until an answer. */
  time: string;
  /** What else its error 502 can mean. */
  cause?: "late" | "large";
}

const PROXIES: Proxy[] = [
  { name: "nginx", sign: /nginx|openresty/i, size: "client_max_body_size", time: "proxy_read_timeout" },
  { name: "Apache", sign: /\bapache\b/i, size: "LimitRequestBody", time: "ProxyTimeout", cause: "late" },
  {
    name: "Caddy",
    sign: /^caddy\b/i,
    size: "request_body max_size",
    time: "response_header_timeout",
    cause: "large",
  },
  {
    name: "HAProxy",
    sign: /^\s*<html><body><h1>\d{3} [\w -]+<\/h1>\s*[^<]*<\/body><\/html>\s*$/i,
    time: "timeout server",
  },
];

/**
 * Returns what an error of a proxy means and what to do. `server`: the header `Server`; `text`: the body; `sent`: the
 * bytes of the request, or 0 if unknown.
 */
export function proxyTrouble(status: number, server: string, text: string, sent = 0): string {
  const known = PROXIES.find(({ sign }) => sign.test(server) || sign.test(text));
  const proxy = known ? `${t("anyProxy")} (${known.name})` : t("anyProxy");
  const advice = (setting: string | undefined, otherwise: "raiseSize" | "raiseTime") =>
    setting ? t("raise", { setting }) : t(otherwise);
  if (status === 413)
    return t("tooLarge", {
      proxy,
      size: sent ? bytes(sent) : t("request"),
      advice: advice(known?.size, "raiseSize"),
    });
  if (status === 504) return t("tooLate", { proxy, advice: advice(known?.time, "raiseTime") });
  const cause = known?.cause && status === 502 ? t(known.cause) : "";
  return t(status === 502 || status === 503 ? "unreachable" : "other", { proxy, status, cause });
}

/** Returns the message for a successful response that is not JSON. */
export function notJson(): string {
  return t("noJson");
}

/** Returns the message for an upload of so many bytes that ended without an answer. */
export function cutUpload(size: number): string {
  return t("cut", { size: bytes(size) });
}
