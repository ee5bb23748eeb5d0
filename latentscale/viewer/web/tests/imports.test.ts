import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const source = fileURLToPath(new URL("../src", import.meta.url));

/** What each file imports of the others, types too: a cycle of types is a cycle for whoever reads them. */
function imports(folder: string): Map<string, string[]> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /\.tsx?$/.test(name));
  return new Map(
    files.map((name) => {
      const file = join(folder, name);
      const found = [...readFileSync(file, "utf8").matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map(([, path]) => {
        const base = resolve(dirname(file), path);
        return [base, `${base}.ts`, `${base}.tsx`].find((one) => /\.(tsx?|json)$/.test(one) && existsSync(one)) ?? base;
      });
      return [name, found.map((path) => relative(folder, path)).filter((path) => !path.startsWith(".."))];
    }),
  );
}

function cycle(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): string[] | null => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
    if (done.has(name)) return null;
    for (const next of graph.get(name) ?? []) {
      const found = visit(next, [...path, name]);
      if (found) return found;
    }
    done.add(name);
    return null;
  };
  for (const name of graph.keys()) {
    const found = visit(name, []);
    if (found) return found;
  }
  return null;
}

it("no file imports itself through others", () => {
  const graph = imports(source);
  expect(graph.get("main.tsx")).toContain("ui/app.tsx");
  expect(graph.get("ui/panels.ts")).toContain("ui/panels/list.tsx");
  for (const [name, found] of graph) for (const path of found) expect(graph.has(path), `${name} imports ${path}`).toBe(true);
  expect(cycle(graph)).toBeNull();
});

it("a cycle would be found", () => {
  expect(cycle(new Map([["a", ["b"]], ["b", ["c"]], ["c", ["b"]]]))).toEqual(["b", "c", "b"]);
});

it("neither the engine nor the map knows of a panel", () => {
  for (const [name, found] of imports(source))
    if (/^(engine|map)\//.test(name) || name === "state.ts") expect(found.filter((path) => path.startsWith("ui/")), name).toEqual([]);
});
