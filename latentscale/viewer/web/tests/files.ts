/** The generation that the Python test wrote, served from disk. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { GenerationEntry } from "../src/engine/format";

const folder = process.env.VIEWER_FIXTURE;
export const haveFixture = folder !== undefined;

export const read = <T>(name: string): T => JSON.parse(readFileSync(join(folder!, name), "utf8")) as T;

export const entry = (): GenerationEntry => read("entry.json");

export interface Expected {
  rowIds: number[];
  x: number[];
  y: number[];
  clusters: number[];
}

export type Kind = "ranges" | "whole" | "refuses";

/** `fetch` from the folder, as servers differ: with ranges, without, or with a 416. */
export function server(kind: Kind, log: string[] = []): typeof fetch {
  return (async (input: string, init?: RequestInit) => {
    const path = join(folder!, new URL(input).pathname);
    const range = (init?.headers as Record<string, string> | undefined)?.Range;
    log.push(`${new URL(input).pathname} ${range ?? ""}`.trim());
    if (!existsSync(path)) return new Response("no", { status: 404 });
    const bytes = readFileSync(path);
    if (range && kind === "refuses") return new Response("no", { status: 416 });
    if (range && kind === "ranges") {
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range)!;
      return new Response(bytes.subarray(Number(from), Number(to) + 1), { status: 206 });
    }
    return new Response(bytes, { status: 200 });
  }) as typeof fetch;
}
