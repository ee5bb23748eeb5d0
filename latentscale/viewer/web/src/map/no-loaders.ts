/** Replaces loaders.gl, by which deck.gl would fetch data and images: this page fetches all that it shows itself. */

export const ImageLoader = {};

export const registerLoaders = (): void => undefined;

export const load = (): never => {
  throw new Error("this page gives deck.gl no URL to load");
};
