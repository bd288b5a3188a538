/* The map in the browser: swipe, side by side, opacity, threshold, class switches, and a click for the numbers.

   kdcoreMap.start(map, base) is called once for a scene; kdcoreMap.show(wanted) whenever a person chooses other layers, which
   changes the map in place. `base` and `wanted` are made by kdcore/views/map_layers.py. Text is only ever set as text. */
"use strict";

window.kdcoreMap = (() => {
  const SMOOTH = 200; // milliseconds after which a moved threshold asks for other tiles
  let base, wanted, tools, bar, swipe, timer, outline, moving;
  let moved = false; // whether a person (or a remembered view) has chosen the view
  let pinned = false; // whether the page's address has: the first tile that is outlined does not move the map then
  const left = { overlay: null, shown: null, pane: "kdcore-left" };
  const right = { overlay: null, shown: null, pane: "kdcore-right" };
  const maps = { main: null, second: null };
  const photos = new Map(); // the imagery under the layers of each map

  /* ---- small helpers ---- */

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class") made.className = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function remember(key, value) {
    try {
      sessionStorage.setItem(`kdcore map ${key}`, JSON.stringify(value));
    } catch {
      /* storage is switched off: nothing is remembered */
    }
  }

  function recall(key) {
    try {
      return JSON.parse(sessionStorage.getItem(`kdcore map ${key}`));
    } catch {
      return null;
    }
  }

  /* The page's address holds view and threshold, so that it can be sent to someone. */
  function inAddress() {
    return new URL(window.parent.location.href).searchParams;
  }

  function toAddress(key, value) {
    if (!base.linked) return;
    const url = new URL(window.parent.location.href);
    url.searchParams.set(key, value);
    window.parent.history.replaceState(window.parent.history.state, "", url);
  }

  function viewInAddress() {
    const [scene, ...numbers] = (inAddress().get("place") ?? "").split(",");
    const view = numbers.map(Number);
    return base.linked && scene === base.scene && view.length === 3 && view.every(Number.isFinite) ? view : null;
  }

  function thresholdInAddress() {
    const threshold = Number(inAddress().get("threshold") ?? NaN);
    return base.linked && threshold >= 0.01 && threshold <= 0.99 ? { threshold } : {};
  }

  const keepTools = () => remember(base.study, tools);
  const percent = (share) => `${Math.round(100 * share)} %`;

  function address(path) {
    const query = [`threshold=${tools.threshold.toFixed(2)}`];
    if (tools.hidden.length) query.push(`hide=${tools.hidden.join(",")}`);
    return `${base.root}/${path}${path.includes("?") ? "&" : "?"}${query.join("&")}`;
  }

  /* ---- layers ---- */

  function tiles(path, pane, options = {}) {
    const layer = L.tileLayer(path, {
      bounds: base.bounds, minZoom: 0, maxZoom: base.deepest, maxNativeZoom: base.deepest, noWrap: true, pane, ...options,
    });
    layer.on("tileerror", (event) => explain(event.tile.src));
    return layer;
  }

  async function explain(source) {
    let text = "The dashboard does not answer. Is it still running?";
    try {
      const answer = await fetch(source);
      if (answer.ok) return; // nothing lies there, or it came at the second try
      text = (await answer.json()).error;
    } catch {
      /* keep the sentence */
    }
    bar.querySelector(".kdcore-status").textContent = text;
  }

  function put(side, layer, map) {
    const unchanged = side.shown && side.map === map && side.shown.path === layer.path;
    side.shown = layer;
    if (unchanged) return;
    if (side.overlay) side.overlay.remove();
    side.map = map;
    side.overlay = layer.path
      ? tiles(address(layer.path), side.pane, { opacity: tools.opacity, className: "kdcore-pixels" }).addTo(map)
      : null;
  }

  function redraw() {
    for (const { overlay, shown } of [left, right]) if (overlay) exchange(overlay, address(shown.path));
  }

  function lay(path) {
    for (const map of Object.values(maps)) {
      if (photos.has(map)) exchange(photos.get(map), path);
      else if (map) photos.set(map, tiles(path, "kdcore-imagery").addTo(map));
    }
  }

  /* Each picture stays until its successor has come, so that the map does not flicker. */
  function exchange(layer, path) {
    if (layer._url === path) return;
    layer.setUrl(path, true);
    for (const { coords, el } of Object.values(layer._tiles ?? {})) {
      if (coords.z === layer._tileZoom) el.src = layer.getTileUrl(coords);
    }
  }

  function prepare(map, sides) {
    map.attributionControl.setPrefix("Leaflet");
    if (base.basemap) {
      const credit = '&copy; <a href="https://www.openstreetmap.org/copyright" target="_blank" rel="noopener">OpenStreetMap</a>';
      L.tileLayer("https://tile.openstreetmap.org/{z}/{x}/{y}.png", { maxNativeZoom: 19, maxZoom: base.deepest, attribution: credit }).addTo(map);
    }
    for (const side of sides) map.createPane(side.pane).style.zIndex = 410;
    map.createPane("kdcore-outline").style.zIndex = 420; // of a tile, above the layers
    map.createPane("kdcore-imagery").style.zIndex = 205; // above streets, below the layers
    light(map);
    if (!base.simple) tellCursor(map);
    L.rectangle(base.bounds, { fill: false, color: "#888", weight: 1, interactive: false }).addTo(map);
    (base.unit === "pixels" ? new PixelScale({ imperial: false }) : L.control.scale({ imperial: false })).addTo(map);
    map.on("click", (event) => ask(map, event.latlng));
    map.on("keypress", (event) => {
      if (event.originalEvent.key === "Enter") ask(map, map.getCenter());
    });
    const container = map.getContainer();
    container.setAttribute("role", "region");
    for (const kind of ["pointerdown", "wheel", "keydown"]) container.addEventListener(kind, () => (moved = true));
    map.on("moveend", () => {
      if (!moved) return;
      const { lat, lng } = map.getCenter();
      remember(`${base.study} ${base.scene}`, [lat, lng, map.getZoom()]);
      toAddress("place", [base.scene, lat.toFixed(6), lng.toFixed(6), map.getZoom()].join(","));
    });
  }

  /* Imagery alone gets brighter; masks keep their colours. */
  function light(map) {
    const usual = tools.brightness === 1 && tools.contrast === 1;
    map.getPane("kdcore-imagery").style.filter = usual ? "" : `brightness(${tools.brightness}) contrast(${tools.contrast})`;
  }

  function lightAll() {
    for (const map of Object.values(maps)) if (map) light(map);
  }

  /* Where the mouse is: degrees, or on a flat map the distance from the upper left corner. */
  function tellCursor(map) {
    const said = element("div", { class: "kdcore-cursor", hidden: "" });
    if (base.crs) said.title = `The imagery is in ${base.crs}; a click tells the place in it`;
    map.getContainer().append(said);
    const [[, west], [north]] = base.bounds;
    const corner = L.CRS.EPSG3857.project(L.latLng(north, west));
    map.on("mousemove", ({ latlng }) => {
      const { lat, lng } = latlng.wrap();
      const { x, y } = L.CRS.EPSG3857.project(latlng);
      const flat = `${(x - corner.x).toFixed(1)} right, ${(corner.y - y).toFixed(1)} down (${base.unit})`;
      said.textContent = base.crs ? `${lat.toFixed(6)}°, ${lng.toFixed(6)}° (WGS 84)` : flat;
      said.hidden = false;
    });
    map.on("mouseout", () => (said.hidden = true));
  }

  const PixelScale = L.Control.Scale.extend({
    _updateMetric(most) {
      const pixels = this._getRoundNum(most);
      this._updateScale(this._mScale, `${pixels} px`, pixels / most);
    },
  });

  /* ---- swipe ---- */

  function makeSwipe() {
    const input = element("input", {
      type: "range", min: 0, max: 100, step: 1, class: "kdcore-swipe-handle", "aria-label": "Swipe between the left and the right layer",
      oninput: () => slide(input.value / 100),
    });
    const grip = element("div", { class: "kdcore-swipe-grip", onpointerdown: grab, onpointermove: drag });
    const line = element("div", { class: "kdcore-swipe-line" }, element("span", { class: "kdcore-name" }), element("span", { class: "kdcore-name" }), grip);
    swipe = element("div", { class: "kdcore-swipe" }, line, input);
    for (const part of [input, grip]) L.DomEvent.disableClickPropagation(part);
    L.DomEvent.on(input, "keydown keypress", L.DomEvent.stopPropagation);
    const pane = maps.main.createPane("kdcore-swipe"); // above the layers, below a popup
    pane.style.zIndex = 650;
    pane.append(swipe);
    maps.main.on("move zoomend resize", clip);
  }

  function slide(share) {
    cancelAnimationFrame(moving);
    tools.swipe = Math.min(1, Math.max(0, share));
    keepTools();
    clip();
  }

  function grab(event) {
    event.target.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  function drag(event) {
    if (!event.target.hasPointerCapture(event.pointerId)) return;
    const frame = swipe.getBoundingClientRect();
    slide((event.clientX - frame.left) / frame.width);
  }

  /* Once for each study, so that everybody sees that the line can be moved. */
  function moveByItself() {
    if (!base.simple || recall(`${base.study} moved`) || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    remember(`${base.study} moved`, true);
    const [from, to, seconds, began] = [0.95, tools.swipe, 2.5, performance.now()];
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - began) / (1000 * seconds)));
      tools.swipe = from + (to - from) * (1 - (1 - share) ** 3);
      clip();
      if (share < 1) moving = requestAnimationFrame(step);
    };
    moving = requestAnimationFrame(step);
  }

  function clip() {
    if (!wanted) return; // the view was set before the first layers came
    const map = maps.main;
    const panes = [left, right].map((side) => map.getPane(side.pane));
    swipe.hidden = wanted.mode !== "swipe";
    if (swipe.hidden) {
      for (const pane of panes) pane.style.clip = "";
      return;
    }
    const size = map.getSize();
    const from = map.containerPointToLayerPoint([0, 0]);
    L.DomUtil.setPosition(swipe, from); // it stays while the map moves
    Object.assign(swipe.style, { width: `${size.x}px`, height: `${size.y}px` });
    const to = map.containerPointToLayerPoint(size);
    const edge = from.x + size.x * tools.swipe;
    panes[0].style.clip = `rect(${from.y}px, ${edge}px, ${to.y}px, ${from.x}px)`;
    panes[1].style.clip = `rect(${from.y}px, ${to.x}px, ${to.y}px, ${edge}px)`;
    const [line, input] = swipe.children;
    line.style.left = `${100 * tools.swipe}%`;
    [left, right].forEach((side, index) => (line.children[index].textContent = side.shown.name));
    input.value = Math.round(100 * tools.swipe);
    input.setAttribute("aria-valuetext", `${percent(tools.swipe)} ${left.shown.name}, the rest ${right.shown.name}`);
  }

  /* ---- side by side ---- */

  function arrange() {
    const beside = wanted.mode === "side";
    const parent = maps.main.getContainer().closest(".float-container");
    parent.classList.toggle("double", beside);
    parent.classList.toggle("single", !beside);
    if (beside && !maps.second) {
      const target = document.getElementById("map_div2");
      maps.second = L.map(target, { ...base.options, zoomControl: false, center: maps.main.getCenter(), zoom: maps.main.getZoom() });
      prepare(maps.second, [right]);
      follow(maps.main, maps.second);
      follow(maps.second, maps.main);
      for (const map of Object.values(maps)) map.getContainer().append(element("span", { class: "kdcore-name kdcore-side-name" }));
    }
  }

  let following = false;
  function follow(leader, follower) {
    leader.on("move", () => {
      if (following || wanted?.mode !== "side") return;
      following = true;
      const [centre, zoom] = [leader.getCenter(), leader.getZoom()];
      // setView would cut 4.999 pixels down to 4 where a map is an odd number of pixels high.
      if (zoom === follower.getZoom()) follower.panBy(follower.project(centre).subtract(follower.project(follower.getCenter())), { animate: false });
      else follower.setView(centre, zoom, { animate: false });
      following = false;
    });
    const dot = L.circleMarker([0, 0], { radius: 6, color: "#fff", weight: 2, fillColor: "#000", fillOpacity: 1, interactive: false });
    leader.on("mousemove", (event) => dot.setLatLng(event.latlng).addTo(follower));
    leader.on("mouseout", () => dot.remove());
  }

  function nameSides() {
    const shownMaps = wanted.mode === "side" ? [[maps.main, left], [maps.second, right]] : [];
    for (const name of document.querySelectorAll(".kdcore-side-name")) name.hidden = true;
    for (const [map, side] of shownMaps) {
      const name = map.getContainer().querySelector(".kdcore-side-name");
      name.hidden = false;
      name.textContent = side.shown.name;
      map.getContainer().setAttribute("aria-label", `Map of ${base.title}: ${side.shown.name}`);
    }
    if (!shownMaps.length) {
      maps.main.getContainer().setAttribute("aria-label", `Map of ${base.title}: ${left.shown.name} on the left, ${right.shown.name} on the right`);
    }
  }

  /* ---- the bar above the map ---- */

  function makeBar() {
    bar = element("div", { class: "kdcore-bar" },
      element("div", { class: "kdcore-legends" }),
      element("div", { class: "kdcore-sliders" }),
      element("div", { class: "kdcore-status", role: "status" }));
    document.body.prepend(bar);
    new ResizeObserver(fill).observe(bar);
    window.addEventListener("resize", fill);
  }

  function fillBar() {
    const groups = [];
    for (const { shown } of [left, right]) {
      if (!shown.legend.length) continue;
      const same = groups.find((group) => JSON.stringify(group.legend) === JSON.stringify(shown.legend));
      if (same) same.names.push(shown.name);
      else groups.push({ names: [shown.name], legend: shown.legend, kind: shown.kind });
    }
    bar.querySelector(".kdcore-legends").replaceChildren(...groups.map(legend));
    if (base.simple) return;
    const sliders = [slider("Opacity", 0, "opacity", () => [left, right].forEach((side) => side.overlay?.setOpacity(tools.opacity)))];
    if (left.shown.threshold || right.shown.threshold) {
      sliders.push(slider("Threshold", 2, "threshold", () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          redraw();
          toAddress("threshold", tools.threshold.toFixed(2));
        }, SMOOTH);
      }, 0.01, 0.99));
    }
    sliders.push(element("button", { type: "button", onclick: () => fit(false) }, "Whole scene"));
    const picture = element("details", { class: "kdcore-picture" }, element("summary", {}, "Imagery"),
      slider("Brightness", 2, "brightness", lightAll, 0.3, 4), slider("Contrast", 2, "contrast", lightAll, 0.3, 4));
    picture.open = tools.picture;
    picture.addEventListener("toggle", () => {
      tools.picture = picture.open;
      keepTools();
    });
    sliders.push(picture);
    bar.querySelector(".kdcore-sliders").replaceChildren(...sliders);
  }

  function legend({ names, legend, kind }) {
    const entries = legend.map((entry) => {
      const swatch = element("span", { class: "kdcore-swatch", style: `background:${entry.colour}` });
      if (entry.hide === null) return element("span", { class: "kdcore-entry" }, swatch, entry.name);
      const box = element("input", { type: "checkbox", onchange: () => toggle(entry.hide, box.checked) });
      box.checked = !tools.hidden.includes(entry.hide);
      return element("label", { class: "kdcore-entry" }, box, swatch, entry.name);
    });
    if (kind === "disagreement") entries.push(element("span", { class: "kdcore-entry" }, "no colour: both are right"));
    return element("div", { class: "kdcore-legend", role: "group", "aria-label": `Colours of ${names.join(" and ")}` },
      element("span", { class: "kdcore-legend-title" }, `${names.join(", ")}${names.at(-1).endsWith("?") ? "" : ":"}`), ...entries);
  }

  function toggle(index, shown) {
    tools.hidden = shown ? tools.hidden.filter((other) => other !== index) : [...tools.hidden, index].sort((a, b) => a - b);
    keepTools();
    redraw();
  }

  function slider(name, digits, key, react, low = 0, high = 1) {
    const show = () => (digits ? tools[key].toFixed(digits) : percent(tools[key]));
    const output = element("output", {}, show());
    const input = element("input", {
      type: "range", min: low, max: high, step: 0.01, "aria-label": name,
      oninput: () => {
        tools[key] = Number(input.value);
        output.textContent = show();
        keepTools();
        react();
      },
    });
    input.value = tools[key];
    return element("label", { class: "kdcore-slider" }, element("span", {}, name), input, output);
  }

  /* ---- size and view ---- */

  function fill() {
    const height = Math.max(120, window.innerHeight - bar.offsetHeight);
    for (const id of ["map_div", "map_div2"]) document.getElementById(id).style.height = `${height}px`;
    for (const map of Object.values(maps)) map?.invalidateSize({ pan: moved, animate: false });
    if (!moved) fit(true);
    clip();
  }

  /* The whole scene, as large as the frame allows; or as much of it as fills the frame, without growing its pixels further. */
  function fit(filled) {
    const map = maps.main;
    const whole = map.getBoundsZoom(base.bounds);
    const zoom = filled ? Math.max(whole, Math.min(map.getBoundsZoom(base.bounds, true), base.native + 2)) : whole;
    map.setView(L.latLngBounds(base.bounds).getCenter(), zoom, { animate: false });
  }

  function look(focus) {
    const there = pinned || !focus || tools.focus === focus.key;
    pinned = false;
    tools.focus = focus?.key ?? tools.focus;
    keepTools();
    if (there) return;
    moved = true;
    for (const map of Object.values(maps)) map?.closePopup();
    maps.main.fitBounds(focus.bounds, { animate: false, padding: [40, 40], maxZoom: base.native + 3 });
  }

  function frame(focus) {
    outline?.forEach((line) => line.remove());
    outline = focus
      ? Object.values(maps).filter(Boolean).flatMap((map) => [["#000", 5], ["#fff", 2]].map(([color, weight]) =>
          L.rectangle(focus.bounds, { fill: false, color, weight, interactive: false, pane: "kdcore-outline" }).addTo(map)))
      : [];
  }

  /* ---- a click tells the numbers ---- */

  async function ask(map, place) {
    const popup = L.popup({ maxWidth: 420, autoPanPaddingTopLeft: [64, 48] }).setLatLng(place).setContent(element("div", {}, "…")).openOn(map);
    let content;
    try {
      const query = `lat=${place.lat}&lng=${place.lng}&threshold=${tools.threshold.toFixed(2)}`;
      const answer = await fetch(`${base.root}/${base.point}?${query}`);
      const found = await answer.json();
      content = answer.ok ? describe(found) : element("p", {}, found.error);
    } catch {
      content = element("p", {}, "The dashboard does not answer. Is it still running?");
    }
    popup.setContent(content);
  }

  function describe(found) {
    if (!found.inside) return element("p", {}, "Nothing was tested here.");
    const known = base.runs.filter(({ run }) => run in found.runs);
    if (!known.length) return element("p", {}, "There is no imagery here.");
    const head = element("tr", {}, element("th", { scope: "col" }, "Probability of"), ...known.map(({ name }) => element("th", { scope: "col" }, name)));
    const rows = found.classes.map((name, index) => element("tr", {}, element("th", { scope: "row" }, name),
      ...known.map(({ run }) => element("td", {}, percent(found.runs[run].probabilities[index])))));
    const says = element("tr", { class: "kdcore-says" }, element("th", { scope: "row" }, "says"),
      ...known.map(({ run }) => element("td", {}, verdict(found.runs[run]))));
    const truth = found.truth === null ? "Truth: not known here." : `Truth: ${found.truth}.`;
    return element("div", { class: "kdcore-numbers" }, element("p", {}, `${truth} Row ${found.row}, column ${found.column}.`),
      ...(found.place ? [element("p", {}, `${base.crs}: ${found.place.map((number) => number.toFixed(found.digits)).join(", ")}`)] : []),
      element("table", {}, head, ...rows, says));
  }

  function verdict(said) {
    if (said.right === null) return said.class;
    return `${said.class}, ${said.right ? "right" : "wrong"}`;
  }

  /* ---- what is called from outside ---- */

  function start(map, given) {
    base = given;
    maps.main = map;
    tools = { swipe: 0.5, opacity: 0.7, threshold: 0.5, brightness: 1, contrast: 1, picture: false, hidden: base.hidden, focus: null, ...recall(base.study), ...thresholdInAddress() };
    makeBar();
    makeSwipe();
    fill(); // before there are layers: they ask for the tiles of one zoom only
    if (base.simple) {
      map.scrollWheelZoom.disable(); // the page is to scroll, not the map to zoom
      if (L.Browser.mobile) map.dragging.disable();
    }
    prepare(map, [left, right]);
    if (base.note) map.getContainer().append(element("div", { class: "kdcore-note" }, base.note));
    const sent = viewInAddress();
    pinned = sent !== null;
    const view = sent ?? recall(`${base.study} ${base.scene}`);
    if (view) {
      moved = true;
      map.setView([view[0], view[1]], view[2], { animate: false });
    }
  }

  function show(given) {
    wanted = given;
    bar.querySelector(".kdcore-status").textContent = "";
    arrange();
    lay(`${base.root}/${wanted.photo}`);
    put(left, wanted.left, maps.main);
    put(right, wanted.right, wanted.mode === "side" ? maps.second : maps.main);
    redraw();
    fillBar();
    nameSides();
    fill();
    look(wanted.focus);
    frame(wanted.focus);
    moveByItself();
  }

  return { start, show, maps, bounds: () => base.bounds, sides: { left, right }, tools: () => tools };
})();
