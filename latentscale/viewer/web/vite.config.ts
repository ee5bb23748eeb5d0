import { defineConfig } from "vite";

// Everything is relative: the site is served below any path, from any server.
export default defineConfig({
  base: "./",
  resolve: { conditions: ["visgl:webgl-only", "browser", "import", "module", "default"] },
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
