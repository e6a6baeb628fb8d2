import { type ChildProcess, fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers } from "./answers.ts";
import { cpuSecondsOf } from "./cpu.ts";
import { freePort } from "./free-port.ts";

/** A message's number, and when its POST arrived: in milliseconds, on the clock of `process.hrtime()`. */
export type Arrival = readonly [id: number, atMs: number];
export type ToGateway =
  | { readonly ask: "watch" | "arrivals" | "received" }
  | { readonly ask: "stall"; readonly forMs: number };
export type FromGateway = Partial<{
  readonly port: number;
  readonly received: number;
  readonly arrivals: readonly Arrival[];
}>;

/** A gateway in a process of its own, which accepts everything. */
export interface Gateway {
  readonly url: string;
  readonly pid: number;
  /** What it is written in, for the table's conditions. */
  readonly kind: "nginx" | "node";
  /** How many messages arrived since its start. */
  received(): Promise<number>;
  stop(): Promise<void>;
}

/** One that can wait, stall, and say what came when. */
export interface ScriptedGateway extends Gateway {
  /** From now on it notes when each message arrives. */
  watch(): void;
  /** What arrived since `watch()`. */
  arrivals(): Promise<readonly Arrival[]>;
  /** Answers nothing for so long, and then everything. */
  stall(forMs: number): void;
  /** CPU time it has used, in seconds (Linux only). */
  cpuSeconds(): number;
}

const NGINX = ["nginx", "/usr/sbin/nginx"].find((path) => spawnSync(path, ["-v"]).status === 0);

/** The fastest gateway there is here, so that it takes as little as possible of the machine: nginx, else Node. */
export function startGateway(folder: string): Promise<Gateway> {
  return NGINX === undefined ? startScriptedGateway() : startNginx(NGINX, folder);
}

/** Answers after `delayMs`. */
export async function startScriptedGateway({ delayMs = 0 } = {}): Promise<ScriptedGateway> {
  const path = fileURLToPath(new URL("node-gateway.ts", import.meta.url));
  const child = fork(path, [String(delayMs)], { stdio: "inherit" });
  const [{ port }] = (await once(child, "message")) as [FromGateway];
  const tell = (message: ToGateway) => child.send(message);

  async function ask(question: "arrivals" | "received"): Promise<FromGateway> {
    const answer = once(child, "message") as Promise<[FromGateway]>;
    tell({ ask: question });
    return (await answer)[0];
  }

  return {
    url: `http://127.0.0.1:${port}/`,
    pid: child.pid as number,
    kind: "node",
    watch: () => void tell({ ask: "watch" }),
    arrivals: async () => (await ask("arrivals")).arrivals ?? [],
    received: async () => (await ask("received")).received ?? 0,
    stall: (forMs) => void tell({ ask: "stall", forMs }),
    cpuSeconds: () => cpuSecondsOf(child.pid as number),
    async stop() {
      if (child.connected) child.disconnect();
      await gone(child);
    },
  };
}

async function startNginx(program: string, folder: string): Promise<Gateway> {
  const port = await freePort();
  const home = join(folder, "nginx");
  mkdirSync(home, { recursive: true });
  const conf = join(home, "nginx.conf");
  writeFileSync(
    conf,
    `
    daemon off;
    master_process off;
    pid nginx.pid;
    error_log stderr crit;
    events { worker_connections 8192; }
    http {
      access_log off;
      client_body_temp_path body;
      proxy_temp_path proxy;
      fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi;
      scgi_temp_path scgi;
      keepalive_timeout 1h;
      keepalive_requests 1000000000;
      server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
          default_type application/json;
          return 202 '{"message":"Accepted","messageId":"$request_id"}';
        }
        location = /status {
          stub_status;
        }
      }
    }`,
  );
  const child = spawn(program, ["-p", home, "-e", "stderr", "-c", conf], { stdio: "inherit" });
  const url = `http://127.0.0.1:${port}/`;
  await answers(url, child);
  /** All that was ever asked, this question included. */
  async function requests(): Promise<number> {
    const text = await (await fetch(`${url}status`)).text();
    return Number(/(\d+) (\d+) (\d+)/.exec(text)?.[3]);
  }
  let asked = await requests();
  return {
    url,
    pid: child.pid as number,
    kind: "nginx",
    async received() {
      asked++;
      return (await requests()) - asked;
    },
    async stop() {
      child.kill();
      await gone(child);
    },
  };
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}
