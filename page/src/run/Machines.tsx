// Machines: the nodes of each launcher, the processes of models and training jobs, and the daemons.

import { useState } from "preact/hooks";
import { json, part } from "../api";
import { bytes, count, moment } from "../format";
import { soft, Table } from "../parts/Table";
import { Confirm, FormDialog, Trouble, useLoaded, useWork } from "../parts/ui";
import type {
  ClusterDaemon,
  ClusterJob,
  ClusterLauncher,
  ClusterNode,
  ClusterStatus,
  DrainedNode,
} from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 5_000;
const MB_BYTES = 1024 * 1024;
const MAX_REASON_CHARS = 200;
const MIN_ID_CHARS = 56;

interface Machine {
  launcher: ClusterLauncher;
  node: ClusterNode;
  jobs: ClusterJob[];
}

function labelOf(node: ClusterNode): string {
  const unread = node.name.length >= MIN_ID_CHARS && node.address;
  return unread ? `${node.name.slice(0, 8)} (${node.address})` : node.name;
}

/** Formats an amount in use and the total. */
function share(used: string | null, all: string): string {
  return used === null ? all : t("machines.of", { used, all });
}

function gpusOf(node: ClusterNode): string {
  if (!node.gpus) return "";
  const used = node.gpus_used === null ? null : count(node.gpus_used);
  return `${share(used, count(node.gpus))} ${node.gpu_types.join(" ")}`.trim();
}

function memoryOf(node: ClusterNode): string {
  if (!node.memory_mb) return "";
  const used = node.memory_used_mb === null ? null : bytes(node.memory_used_mb * MB_BYTES);
  return share(used, bytes(node.memory_mb * MB_BYTES));
}

function machinesOf(found: ClusterStatus): Machine[] {
  return found.launchers.flatMap((launcher) =>
    launcher.nodes.map((node) => ({
      launcher,
      node,
      jobs: found.jobs.filter((job) => job.launcher === launcher.name && job.node === node.name),
    })),
  );
}

export function View() {
  const found = useLoaded(() => json<ClusterStatus>("/api/cluster"), "cluster", POLL_INTERVAL_MS);
  const [draining, setDraining] = useState<Machine | null>(null);
  const [resumed, setResumed] = useState<Machine | null>(null);
  const [busy, error, work] = useWork();
  const cluster = found.value;
  if (!cluster) return <Trouble error={found.error} retry={found.retry} />;
  const resume = (machine: Machine) =>
    work(async () => {
      const { launcher, node } = machine;
      await json(`/api/cluster/nodes/${part(launcher.name)}/${part(node.name)}/resume`, { method: "POST" });
      found.reload();
    });
  return (
    <>
      <h1>{t("section.machines")}</h1>
      <Trouble error={error || found.error} />
      {cluster.launchers.map((launcher) => (
        <Trouble key={launcher.name} error={launcher.error ? `${launcher.name}: ${launcher.error}` : ""} />
      ))}
      <Nodes rows={machinesOf(cluster)} busy={busy} onDrain={setDraining} onResume={setResumed} />
      {cluster.launchers.map(
        (launcher) =>
          launcher.total > launcher.nodes.length && (
            <p class="soft" key={launcher.name}>
              {launcher.name}: {t("machines.more", { count: count(launcher.total - launcher.nodes.length) })}
            </p>
          ),
      )}
      <h2>{t("machines.processes")}</h2>
      {cluster.jobs.length ? <Jobs rows={cluster.jobs} /> : <p class="soft">{t("machines.noProcesses")}</p>}
      <h2>{t("machines.daemons")}</h2>
      <Daemons rows={cluster.daemons} />
      {draining && (
        <Drain
          machine={draining}
          onClose={() => {
            setDraining(null);
            found.reload();
          }}
        />
      )}
      {resumed && (
        <Confirm
          title={t("machines.resumeTitle", { node: labelOf(resumed.node) })}
          does={t("machines.resume")}
          onClose={() => setResumed(null)}
          onYes={() => resume(resumed)}
        />
      )}
    </>
  );
}

