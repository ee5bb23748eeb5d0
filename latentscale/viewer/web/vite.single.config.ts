import { fileURLToPath } from "node:url";
import { defineConfig, mergeConfig } from "vite";
import { leaveOut } from "./leave-out";
import site from "./vite.config";

// The script of a page that is one file: all in one, since a page that is opened as a file can load no second one.
export default mergeConfig(
  { ...site, plugins: [leaveOut()] },
  defineConfig({
    build: {
      outDir: "../static/single",
      license: false,
      rollupOptions: {
        input: fileURLToPath(new URL("src/main.tsx", import.meta.url)),
        output: { entryFileNames: "main.js", codeSplitting: false },
      },
    },
  }),
);
