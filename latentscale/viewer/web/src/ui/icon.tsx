/** Inline SVG line icons: no icon font or file to fetch. */

const PATHS = {
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  whole: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4",
  home: "M10 3.2v3M10 13.8v3M3.2 10h3M13.8 10h3M10 7.4a2.6 2.6 0 1 0 0 5.2 2.6 2.6 0 0 0 0-5.2",
  sun: "M10 6.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8M10 2v1.6M10 16.4V18M2 10h1.6M16.4 10H18M4.3 4.3l1.2 1.2M14.5 14.5l1.2 1.2M4.3 15.7l1.2-1.2M14.5 5.5l1.2-1.2",
  moon: "M16 11.8A6.5 6.5 0 0 1 8.2 4a6.5 6.5 0 1 0 7.8 7.8",
  space: "M10 2.6l6.4 3.7v7.4L10 17.4l-6.4-3.7V6.3zM10 10l6.4-3.7M10 10v7.4M10 10L3.6 6.3",
  play: "M6.5 4.5l9 5.5-9 5.5z",
  pause: "M7 4.5v11M13 4.5v11",
  points: "M3 6h7M14 6h3M12 4v4M3 14h3M10 14h7M8 12v4",
  help: "M7.4 7.6a2.6 2.6 0 1 1 3.9 2.3c-.9.5-1.3 1-1.3 2M10 14.9v.2",
  close: "M5 5l10 10M15 5L5 15",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  menu: "M3 6h14M3 10h14M3 14h14",
} as const;

/** A named icon, or a custom path on a 20 × 20 grid. */
export function Icon({ name, path }: { name: keyof typeof PATHS; path?: never } | { name?: never; path?: string }) {
  return (
    <svg class="glyph" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
      <path d={name ? PATHS[name] : (path ?? PATHS.menu)} />
    </svg>
  );
}
