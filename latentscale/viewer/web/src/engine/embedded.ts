/** Single-file pages: all data is embedded in the HTML, and nothing is requested. */

/** URL scheme of embedded files. */
const ORIGIN = "page:/";
export const EMBEDDED_BASE = `${ORIGIN}viewer/index.html`;

/** A replacement for `fetch` that serves the embedded files; null if the files are separate. */
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
