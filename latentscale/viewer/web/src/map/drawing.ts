/** deck.gl, and the hand on the map: a script larger than all the rest, which comes when the first picture is there. */

import { Deck, OrthographicView } from "@deck.gl/core";
import type { Camera, MapCamera } from "./camera";
import { PyramidLayer, type PyramidLayerProps } from "./pyramid-layer";

const CONTROLLER = { scrollZoom: { speed: 0.01, smooth: true }, inertia: 220, doubleClickZoom: true, keyboard: false };

export interface DrawingHost {
  canvas: HTMLCanvasElement;
  camera: MapCamera;
  /** Whether the hand moves the flat map at first. */
  flat: boolean;
  /** There is a graphics processor, or software in its place. */
  started(software: boolean): void;
  resized(): void;
  rendered(): void;
  failed(error: Error): void;
  lost(): void;
  cursor(dragging: boolean): string;
}

export class Drawing {
  private readonly deck: Deck<OrthographicView>;

  constructor({ canvas, camera, flat, ...host }: DrawingHost) {
    this.deck = new Deck({
      canvas,
      width: "100%",
      height: "100%",
      views: new OrthographicView({ id: "map", flipY: false }),
      controller: flat && CONTROLLER,
      // Points smooth their own edges: samples of each pixel would cost four times the memory, and show nothing more.
      deviceProps: { webgl: { antialias: false } },
      viewState: viewState(camera.place),
      layers: [],
      onViewStateChange: ({ viewState }) => {
        const { target, zoom } = viewState as { target: number[]; zoom: number };
        camera.take({ x: target[0], y: target[1], zoom });
        return viewState;
      },
      onDeviceInitialized: (device) => {
        host.started(device.info.gpu === "software" || /swiftshader|llvmpipe|software/i.test(device.info.renderer));
        device.lost.then(() => host.lost());
      },
      onResize: () => host.resized(),
      onAfterRender: () => host.rendered(),
      onError: (error) => host.failed(error),
      getCursor: ({ isDragging }) => host.cursor(isDragging),
    });
  }

  follow(place: Camera): void {
    this.deck.setProps({ viewState: viewState(place) as never });
  }

  /** Whether the hand moves the flat map, or nothing of deck.gl's. */
  steer(flat: boolean): void {
    this.deck.setProps({ controller: flat && CONTROLLER });
  }

  points(looks: PyramidLayerProps): void {
    this.show(new PyramidLayer(looks));
  }

  show(layer: PyramidLayer): void {
    this.deck.setProps({ layers: [layer] });
  }

  end(): void {
    this.deck.finalize();
  }
}

const viewState = ({ x, y, zoom }: Camera) => ({ target: [x, y, 0] as [number, number, number], zoom });
