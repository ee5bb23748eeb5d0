/** A page that is one file: what it would fetch is in the file itself, and nothing is asked of anybody. */

/** Addresses of a workspace that is nowhere but in the page. */
const ORIGIN = "page:/";
export const EMBEDDED_BASE = `${ORIGIN}viewer/index.html`;

/** In place of `fetch`; null for a page whose files are beside it. */
export function embeddedFiles(): typeof fetch | null {
  const node = document.getElementById("files");
  if (!node) return null;
  const files = new Map(Object.entries(JSON.parse(node.textContent!) as Record<string, string>));
  node.remove();
  return (input) => {
    const text = files.get(decodeURI(String(input).slice(ORIGIN.length)));
    if (text === undefined) return Promise.resolve(new Response(null, { status: 404 }));
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return Promise.resolve(new Response(bytes));
  };
}
