import { addressOf } from "../address";
import { t } from "../words/words";

/** Links that add the daemon's MCP server, with a key, to an editor on the person's machine. */
export function InstallLinks({ secret }: { secret: string }) {
  const server = { url: addressOf("/mcp"), headers: { Authorization: `Bearer ${secret}` } };
  const named = JSON.stringify({ name: "portico", type: "http", ...server });
  const config = encodeURIComponent(btoa(JSON.stringify(server)));
  return (
    <p class="actions">
      <a href={`vscode:mcp/install?${encodeURIComponent(named)}`}>{t("keys.addTo", { client: "VS Code" })}</a>
      <a href={`cursor://anysphere.cursor-deeplink/mcp/install?name=portico&config=${config}`}>
        {t("keys.addTo", { client: "Cursor" })}
      </a>
    </p>
  );
}
