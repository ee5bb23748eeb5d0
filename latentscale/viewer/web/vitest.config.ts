import { readdirSync, readFileSync } from "node:fs";
import { defineConfig, mergeConfig } from "vitest/config";
import site from "./vite.config";

const folder = new URL("tests/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".test.ts"));
/** Tests of the engine alone, whose modules keep nothing: they share one instance of it, compiled and optimised once. */
const ofEngine = files.filter((name) => !/from "\.\.\/src\/(?!engine\/)/.test(readFileSync(new URL(name, folder), "utf8")));
const others = files.filter((name) => !ofEngine.includes(name));
const paths = (names: readonly string[]) => names.map((name) => `tests/${name}`);

export default mergeConfig(
  site,
  defineConfig({
    test: {
      // No test is about time: on a busy machine one that reads a map of forty thousand points takes many seconds.
      testTimeout: 300_000,
      hookTimeout: 300_000,
      // One process: others would compile the same again.
      fileParallelism: false,
      projects: [
        { extends: true, test: { name: "engine", include: paths(ofEngine), isolate: false } },
        { extends: true, test: { name: "page", include: paths(others) } },
      ],
    },
  }),
);
