/**
 * HTTP access: relative URLs, range requests with a fallback, retries with back-off, a record of missing files, a
 * bounded cache.
 */

import { ViewerError } from "./format";

export class MissingFile extends ViewerError {}

export interface Traffic {
  requests: number;
  bytes: number;
}

/** Back-off in ms between attempts, if the server did not answer or failed. */
const PAUSES = [300, 1500];

/** LRU cache, bounded by the total size of its values. */
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

  clear(): void {
    this.entries.clear();
    this.total = 0;
  }

  get size(): number {
    return this.total;
  }
}

interface RequestOptions {
  range?: string;
  signal?: AbortSignal;
  cache?: RequestCache;
}

export class Store {
  readonly traffic: Traffic = { requests: 0, bytes: 0 };
  private readonly missing = new Set<string>();
  private readonly whole = new Cache<ArrayBuffer>(24 << 20);
  private readonly pending = new Map<string, Promise<ArrayBuffer>>();
  /** False once the server has answered a range request with the whole file: retrying would only waste traffic. */
  private ranges = true;
  /** Set on a retry: the browser may have cached a damaged copy. */
  private fresh: RequestCache | undefined;

  constructor(
    private readonly base: string,
    private readonly get: typeof fetch = fetch.bind(globalThis),
    private readonly pauses: readonly number[] = PAUSES,
  ) {}

  url(name: string): string {
    return new URL(name, this.base).href;
  }

  /** Discard caches, so that missing or damaged files are requested again. */
  forget(): void {
    this.missing.clear();
    this.whole.clear();
    this.fresh = "no-cache";
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
    return (await this.ask(name, { signal, cache })).bytes;
  }

  /** Bytes `start` to `end` of a file of `length` bytes. */
  async range(name: string, start: number, end: number, length: number): Promise<ArrayBuffer> {
    const cached = this.whole.get(name);
    if (cached) return cached.slice(start, end);
    // Small files are read whole: a request costs more than a few kilobytes.
    if (!this.ranges || length <= 65_536) return (await this.entire(name)).slice(start, end);
    let answer: { status: number; bytes: ArrayBuffer };
    try {
      answer = await this.ask(name, { range: `bytes=${start}-${end - 1}` });
    } catch (error) {
      if (error instanceof MissingFile || (error as Error).name === "AbortError") throw error;
      // 416 (GitHub Pages under gzip), or a bucket whose CORS rules refuse the header.
      this.ranges = false;
      return (await this.entire(name)).slice(start, end);
    }
    if (answer.status === 206) return answer.bytes;
    this.ranges = false;
    this.whole.set(name, answer.bytes, answer.bytes.byteLength);
    return answer.bytes.slice(start, end);
  }

  private entire(name: string): Promise<ArrayBuffer> {
    const cached = this.whole.get(name);
    if (cached) return Promise.resolve(cached);
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

  private async ask(name: string, { range, signal, cache = this.fresh }: RequestOptions): Promise<{ status: number; bytes: ArrayBuffer }> {
    // A failed range request falls back to the whole file, which is retried.
    const pauses = range ? [] : this.pauses;
    for (let attempt = 0; ; attempt++) {
      if (this.missing.has(name)) throw new MissingFile(`${name} is missing on the server.`);
      this.traffic.requests += 1;
      let problem: string;
      try {
        const headers: Record<string, string> = range ? { Range: range } : {};
        const response = await this.get(this.url(name), { headers, signal, cache, credentials: "same-origin" });
        const { status } = response;
        if (response.ok) {
          const bytes = await response.arrayBuffer();
          this.traffic.bytes += bytes.byteLength;
          return { status, bytes };
        }
        if (status === 404 || status === 410) {
          this.missing.add(name);
          continue;
        }
        problem = `The server answered ${status} for ${name}.`;
        if (status < 500 && status !== 429) throw new ViewerError(problem);
      } catch (error) {
        if (error instanceof ViewerError || (error as Error).name === "AbortError") throw error;
        problem = `${name} did not arrive: the server is not there, broke off, or does not allow this page to read it (CORS).`;
      }
      if (attempt >= pauses.length) throw new ViewerError(problem);
      await new Promise((done) => setTimeout(done, pauses[attempt]));
      if (signal?.aborted) throw new DOMException("The request was given up.", "AbortError");
    }
  }
}

/** Run a decoder for the file `name`; its errors are rethrown with the file's name. */
export async function decodeFile<T>(name: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ViewerError || (error as Error).name === "AbortError") throw error;
    throw new ViewerError(`${name} is damaged or cut off: ${(error as Error).message}.`);
  }
}
