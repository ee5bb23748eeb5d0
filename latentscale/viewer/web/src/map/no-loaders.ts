/** Stub for loaders.gl, with which deck.gl would fetch data and images: this page does all fetching itself. */

export const ImageLoader = {};

export const registerLoaders = (): void => undefined;

export const load = (): never => {
  throw new Error("this page gives deck.gl no URL to load");
};
