import { render } from "preact";
import { App } from "./App";
import { Alone } from "./alone/Alone";
import { Consent } from "./alone/Consent";
import { Public } from "./alone/Public";
import { watchConversations } from "./chat/conversation";
import { route } from "./route";
import { comeBack, isConsent } from "./signIn";
import { watchStatus } from "./status";
import "./design.css";
import "./style.css";

/** The view of a conversation that was shared by a link. It needs no key, so it is separate from the full page. */
const PUBLIC = "public";
const place = document.getElementById("page");
/** The title of the app that `portico web` serves. The full page has none. */
const alone = document.querySelector<HTMLMetaElement>('meta[name="portico-app"]')?.content;
const isPublic = route.peek().view === PUBLIC;
route.subscribe(({ view }) => {
  if ((view === PUBLIC) !== isPublic) location.reload();
});
place?.replaceChildren(); // the words for a browser that could not load this script
if (place && alone !== undefined) render(<Alone title={alone} />, place);
else if (place && isConsent()) render(<Consent />, place);
else if (place && isPublic) render(<Public />, place);
else if (place) {
  comeBack();
  watchStatus();
  watchConversations();
  render(<App />, place);
}
