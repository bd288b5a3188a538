// The picture on Start: the map's own script in a frame, which stays while other layers are chosen. Called again for each change
// of layers and of Streamlit's theme.

const COLOURS = ["primary-color", "background-color", "secondary-background-color", "text-color"];

export default function ({ data: [data], parentElement }) {
  const frame = parentElement.querySelector("iframe");
  const scene = JSON.stringify(data.base);
  const draw = () => {
    const { style } = frame.contentDocument.documentElement;
    const theme = getComputedStyle(frame);
    for (const name of COLOURS) style.setProperty(`--${name}`, theme.getPropertyValue(`--st-${name}`));
    frame.contentWindow.kdcoreMap.show(data.wanted);
  };
  frame.title = data.title;
  frame.style.height = data.height;
  if (frame.drawn === scene) {
    draw();
    return;
  }
  frame.onload = () => {
    const { L, kdcoreMap } = frame.contentWindow;
    const { base } = data;
    const centre = L.latLngBounds(base.bounds).getCenter();
    kdcoreMap.start(L.map("map_div", { ...base.options, center: centre, zoom: base.native }), base);
    frame.drawn = scene;
    draw();
  };
  if (frame.asked === scene) return;
  frame.asked = scene;
  frame.src = new URL("leaflet/kdcore/map.html", document.baseURI);
}
