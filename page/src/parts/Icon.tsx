// Icons of the page, from the set Lucide, and buttons that show an icon only.

import run from "lucide/dist/esm/icons/activity.mjs";
import archive from "lucide/dist/esm/icons/archive.mjs";
import end from "lucide/dist/esm/icons/arrow-down.mjs";
import send from "lucide/dist/esm/icons/arrow-up.mjs";
import memory from "lucide/dist/esm/icons/brain.mjs";
import schedule from "lucide/dist/esm/icons/calendar-clock.mjs";
import usage from "lucide/dist/esm/icons/chart-column.mjs";
import training from "lucide/dist/esm/icons/chart-spline.mjs";
import copied from "lucide/dist/esm/icons/check.mjs";
import down from "lucide/dist/esm/icons/chevron-down.mjs";
import evaluation from "lucide/dist/esm/icons/clipboard-check.mjs";
import engine from "lucide/dist/esm/icons/cog.mjs";
import compare from "lucide/dist/esm/icons/columns-2.mjs";
import container from "lucide/dist/esm/icons/container.mjs";
import copy from "lucide/dist/esm/icons/copy.mjs";
import model from "lucide/dist/esm/icons/cpu.mjs";
import more from "lucide/dist/esm/icons/ellipsis.mjs";
import artifact from "lucide/dist/esm/icons/file-output.mjs";
import documents from "lucide/dist/esm/icons/files.mjs";
import folder from "lucide/dist/esm/icons/folder.mjs";
import skill from "lucide/dist/esm/icons/graduation-cap.mjs";
import access from "lucide/dist/esm/icons/key-round.mjs";
import batch from "lucide/dist/esm/icons/layers.mjs";
import library from "lucide/dist/esm/icons/library.mjs";
import runs from "lucide/dist/esm/icons/list-checks.mjs";
import menu from "lucide/dist/esm/icons/menu.mjs";
import question from "lucide/dist/esm/icons/message-circle-question-mark.mjs";
import chat from "lucide/dist/esm/icons/message-square.mjs";
import record from "lucide/dist/esm/icons/mic.mjs";
import attach from "lucide/dist/esm/icons/paperclip.mjs";
import edit from "lucide/dist/esm/icons/pencil.mjs";
import pin from "lucide/dist/esm/icons/pin.mjs";
import add from "lucide/dist/esm/icons/plus.mjs";
import again from "lucide/dist/esm/icons/refresh-cw.mjs";
import search from "lucide/dist/esm/icons/search.mjs";
import machine from "lucide/dist/esm/icons/server.mjs";
import settings from "lucide/dist/esm/icons/settings.mjs";
import guard from "lucide/dist/esm/icons/shield-check.mjs";
import tune from "lucide/dist/esm/icons/sliders-horizontal.mjs";
import split from "lucide/dist/esm/icons/split.mjs";
import stop from "lucide/dist/esm/icons/square.mjs";
import prompt from "lucide/dist/esm/icons/text-quote.mjs";
import badly from "lucide/dist/esm/icons/thumbs-down.mjs";
import good from "lucide/dist/esm/icons/thumbs-up.mjs";
import remove from "lucide/dist/esm/icons/trash.mjs";
import upload from "lucide/dist/esm/icons/upload.mjs";
import aloud from "lucide/dist/esm/icons/volume-2.mjs";
import webhook from "lucide/dist/esm/icons/webhook.mjs";
import app from "lucide/dist/esm/icons/workflow.mjs";
import tool from "lucide/dist/esm/icons/wrench.mjs";
import close from "lucide/dist/esm/icons/x.mjs";
import { h } from "preact";

const ICONS = {
  access,
  add,
  again,
  aloud,
  app,
  archive,
  artifact,
  attach,
  badly,
  batch,
  chat,
  close,
  compare,
  container,
  copied,
  copy,
  documents,
  down,
  edit,
  end,
  engine,
  evaluation,
  folder,
  good,
  guard,
  library,
  machine,
  memory,
  menu,
  model,
  more,
  pin,
  prompt,
  question,
  record,
  remove,
  run,
  runs,
  schedule,
  search,
  send,
  settings,
  skill,
  split,
  stop,
  tool,
  training,
  tune,
  upload,
  usage,
  webhook,
};

export type IconName = keyof typeof ICONS;

/** An icon in the colour of the text. It is decoration: the text or label beside it says the same. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      {ICONS[name].map(([tag, attributes]) => h(tag, attributes))}
    </svg>
  );
}

/** A quiet button with an icon. Its label is read aloud, and shown below the pointer. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: () => void;
  id?: string;
  class?: string;
  disabled?: boolean;
  pressed?: boolean;
}) {
  return (
    <button
      type="button"
      id={props.id}
      class={`quiet ${props.class ?? ""}`}
      aria-label={props.label}
      title={props.label}
      aria-pressed={props.pressed}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      <Icon name={props.icon} />
    </button>
  );
}
