// What all of the front page uses. Everything that comes from the daemon enters the page as text, never as markup.

export const key = { value: sessionStorage.getItem("portico-key") || "" };

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The options of a request with a JSON body. */
export function json(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** A request to this daemon; an answer that is an error is thrown with its own words. */
export async function api(path, options = {}) {
  const authorization = key.value ? { Authorization: `Bearer ${key.value}` } : {};
  const response = await fetch(path, { ...options, headers: { ...options.headers, ...authorization } });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = new Error(body?.error?.message || `The daemon answered ${response.status}.`);
  error.status = response.status;
  throw error;
}
