/** Tests texts against a regular expression in a worker, with a timeout. */

import { ViewerError } from "./format";

/** Timeout for the texts of one file. */
const TIMEOUT_MS = 20_000;
const TIMEOUT_MESSAGE = `this expression takes more than ${TIMEOUT_MS / 1000} seconds over the texts of one file: avoid nested repetitions.`;

/** Tests batches of values against a regular expression; `end` terminates the worker. */
export class PatternMatcher {
  private readonly worker: Worker;
  private last: Promise<unknown> = Promise.resolve();
  private ended: Error | null = null;
  private failed: ((why: Error) => void) | null = null;

  constructor(private readonly pattern: string) {
    this.worker = new Worker(new URL("./pattern-worker.ts", import.meta.url), { type: "module" });
  }

  /** Mask of the values that match; missing values do not. */
  match(values: readonly unknown[]): Promise<Uint8Array> {
    const texts = values.map((value) => (value === null || value === undefined ? null : String(value)));
    const own = this.last.then(() => this.ask(texts));
    this.last = own.catch(() => undefined);
    return own;
  }

  end(): void {
    this.stop(new ViewerError("the expression is not asked for any more."));
  }

  private stop(why: Error): void {
    this.worker.terminate();
    this.ended = why;
    this.failed?.(why);
  }

  private async ask(texts: (string | null)[]): Promise<Uint8Array> {
    let timer = 0;
    try {
      return await new Promise((found, failed) => {
        if (this.ended) return failed(this.ended);
        this.failed = failed;
        this.worker.onmessage = ({ data }: MessageEvent<Uint8Array>) => found(data);
        this.worker.onerror = ({ message }) => this.stop(new ViewerError(`the expression cannot be tried: ${message || "this browser allows the page no worker"}.`));
        timer = window.setTimeout(() => this.stop(new ViewerError(TIMEOUT_MESSAGE)), TIMEOUT_MS);
        this.worker.postMessage({ pattern: this.pattern, texts });
      });
    } finally {
      clearTimeout(timer);
    }
  }
}
