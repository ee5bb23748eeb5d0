import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const noLoaders = fileURLToPath(new URL("src/map/no-loaders.ts", import.meta.url));

// Everything is relative: the site is served below any path, from any server.
export default defineConfig({
  base: "./",
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
