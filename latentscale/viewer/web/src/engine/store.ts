/** Fetching: relative URLs, ranges with a fallback, a record of missing files, a bounded cache. */

import { ViewerError } from "./format";

export class MissingFile extends ViewerError {}

export interface Traffic {
  requests: number;
  bytes: number;
}

/** Least recently used first out, bounded by the sum of sizes. */
export class Cache<V> {
  private readonly entries = new Map<string, { value: V; size: number }>();
  private total = 0;
  constructor(private readonly limit: number) {}

  get(key: string): V | undefined {
    const entry = this.entries.get(key);
    if (!entry) return undefined;
    this.entries.delete(key);
    this.entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: V, size: number): void {
    const old = this.entries.get(key);
    if (old) this.total -= old.size;
    this.entries.delete(key);
    this.entries.set(key, { value, size });
    this.total += size;
    for (const [name, entry] of this.entries) {
      if (this.total <= this.limit || name === key) break;
      this.entries.delete(name);
      this.total -= entry.size;
    }
  }

  get size(): number {
    return this.total;
  }
}

export class Store {
  readonly traffic: Traffic = { requests: 0, bytes: 0 };
  private readonly missing = new Set<string>();
  private readonly whole = new Cache<ArrayBuffer>(24 << 20);
  private readonly pending = new Map<string, Promise<ArrayBuffer>>();
  /** Set once a server has answered a range with the whole file: asking again would only cost it. */
  private ranges = true;

  constructor(
    private readonly base: string,
    private readonly get: typeof fetch = fetch.bind(globalThis),
  ) {}

  url(name: string): string {
    return new URL(name, this.base).href;
  }

  async json<T>(name: string, { fresh = false } = {}): Promise<T> {
    const bytes = await this.file(name, undefined, fresh ? "no-cache" : undefined);
    try {
      return JSON.parse(new TextDecoder().decode(bytes)) as T;
    } catch {
      throw new ViewerError(`${name} is not JSON: the file is damaged, or the server answered with something else.`);
    }
  }

  async file(name: string, signal?: AbortSignal, cache?: RequestCache): Promise<ArrayBuffer> {
    const response = await this.ask(name, {}, signal, cache);
    const bytes = await response.arrayBuffer();
    this.traffic.bytes += bytes.byteLength;
    return bytes;
  }

  /** Bytes `start` to `end` of a file of `length` bytes. */
  async range(name: string, start: number, end: number, length: number): Promise<ArrayBuffer> {
    const kept = this.whole.get(name);
    if (kept) return kept.slice(start, end);
    // A request costs more than a few kilobytes.
    if (!this.ranges || length <= 65_536) return (await this.entire(name)).slice(start, end);
    let response: Response;
    try {
      response = await this.ask(name, { Range: `bytes=${start}-${end - 1}` });
    } catch (error) {
      if (error instanceof MissingFile || (error as Error).name === "AbortError") throw error;
      // 416 (GitHub Pages under gzip), or a bucket whose CORS rules refuse the header.
      this.ranges = false;
      return (await this.entire(name)).slice(start, end);
    }
    const bytes = await response.arrayBuffer();
    this.traffic.bytes += bytes.byteLength;
    if (response.status === 206) return bytes;
    this.ranges = false;
    this.whole.set(name, bytes, bytes.byteLength);
    return bytes.slice(start, end);
  }

  private entire(name: string): Promise<ArrayBuffer> {
    const kept = this.whole.get(name);
    if (kept) return Promise.resolve(kept);
    let promise = this.pending.get(name);
    if (!promise) {
      promise = this.file(name)
        .then((bytes) => {
          this.whole.set(name, bytes, bytes.byteLength);
          return bytes;
        })
        .finally(() => this.pending.delete(name));
      this.pending.set(name, promise);
    }
    return promise;
  }

  private async ask(name: string, headers: Record<string, string>, signal?: AbortSignal, cache?: RequestCache): Promise<Response> {
    if (this.missing.has(name)) throw new MissingFile(`${name} is missing on the server.`);
    this.traffic.requests += 1;
    const response = await this.get(this.url(name), { headers, signal, cache, credentials: "same-origin" });
    if (response.status === 404 || response.status === 410) {
      this.missing.add(name);
      throw new MissingFile(`${name} is missing on the server.`);
    }
    if (!response.ok) throw new ViewerError(`The server answered ${response.status} for ${name}.`);
    return response;
  }
}
