import { describe, expect, it } from "vitest";
import { imageAddress } from "../src/engine/image-address";

const base = "https://maps.example.org/some/map/";
const of = (value: unknown) => imageAddress(value, base, ["https://images.example.org", "http://127.0.0.1:8000"]);

describe("addresses of images", () => {
  it("are those of named origins, and of the map's own folder", () => {
    expect(of("https://images.example.org/a.jpg?w=3#x")).toEqual({ href: "https://images.example.org/a.jpg?w=3#x" });
    expect(of(" http://127.0.0.1:8000/b.png ")).toEqual({ href: "http://127.0.0.1:8000/b.png" });
    expect(of("images/日 本.png")).toEqual({ href: `${base}images/%E6%97%A5%20%E6%9C%AC.png` });
  });

  it("are told from those of other places, whose hosts are named", () => {
    for (const other of ["https://evil.example.org/a.png", "//evil.example.org/a.png", "https://images.example.org.evil.example.org/a", "https://evil.example.org:443/x"])
      expect((of(other) as { problem: string }).problem).toMatch(/^Images of .*evil\.example\.org.* are not shown/);
    expect((of("http://images.example.org/a.png") as { problem: string }).problem).toContain("are not shown");
    for (const outside of ["../secret.png", "/admin/delete?id=1", "images/../../x.png", "..%2f/../../../y"])
      expect(of(outside)).toEqual({ problem: "This image is outside the map's folder." });
  });

  it("are nothing that runs, holds data, or is no text", () => {
    const payloads = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:image/svg+xml,<svg onload=alert(1)>", "blob:https://images.example.org/1", "file:///etc/passwd"];
    for (const value of [...payloads, "vbscript:x", "java\nscript:alert(1)", "https://user:pass@images.example.org/a.png", "\\\\evil\\a", "", " ", 7, {}, ["a.png"], "a".repeat(2001), "https://"])
      expect(of(value)).toEqual({ problem: "This is not the address of an image." });
    // Markup is a file's name here, and an attribute of no element.
    expect(of('x" onerror="alert(1)')).toEqual({ href: `${base}x%22%20onerror=%22alert(1)` });
  });
});
