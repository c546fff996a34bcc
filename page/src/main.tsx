import { render } from "preact";
import { App } from "./App";
import { watchConversations } from "./chat/conversation";
import { watchStatus } from "./status";
import "./style.css";

watchStatus();
watchConversations();
const place = document.getElementById("page");
if (place) render(<App />, place);
