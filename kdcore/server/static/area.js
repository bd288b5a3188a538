/* A box on a map: drag one, or take what is seen. kdcoreArea.start(map, base) is called once; `base` is made by
   kdcore/views/maps.py. The box is told by the event that Leaflet.draw would fire, which streamlit-folium listens to.
   Text is only ever set as text. */
"use strict";

window.kdcoreArea = (() => {
  const LEAST = 4; // pixels: less is a click, not a box
  let map, base, drawButton, status, box, from, drawing = false;

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function remember(key, value) {
    try {
      sessionStorage.setItem(`kdcore area ${base.study} ${key}`, JSON.stringify(value));
    } catch {
      /* storage is switched off: nothing is remembered */
    }
  }

  function recall(key) {
    try {
      return JSON.parse(sessionStorage.getItem(`kdcore area ${base.study} ${key}`));
    } catch {
      return null;
    }
  }

  /* ---- the box ---- */

  function sides(across, down) {
    const [size, unit] = Math.max(across, down) < 1000 ? [1, "m"] : [1000, "km"];
    const digits = Math.max(across, down) < 100 * size && size > 1 ? 1 : 0;
    return `${(across / size).toFixed(digits)} × ${(down / size).toFixed(digits)} ${unit}`;
  }

  function put(bounds) {
    if (box) box.setBounds(bounds);
    else box = L.rectangle(bounds, { color: "#d55e00", weight: 3, fillOpacity: 0.12, interactive: false }).addTo(map);
    const middle = bounds.getCenter();
    const across = map.distance([middle.lat, bounds.getWest()], [middle.lat, bounds.getEast()]);
    const down = map.distance([bounds.getSouth(), middle.lng], [bounds.getNorth(), middle.lng]);
    status.textContent = `Box: ${sides(across, down)}`;
  }

  function tell(bounds) {
    put(bounds);
    remember("box", [[bounds.getSouth(), bounds.getWest()], [bounds.getNorth(), bounds.getEast()]]);
    map.fire("draw:created", { layer: box, layerType: "rectangle" });
  }

  function inWorld(bounds) {
    const clip = (value, most) => Math.max(-most, Math.min(most, value));
    return L.latLngBounds([clip(bounds.getSouth(), 85), clip(bounds.getWest(), 180)], [clip(bounds.getNorth(), 85), clip(bounds.getEast(), 180)]);
  }

  function setDrawing(on) {
    drawing = on;
    from = null;
    drawButton.setAttribute("aria-pressed", on);
    map.getContainer().style.cursor = on ? "crosshair" : "";
    map.dragging[on ? "disable" : "enable"]();
    if (on) status.textContent = "Press on the map and drag to the opposite corner.";
    else if (!box) status.textContent = "";
  }

  function listen(container) {
    container.addEventListener("pointerdown", (event) => {
      if (!drawing || event.target.closest(".leaflet-control")) return;
      container.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY, place: map.mouseEventToLatLng(event) };
    });
    container.addEventListener("pointermove", (event) => {
      if (from) put(inWorld(L.latLngBounds(from.place, map.mouseEventToLatLng(event))));
    });
    container.addEventListener("pointerup", (event) => {
      if (!from) return;
      const bounds = inWorld(L.latLngBounds(from.place, map.mouseEventToLatLng(event)));
      const small = Math.min(Math.abs(event.clientX - from.x), Math.abs(event.clientY - from.y)) < LEAST;
      from = null;
      if (small) return;
      setDrawing(false);
      tell(bounds);
    });
    container.addEventListener("pointercancel", () => (from = null));
    window.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && drawing) setDrawing(false);
    });
  }

  /* ---- the map around it ---- */

  function fill() {
    const bar = document.querySelector(".kdcore-bar");
    document.getElementById("map_div").style.height = `${Math.max(120, window.innerHeight - bar.offsetHeight)}px`;
    map.invalidateSize({ animate: false });
  }

  function start(given, settings) {
    map = given;
    base = settings;
    map.attributionControl.setPrefix("Leaflet");
    if (base.basemap) {
      const credit = '&copy; <a href="https://www.openstreetmap.org/copyright" target="_blank" rel="noopener">OpenStreetMap</a>';
      L.tileLayer("https://tile.openstreetmap.org/{z}/{x}/{y}.png", { maxNativeZoom: 19, attribution: credit }).addTo(map);
    }
    L.tileLayer(`${base.root}/${base.background}`, { bounds: base.bounds, maxNativeZoom: base.deepest, noWrap: true }).addTo(map);
    L.rectangle(base.bounds, { fill: false, color: "#888", weight: 1, interactive: false }).addTo(map);
    L.control.scale({ imperial: false }).addTo(map);

    drawButton = element("button", { type: "button", "aria-pressed": "false", onclick: () => setDrawing(!drawing) }, "Draw a box");
    const seen = element("button", { type: "button", onclick: () => { setDrawing(false); tell(inWorld(map.getBounds().pad(-0.04))); } }, "Take what is seen");
    const home = element("button", { type: "button", onclick: () => map.fitBounds(base.bounds, { animate: false }) }, "Go to the scene");
    status = element("span", { role: "status" });
    const bar = element("div", { class: "kdcore-bar" }, element("span", { class: "kdcore-sliders" }, drawButton, seen, home), status);
    document.body.prepend(bar);
    new ResizeObserver(fill).observe(bar);
    window.addEventListener("resize", fill);

    const view = recall("view");
    if (view) map.setView([view[0], view[1]], view[2], { animate: false });
    else map.fitBounds(L.latLngBounds(base.bounds).pad(0.6), { animate: false });
    map.on("moveend", () => remember("view", [map.getCenter().lat, map.getCenter().lng, map.getZoom()]));
    const kept = recall("box");
    if (kept) put(L.latLngBounds(kept));
    const container = map.getContainer();
    container.setAttribute("role", "region");
    container.setAttribute("aria-label", "Map to draw the area on");
    listen(container);
  }

  return { start, map: () => map };
})();
