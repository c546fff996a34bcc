import { render } from "preact";
import { App } from "./App";
import { Alone } from "./alone/Alone";
import { watchConversations } from "./chat/conversation";
import { comeBack } from "./signIn";
import { watchStatus } from "./status";
import "./design.css";
import "./style.css";

const place = document.getElementById("page");
/** The title of the app that `portico web` serves. The full page has none. */
const alone = document.querySelector<HTMLMetaElement>('meta[name="portico-app"]')?.content;
if (place && alone !== undefined) render(<Alone title={alone} />, place);
else if (place) {
  comeBack();
  watchStatus();
  watchConversations();
  render(<App />, place);
}
