/** The deck.gl renderer and its pan and zoom controller: the largest script, loaded after the first picture. */

import { Deck, OrthographicView } from "@deck.gl/core";
import type { Camera, MapCamera } from "./camera";
import { PyramidLayer, type PyramidLayerProps } from "./pyramid-layer";

const CONTROLLER = { scrollZoom: { speed: 0.01, smooth: true }, inertia: 220, doubleClickZoom: true, keyboard: false };

export interface DrawingHost {
  canvas: HTMLCanvasElement;
  camera: MapCamera;
  /** Whether the controller of the flat map is enabled initially. */
  flat: boolean;
  /** The WebGL device is ready; `software` tells whether it is a software renderer. */
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
      // Points are antialiased in the shader; multisampling would cost four times the memory for nothing.
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

  /** Enable or disable the controller of the flat map. */
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
