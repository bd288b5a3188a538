// The race: two maps that are uncovered over the same photo, at the speed of their networks. All times in here are true seconds;
// `pace` of them pass within one second on screen, for both lanes alike.

const races = new WeakMap();

export default function (component) {
  const { data: [data], parentElement } = component;
  if (!races.has(parentElement)) races.set(parentElement, new Race(parentElement.querySelector(".race")));
  const race = races.get(parentElement);
  race.show(data);
  return () => {
    race.pause();
    races.delete(parentElement);
  };
}

function element(kind, className, text) {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function loaded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

class Race {
  constructor(root) {
    this.root = root;
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.frame = null;
    this.shown = null;
  }

  async show(data) {
    const key = JSON.stringify(data);
    if (key === this.shown) return; // the page was run again for another reason
    this.shown = key;
    this.pause();
    const photo = await loaded(data.photo);
    const pictures = await Promise.all(data.lanes.map((lane) => loaded(lane.picture)));
    if (key !== this.shown) return;
    this.data = data;
    this.end = Math.max(...data.lanes.map((lane) => lane.seconds.at(-1)));
    this.digits = this.end < 1 ? 3 : this.end < 10 ? 2 : 1;
    this.build(data, photo, pictures);
    if (this.still.matches) this.go(Math.min(...data.lanes.map((lane) => lane.seconds.at(-1))));
    else this.play();
  }

  build(data, photo, pictures) {
    this.lanes = data.lanes.map((lane, index) => new Lane(lane, photo, pictures[index]));
    const lanes = element("div", "lanes");
    lanes.append(...this.lanes.map((lane) => lane.node));
    this.button = element("button", "play");
    this.button.type = "button";
    this.button.onclick = () => (this.frame === null ? this.play() : this.pause());
    this.slider = element("input", "time");
    Object.assign(this.slider, { type: "range", min: 0, max: 1000, step: 1, value: 0 });
    this.slider.setAttribute("aria-label", "Moment of the race");
    this.slider.oninput = () => {
      this.pause();
      this.go((this.end * this.slider.value) / 1000, true);
    };
    const controls = element("div", "controls");
    this.status = element("span", "result");
    this.status.setAttribute("role", "status");
    controls.append(this.button, this.slider, this.status);
    this.root.replaceChildren(lanes, controls);
    this.root.style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
    this.go(0);
  }

  play() {
    if (this.now >= this.end) this.go(0);
    let before = performance.now();
    const tick = (moment) => {
      const passed = Math.min(1000, Math.max(0, moment - before)); // a hidden tab has no frames
      before = moment;
      this.go(this.now + (passed / 1000) * this.data.pace);
      this.frame = this.now < this.end ? requestAnimationFrame(tick) : null;
      if (this.frame === null) this.label();
    };
    this.frame = requestAnimationFrame(tick);
    this.label();
  }

  pause() {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    if (this.button) this.label();
  }

  go(moment, bySlider = false) {
    this.now = Math.min(this.end, moment);
    for (const lane of this.lanes) lane.go(this.now, this.digits);
    if (!bySlider) this.slider.value = (1000 * this.now) / this.end;
    const told = this.lanes.map((lane) => `${lane.data.name} ${Math.floor(100 * lane.share)} %`).join(", ");
    this.slider.setAttribute("aria-valuetext", `${this.now.toFixed(this.digits)} seconds: ${told}`);
    const ended = this.now >= this.end;
    const words = ended ? this.data.result : this.data.paceWords;
    if (this.status.textContent !== words) this.status.textContent = words;
    this.status.classList.toggle("ended", ended);
    this.label();
  }

  label() {
    this.button.textContent = this.frame !== null ? "Pause" : this.now >= this.end ? "Again" : "Start";
  }
}

class Lane {
  constructor(data, photo, picture) {
    Object.assign(this, { data, photo, picture, done: -1 });
    this.areas = data.boxes.map(([, , width, height]) => width * height);
    this.whole = this.areas.reduce((sum, area) => sum + area, 0);
    this.node = element("section", `lane ${data.arm}`);
    this.node.setAttribute("aria-label", data.name);
    this.state = element("span", "state");
    const head = element("h3", "head");
    head.append(element("span", "dot"), element("span", "name", data.name), this.state);
    this.canvas = element("canvas", "picture");
    Object.assign(this.canvas, { width: photo.naturalWidth, height: photo.naturalHeight });
    this.canvas.setAttribute("role", "img");
    this.ink = this.canvas.getContext("2d");
    this.clock = element("dd", "number");
    this.mapped = element("dd", "number");
    const facts = element("dl", "facts");
    for (const [name, value] of [
      ["Clock", this.clock],
      ["Mapped", this.mapped],
      ["In an hour", element("dd", "number", data.perHour)],
      ["Score out of 100", element("dd", "number", data.score)],
    ]) {
      const fact = element("div", "fact");
      fact.append(element("dt", "what", name), value);
      facts.append(fact);
    }
    this.node.append(head, this.canvas, facts);
  }

  go(moment, digits) {
    const { seconds, amount, unit, name } = this.data;
    let done = 0;
    while (done < seconds.length && seconds[done] <= moment) done += 1;
    const finished = done === seconds.length;
    this.clock.textContent = `${Math.min(moment, seconds.at(-1)).toFixed(digits)} s`;
    if (done === this.done) return;
    this.draw(done);
    this.share = this.areas.slice(0, done).reduce((sum, area) => sum + area, 0) / this.whole;
    this.mapped.textContent = `${(this.share * amount).toPrecision(3)} ${unit}`;
    if (done === 0) this.mapped.textContent = `0 ${unit}`;
    this.state.textContent = finished ? "finished" : `${Math.floor(100 * this.share)} %`;
    this.node.classList.toggle("finished", finished);
    this.canvas.setAttribute("aria-label", `${name}: ${Math.floor(100 * this.share)} % of the photo is mapped`);
  }

  draw(done) {
    const { width, height } = this.canvas;
    if (done < this.done || this.done < 0) this.ink.drawImage(this.photo, 0, 0);
    else this.uncover(this.photo, this.done, this.done + 1); // under the frame of the tile that was worked on
    this.uncover(this.picture, done < this.done ? 0 : Math.max(0, this.done), done);
    if (done < this.data.boxes.length) {
      const [x, y, w, h] = this.place(done);
      const line = Math.max(2, Math.round(width / 250));
      this.ink.strokeStyle = "#fff";
      this.ink.lineWidth = line;
      this.ink.strokeRect(x + line / 2, y + line / 2, w - line, h - line);
    }
    this.done = done;
  }

  uncover(image, from, to) {
    for (let index = from; index < Math.min(to, this.data.boxes.length); index += 1) {
      const box = this.place(index);
      this.ink.drawImage(image, ...box, ...box);
    }
  }

  place(index) {
    const { width, height } = this.canvas;
    const [x, y, w, h] = this.data.boxes[index];
    const left = Math.round(x * width);
    const top = Math.round(y * height);
    return [left, top, Math.round((x + w) * width) - left, Math.round((y + h) * height) - top];
  }
}