function Nodes(props: {
  rows: Machine[];
  busy: boolean;
  onDrain: (machine: Machine) => void;
  onResume: (machine: Machine) => void;
}) {
  return (
    <Table
      label={t("section.machines")}
      id="machines"
      rows={props.rows}
      keyOf={(one) => `${one.launcher.name} ${one.node.name}`}
      text={(one) => `${one.launcher.name} ${one.node.name} ${one.node.address} ${one.node.state}`}
      columns={[
        { head: t("machines.node"), cell: (one) => <span title={one.node.name}>{labelOf(one.node)}</span> },
        { head: t("machines.launcher"), class: soft, cell: (one) => one.launcher.name },
        {
          head: t("machines.state"),
          class: (one) => (one.node.state === "down" ? "bad" : ""),
          cell: (one) => <span title={one.node.detail}>{t(`machines.${one.node.state}`)}</span>,
        },
        {
          head: t("machines.cores"),
          cell: ({ node }) => share(node.cpus_used === null ? null : count(node.cpus_used), count(node.cpus)),
        },
        { head: t("machines.memory"), cell: (one) => memoryOf(one.node) },
        { head: t("machines.gpus"), cell: (one) => gpusOf(one.node) },
        { head: t("machines.runs"), cell: (one) => one.jobs.map((job) => job.name).join(", ") },
        { head: t("machines.reason"), class: soft, cell: (one) => one.node.reason },
        {
          head: t("actions"),
          quiet: true,
          cell: (one) => {
            if (!one.launcher.drains || one.node.state === "down") return null;
            const out = one.node.state === "draining" || one.node.state === "drained";
            return (
              <button
                type="button"
                disabled={props.busy}
                onClick={() => (out ? props.onResume(one) : props.onDrain(one))}
              >
                {t(out ? "machines.resume" : "machines.drain")}
              </button>
            );
          },
        },
      ]}
    />
  );
}

function Drain({ machine, onClose }: { machine: Machine; onClose: () => void }) {
  const { launcher, node } = machine;
  const path = `/api/cluster/nodes/${part(launcher.name)}/${part(node.name)}/drain`;
  const planned = useLoaded(
    () => json<DrainedNode>(path, { json: { reason: t("machines.drain"), dry_run: true } }),
    path,
  );
  const drain = (form: FormData) => json(path, { json: { reason: form.get("reason") } });
  return (
    <FormDialog
      title={t("machines.drainTitle", { node: labelOf(node) })}
      does={t("machines.drain")}
      onSend={drain}
      onClose={onClose}
    >
      <p class="soft">{t("machines.drainNote")}</p>
      <Trouble error={planned.error} retry={planned.retry} />
      {planned.value && planned.value.moves.length > 0 && (
        <p>{t("machines.moves", { names: planned.value.moves.join(", ") })}</p>
      )}
      {planned.value && planned.value.stays.length > 0 && (
        <p>{t("machines.stays", { names: planned.value.stays.join(", ") })}</p>
      )}
      <label>
        <span>{t("machines.why")}</span>
        <input name="reason" required maxLength={MAX_REASON_CHARS} />
      </label>
    </FormDialog>
  );
}

function Jobs({ rows }: { rows: ClusterJob[] }) {
  return (
    <Table
      label={t("machines.processes")}
      id="processes"
      rows={rows}
      keyOf={(job) => `${job.daemon} ${job.job}`}
      columns={[
        { head: t("name"), cell: (job) => job.name },
        { head: t("machines.state"), cell: (job) => t(`machines.${job.state}`) },
        { head: t("machines.launcher"), class: soft, cell: (job) => job.launcher },
        { head: t("machines.node"), cell: (job) => job.node },
        { head: t("machines.job"), class: soft, cell: (job) => job.job },
        { head: t("machines.ends"), class: soft, cell: (job) => (job.ends_at ? moment(job.ends_at) : "") },
        { head: t("machines.waits"), cell: (job) => job.reason },
      ]}
    />
  );
}

function Daemons({ rows }: { rows: ClusterDaemon[] }) {
  return (
    <Table
      label={t("machines.daemons")}
      id="daemons"
      rows={rows}
      keyOf={(one) => one.id}
      columns={[
        { head: t("name"), cell: (one) => one.name },
        { head: t("machines.address"), cell: (one) => one.url },
        { head: t("machines.version"), class: soft, cell: (one) => one.version },
        { head: t("machines.processes"), cell: (one) => count(one.jobs) },
        { head: t("machines.held"), cell: (one) => count(one.runs) },
        {
          head: t("machines.seen"),
          class: soft,
          cell: (one) => (one.here ? t("machines.here") : moment(one.seen_at)),
        },
      ]}
    />
  );
}
