import { defineConfig, mergeConfig } from "vitest/config";
import site from "./vite.config";

// No test is about time: on a busy machine one that reads a map of forty thousand points takes many seconds.
export default mergeConfig(site, defineConfig({ test: { testTimeout: 300_000, hookTimeout: 300_000 } }));
