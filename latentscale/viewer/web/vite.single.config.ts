import { fileURLToPath } from "node:url";
import { defineConfig, mergeConfig, type Plugin } from "vite";
import { leaveOut } from "./leave-out";
import site from "./vite.config";

/** Nothing beside the one script: its page may start no worker. */
function alone(): Plugin {
  return {
    name: "alone",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        for (const name of Object.keys(bundle)) if (name !== "main.js") delete bundle[name];
      },
    },
  };
}

// The script of a page that is one file: all in one, since a page that is opened as a file can load no second one.
export default mergeConfig(
  { ...site, plugins: [leaveOut(), alone()] },
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
