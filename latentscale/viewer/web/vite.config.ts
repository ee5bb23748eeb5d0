import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";
import { leaveOut } from "./leave-out";

const noLoaders = fileURLToPath(new URL("src/map/no-loaders.ts", import.meta.url));

/** The script that is no module, and so runs before the page is drawn, and from a file. */
function early(): Plugin {
  const source = readFileSync(new URL("src/early.js", import.meta.url), "utf8");
  const fileName = `assets/early.${createHash("sha256").update(source).digest("hex").slice(0, 8)}.js`;
  return {
    name: "early",
    apply: "build",
    generateBundle() {
      this.emitFile({ type: "asset", fileName, source });
    },
    transformIndexHtml: {
      order: "post",
      // Without `crossorigin`, by which a browser would refuse the style to a page that was opened as a file.
      handler: (html) => ({
        html: html.replaceAll(" crossorigin", ""),
        tags: [{ tag: "script", attrs: { src: `./${fileName}` }, injectTo: "head" }],
      }),
    },
  };
}

// Everything is relative: the site is served below any path, from any server.
export default defineConfig({
  base: "./",
  plugins: [early(), leaveOut()],
  resolve: {
    conditions: ["visgl:webgl-only", "browser", "import", "module", "default"],
    // 14 kB gzipped that nothing here would call.
    alias: { "@loaders.gl/core": noLoaders, "@loaders.gl/images": noLoaders },
  },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    // The libraries' licences travel with their code.
    license: { fileName: "licenses.md" },
    chunkSizeWarningLimit: 1000,
    modulePreload: { polyfill: false },
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name].[hash].js",
        chunkFileNames: "assets/[name].[hash].js",
        assetFileNames: "assets/[name].[hash][extname]",
      },
    },
  },
});
