/** Validation of image URLs from untrusted corpus text. */

/** The URL to load, or why none is. */
export type ImageAddress = { href: string } | { problem: string };

/**
 * @param value A non-null value of the column.
 * @param base The parent of the page's folder; relative addresses are resolved against it.
 * @param origins Further origins from which the content security policy allows images.
 */
export function imageAddress(value: unknown, base: string, origins: readonly string[]): ImageAddress {
  const text = typeof value === "string" ? value.trim() : "";
  if (!text || text.length > 2000 || /[\u0000-\u001f\\]/.test(text)) return { problem: "This is not the address of an image." };
  let url: URL;
  try {
    url = new URL(text, base);
  } catch {
    return { problem: "This is not the address of an image." };
  }
  if (url.username || url.password) return { problem: "This is not the address of an image." };
  if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(text)) {
    if (!/^https?:$/.test(url.protocol)) return { problem: "This is not the address of an image." };
    return origins.includes(url.origin) ? { href: url.href } : { problem: `Images of ${url.host} are not shown: publish.image_origins does not name it.` };
  }
  const baseUrl = new URL(base);
  // A document must not make the page request anything else from its server.
  if (url.origin !== baseUrl.origin || !url.pathname.startsWith(baseUrl.pathname)) return { problem: "This image is outside the map's folder." };
  return { href: url.href };
}
