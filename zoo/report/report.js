"use strict";
(() => {
  // Viridis at 17 even steps; colours between them are interpolated.
  const VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 " +
    "5ec962 84d44b addc30 d8e219 fde725"
  ).split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  // As in the figures (`seen_through`), whose pictures are 192 pixels wide.
  const [PAPER, LEAST, COARSE, SIDE, LINE, HALO] = [224, 0.12, 8, 480, 5, 10];
  const [OUTLINE, WHITE] = [[213, 94, 0, 255], [255, 255, 255, 255]];
  const unique = (values) => [...new Set(values)];
  const sharpness = () => window.devicePixelRatio || 1;

  function element(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function share(value, [low, high, log]) {
    const at = log ? Math.log : Number;
    return Math.min(Math.max((at(value) - at(low)) / (at(high) - at(low) || 1), 0), 1);
  }

  function colour(value, range) {
    const place = share(value, range) * (VIRIDIS.length - 1);
    const i = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const rest = place - i;
    return VIRIDIS[i].map((from, k) => Math.round(from + (VIRIDIS[i + 1][k] - from) * rest));
  }

  // Numbers come quantised over their own range; the largest code is a missing one.
  function unpack(packed, bytes) {
    const raw = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const missing = 256 ** bytes - 1;
    return Float64Array.from({ length: raw.length / bytes }, (_, i) => {
      const code = bytes === 2 ? raw[2 * i] + 256 * raw[2 * i + 1] : raw[i];
      return code === missing ? NaN : packed.low + (packed.high - packed.low) * code / (missing - 1);
    });
  }

  // A stem has no attention branch, and a layer may have fewer heads than others of its network.
  const NO_VALUE = "no value: no such part here, or not measurable";

  // As many digits as it takes to tell the numbers of a range apart.
  function written(value, [low, high], unit = "") {
    if (Number.isNaN(value)) return NO_VALUE;
    if (value === 0) return unit ? `0 ${unit}` : "0";
    const digits = high > low ? Math.ceil(2.5 - Math.log10(high - low)) : 3;
    const text = digits > 8 ? value.toPrecision(3) : value.toFixed(Math.max(digits, 1));
    return text.replaceAll("-", "−") + (unit ? ` ${unit}` : "");
  }

  const name = (node, text) => node.setAttribute("aria-label", text);
  const listen = (node, events, action) => events.split(" ").forEach((name) => node.addEventListener(name, action));

  // A colour bar with its ends' values; with its middle where colours follow the logarithm.
  const ramp = `linear-gradient(to right, ${VIRIDIS.map((c) => `rgb(${c})`)})`;
  function legend(range, unit) {
    const [low, high, log] = range;
    const bar = element("div", { className: "bar" });
    bar.style.background = ramp;
    const ends = (log ? [low, Math.sqrt(low * high), high] : [low, high]).map((end) => element("span", {}, Number.isInteger(end) ? String(end).replace("-", "−") : written(end, range)));
    if (unit) ends.at(-1).append(` ${unit}`);
    return [bar, element("div", { className: "ends" }, ...ends)];
  }

  // A choice of one: buttons where there are few, a list where there are many.
  let groups = 0;
  function choice(legend, options, chosen, onChange) {
    if (options.length > 5) {
      const list = element("select", {}, ...options.map((text, i) => new Option(text, i, false, i === chosen)));
      listen(list, "change", () => onChange(Number(list.value)));
      return element("label", {}, legend, list);
    }
    const group = `choice-${groups++}`;
    const buttons = options.map((text, i) => {
      const input = element("input", { type: "radio", name: group, checked: i === chosen });
      listen(input, "change", () => onChange(i));
      return element("label", {}, input, text);
    });
    return element("fieldset", {}, element("legend", {}, legend), element("div", { className: "segments" }, ...buttons));
  }

  // A third click on a head undoes the sorting.
  function sortable(table) {
    const unsorted = [...table.tBodies[0].rows];
    [...table.tHead.rows[0].cells].forEach((head, column, heads) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      head.replaceChildren(button);
      listen(button, "click", () => {
        const order = { null: "ascending", ascending: "descending" }[head.getAttribute("aria-sort")];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (!order) return table.tBodies[0].append(...unsorted);
        head.setAttribute("aria-sort", order);
        sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
      });
    });
  }

  function sortRows(body, column, sign) {
    const key = ({ cells }) => cells[column].dataset.value ?? cells[column].textContent.trim();
    body.append(...[...body.rows].sort((rowA, rowB) => {
      const [a, b] = [key(rowA), key(rowB)];
      // What is missing stays at the end either way.
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (a - b || a.localeCompare(b, "en", { numeric: true }));
    }));
  }

  const title = (axis) => `${axis.model} ${axis.what}s`.trim();
  const shorten = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 7)}…${text.slice(-6)}`);

  // As in the figures (`choose_labels`): where not all names fit, a block's first layer stands for
  // it. Names are cut after as few parts as leave no more than a quarter of them to one block.
  function chooseLabels(names, room) {
    const most = Math.max(2, Math.floor(room / 13));
    if (names.length <= most) return names.map((text, i) => ({ i, text }));
    const parts = names.map((name) => name.split("."));
    const depths = [...Array(Math.max(...parts.map((part) => part.length))).keys()];
    const largest = (blocks) => {
      const counts = new Map();
      blocks.forEach((block) => counts.set(block, (counts.get(block) ?? 0) + 1));
      return Math.max(...counts.values());
    };
    const cuts = depths.map((depth) => parts.map((part) => part.slice(0, depth + 1).join(".")));
    const blocks = cuts.find((cut) => largest(cut) <= 0.25 * names.length) ?? names;
    const chosen = new Map();
    let last = -Infinity;
    blocks.forEach((text, i) => {
      if (chosen.has(text) || i - last < names.length / most || text === blocks[i - 1]) return;
      chosen.set(text, i);
      last = i;
    });
    return [...chosen].map(([text, i]) => ({ i, text }));
  }

  function hatching(pen, paper, strokeStyle) {
    const tile = element("canvas", { width: 8, height: 8 });
    const ink = Object.assign(tile.getContext("2d"), { fillStyle: paper, strokeStyle });
    ink.fillRect(0, 0, 8, 8);
    ink.stroke(new Path2D("M0 8L8 0M-4 4L4 -4M4 12L12 4"));
    return pen.createPattern(tile, "repeat");
  }

  function write(pen, text, x, y, { align = "right", upright = false } = {}) {
    pen.save();
    pen.transform(...(upright ? [0, -1, 1, 0] : [1, 0, 0, 1]), x, y);
    Object.assign(pen, { textAlign: align }).fillText(text, 0, 0);
    pen.restore();
  }

  class HeatViewer {
    constructor(mount, data) {
      this.data = data;
      this.canvas = element("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "heat map" });
      [this.base, this.output] = [element("canvas"), element("output", { "aria-live": "polite" })];
      [this.controls, this.legend] = ["controls", "legend"].map((className) => element("div", { className }));
      const hint = `Point at a cell, or move with the arrow keys. Hatched: ${NO_VALUE}.`;
      const readout = element("div", { className: "readout" }, this.output, this.legend, element("p", { className: "hint" }, hint));
      mount.append(this.controls, element("div", { className: "heat" }, element("div", {}, this.canvas), readout));
      listen(this.canvas, "pointermove pointerdown", (event) => this.point(event));
      listen(this.canvas, "keydown", (event) => this.press(event));
      const across = (map) => map.columns.what === map.rows.what && map.columns.model !== map.rows.model;
      this.show(data.maps.find(across) ?? data.maps[0]);
      new ResizeObserver(() => this.drawnFor !== this.room() && this.draw()).observe(this.canvas.parentElement);
    }

    show(map) {
      map.values ??= unpack(map.value, 2);
      map.range ??= [map.scale.low, map.scale.high, map.scale.log];
      map.bounds ??= map.interval.map((end) => unpack(end, 2));
      const { maps } = Object.assign(this, { map, row: 0, column: 0 }).data;
      const measures = unique(maps.map((other) => other.measure));
      const same = maps.filter((other) => other.measure === map.measure);
      const under = (i) => maps.filter((other) => other.measure === measures[i]);
      const change = (i) => this.show(under(i).find((other) => other.label === map.label) ?? under(i)[0]);
      const [parts, labels] = [[], same.map((other) => other.label)];
      if (measures.length > 1) parts.push(choice("Measure", measures, measures.indexOf(map.measure), change));
      if (same.length > 1) parts.push(choice("Show", labels, same.indexOf(map), (i) => this.show(same[i])));
      if (map.columns.what === "head") parts.push(this.sorter());
      this.sort();
      // The controls are made anew: the keyboard goes on where it was.
      const group = [...this.controls.children].findIndex((part) => part.contains(document.activeElement));
      this.controls.replaceChildren(...parts);
      parts[group]?.querySelector("input:checked, select")?.focus();
      this.legend.replaceChildren(...legend(map.range, map.unit));
      this.draw();
    }

    sorter() {
      const box = element("input", { type: "checkbox", checked: this.sorted });
      listen(box, "change", () => {
        this.sorted = box.checked;
        this.sort();
        this.draw();
      });
      return element("label", { className: "check" }, box, "Sort each row’s heads by value");
    }

    sort() {
      const { map } = this;
      const width = map.columns.names.length;
      const known = (value) => (Number.isNaN(value) ? -Infinity : value);
      const rank = (i, j) => known(map.values[i * width + j]);
      const sorted = (i) => [...Array(width).keys()].sort((a, b) => rank(i, a) - rank(i, b) || 0);
      this.order = this.sorted && map.columns.what === "head" ? map.rows.names.map((_, i) => sorted(i)) : null;
    }

    room() { return this.canvas.parentElement.clientWidth; }
    source(i, j) { return this.order ? this.order[i][j] : j; }
    value(i, j, values = this.map.values) { return values[i * this.map.columns.names.length + this.source(i, j)]; }

    // Input at the bottom left, as in the figures; edges on whole pixels leave no seams.
    cell(i, j) {
      const { left, top, width, height, rows, columns } = this.box;
      const x = (k) => left + Math.round(k * width / columns);
      const y = (k) => top + height - Math.round(k * height / rows);
      return [x(j), y(i + 1), x(j + 1) - x(j), y(i) - y(i + 1)];
    }

    draw() {
      const { map, base, canvas } = this;
      const style = getComputedStyle(document.documentElement);
      const [ink, edge, paper, sans] = ["--ink", "--edge", "--paper", "--sans"].map((n) => style.getPropertyValue(n));
      const [rows, columns] = [map.rows.names.length, map.columns.names.length];
      const room = this.drawnFor = this.room();
      if (room === 0) return; // in a hidden frame; it is drawn once it shows
      const most = room < 420 ? 13 : 22;
      const pen = base.getContext("2d");
      pen.font = `11px ${sans}`;
      const widest = (labels) => Math.ceil(Math.max(...labels.map((l) => pen.measureText(shorten(l.text, most)).width)));
      const left = widest(chooseLabels(map.rows.names, 400)) + 32;
      const width = Math.min(room - left - 2, 560, 90 * columns);
      const height = Math.round(Math.min(Math.max(rows * Math.min(width / columns, 56), 120), 640));
      const along = this.order ? [] : chooseLabels(map.columns.names, width);
      const below = this.order ? 28 : widest(along) + 32;
      this.box = { left, top: 8, width, height, rows, columns };
      canvas.style.height = `${height + below + 18}px`;
      const pixels = [room, height + below + 18].map((side) => Math.round(side * sharpness()));
      [base, canvas].forEach((layer) => Object.assign(layer, { width: pixels[0], height: pixels[1] }));
      pen.scale(sharpness(), sharpness());
      this.fill(pen, hatching(pen, paper, edge));
      Object.assign(pen, { strokeStyle: edge }).strokeRect(left - 0.5, 7.5, width + 1, height + 1);
      Object.assign(pen, { fillStyle: ink, font: `11px ${sans}`, textBaseline: "middle" });
      chooseLabels(map.rows.names, height).forEach(({ i, text }) =>
        write(pen, shorten(text, most), left - 6, 8 + height - (i + 0.5) * height / rows));
      along.forEach(({ i, text }) =>
        write(pen, shorten(text, most), left + (i + 0.5) * width / columns, height + 14, { upright: true }));
      pen.font = `600 11px ${sans}`;
      const across = this.order ? `${title(map.columns)}, lowest to highest` : title(map.columns);
      write(pen, across, left + width / 2, height + below + 4, { align: "center" });
      write(pen, title(map.rows), 10, 8 + height / 2, { align: "center", upright: true });
      this.mark();
    }

    fill(pen, hatch) {
      this.map.rows.names.forEach((_, i) => this.map.columns.names.forEach((_, j) => {
        const value = this.value(i, j);
        pen.fillStyle = Number.isNaN(value) ? hatch : `rgb(${colour(value, this.map.range)})`;
        pen.fillRect(...this.cell(i, j));
      }));
    }

    mark() {
      const pen = this.canvas.getContext("2d");
      pen.resetTransform();
      pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      pen.drawImage(this.base, 0, 0);
      pen.scale(sharpness(), sharpness());
      const [x, y, width, height] = this.cell(this.row, this.column);
      for (const [strokeStyle, lineWidth] of [["#fff", 4], ["#000", 1.5]]) {
        Object.assign(pen, { strokeStyle, lineWidth }).strokeRect(x - 1, y - 1, width + 2, height + 2);
      }
      this.read();
    }

    read() {
      const { map, row, column } = this;
      const single = (axis) => title(axis).slice(0, -1);
      const [value, own] = [this.value(row, column), map.columns.names[this.source(row, column)]];
      const facts = [[single(map.rows), map.rows.names[row]], [single(map.columns), own]];
      const [low, high] = map.bounds.map((bound) => this.value(row, column, bound));
      if (low <= high) facts.push(["95 % interval", `${written(low, map.range)} to ${written(high, map.range)}`]);
      const best = this.closest();
      const found = (j) => `${map.columns.names[j]} (${written(this.value(row, j), map.range)})`;
      if (best >= 0) facts.push([`Closest to ${map.rows.names[row]}`, found(best)]);
      const [className, unit] = Number.isNaN(value) ? ["value missing", ""] : ["value", ` ${map.unit}`];
      this.output.replaceChildren(
        element("span", { className }, written(value, map.range), element("small", {}, unit)),
        element("span", {}, map.measure),
        element("dl", {}, ...facts.map(([key, fact]) => element("div", {}, element("dt", {}, key), element("dd", {}, fact)))),
      );
      const axes = `${title(map.rows)} by ${title(map.columns)}`;
      name(this.canvas, `${this.data.title}, ${map.label}: ${axes}. Arrow keys move from cell to cell.`);
    }

    // Only across models: within one, a layer is closest to itself.
    closest() {
      const { rows, columns } = this.map;
      if (columns.what !== "layer" || columns.model === rows.model) return -1;
      const values = columns.names.map((_, j) => this.value(this.row, j));
      return values.indexOf(Math.max(...values.filter((value) => !Number.isNaN(value))));
    }

    move(row, column) {
      this.row = Math.min(Math.max(row, 0), this.box.rows - 1);
      this.column = Math.min(Math.max(column, 0), this.box.columns - 1);
      this.mark();
    }

    point(event) {
      const { left, top, width, height, rows, columns } = this.box;
      const x = (event.offsetX - left) / width, y = 1 - (event.offsetY - top) / height;
      if (x >= 0 && x < 1 && y >= 0 && y < 1) this.move(Math.floor(y * rows), Math.floor(x * columns));
    }

    press(event) {
      const { row, column } = this;
      const target = {
        ArrowUp: [row + 1, column], ArrowDown: [row - 1, column], ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
        Home: [row, 0], End: [row, Infinity], PageUp: [Infinity, column], PageDown: [0, column],
      }[event.key];
      if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.move(...target);
    }
  }

  class ImageViewer {
    constructor(mount, data) {
      Object.assign(this, { data, image: 0, depth: 0, fading: 1 - LEAST });
      const measures = unique(data.sets.map((set) => set.measure));
      const decode = (sources) => sources.map((src) => element("img", { src }));
      this.pictures = Object.fromEntries(Object.entries(data.images).map(([name, list]) => [name, decode(list)]));
      this.panels = element("div", { className: "panels" });
      this.slider = element("input", { type: "range", min: 0, step: 1 });
      listen(this.slider, "input", () => this.draw({ depth: this.slider.value / this.slider.max }));
      const fading = element("input", { type: "range", min: 0, max: 100, step: 1, value: 100 * this.fading });
      listen(fading, "input", () => this.draw({ fading: fading.value / 100 }));
      const thumbs = element("div", { className: "thumbs" }, ...this.thumbs());
      const controls = element("div", { className: "controls" });
      controls.append(element("fieldset", { className: "pictures" }, element("legend", {}, "Image"), thumbs));
      if (measures.length > 1) controls.append(choice("Show", measures, 0, (i) => this.show(measures[i])));
      this.along = element("span");
      controls.append(element("label", { className: "slider" }, this.along, this.slider));
      this.fader = element("label", { className: "slider fading" }, "Fade the rest", fading);
      controls.append(this.fader);
      this.hint = element("p", { className: "hint" });
      mount.append(controls, this.panels, this.hint);
      this.show(measures[0]);
    }

    thumbs() {
      const buttons = Object.values(this.data.images)[0].map((src, i) => {
        const picture = element("img", { src, alt: `image ${i + 1}: ${this.data.labels[i]}` });
        const button = element("button", { type: "button", "aria-pressed": i === 0 }, picture);
        listen(button, "click", () => {
          buttons.forEach((other, k) => other.setAttribute("aria-pressed", k === i));
          this.draw({ image: i });
        });
        return button;
      });
      return buttons;
    }

    show(measure) {
      this.sets = this.data.sets.filter((set) => set.measure === measure);
      const last = Math.max(...this.sets.map((set) => set.steps.length)) - 1;
      const { high, outlined } = this.sets[0].scale;
      const isOverImage = outlined !== null;
      this.along.textContent = this.sets[0].along;
      this.fader.hidden = !isOverImage;
      this.hint.textContent = [
        isOverImage ? "The image is visible where its map is high and fades where it is low" : "Dark is low and bright is high",
        high !== null ? "; all maps share one range" : "; each map has its own range",
        isOverImage ? `; outlined: from ${high !== null ? outlined : `${outlined} of its highest`}.` : ".",
      ].join("");
      Object.assign(this.slider, { max: Math.max(last, 1), disabled: last < 1, value: Math.round(this.depth * last) });
      const panel = () => element("figure", {}, element("canvas", { role: "img" }), element("figcaption"));
      this.panels.replaceChildren(...[null, ...this.sets].map(panel));
      this.draw();
    }

    // Models differ in depth: the longest takes every step, the others go along.
    step(set) { return set.steps[Math.round(this.depth * (set.steps.length - 1))]; }

    draw(change = {}) {
      Object.assign(this, change);
      const label = this.data.labels[this.image];
      this.slider.setAttribute("aria-valuetext", this.sets.map((set) => `${set.label}: ${this.step(set).name}`).join("; "));
      [null, ...this.sets].forEach((set, i) => {
        const [canvas, caption] = this.panels.children[i].children;
        const picture = this.pictures[(set ?? this.sets[0]).images][this.image];
        if (!picture.complete) return listen(picture, "load", () => this.draw());
        Object.assign(canvas, { width: SIDE, height: Math.round(SIDE * picture.naturalHeight / picture.naturalWidth) });
        const pen = canvas.getContext("2d");
        pen.imageSmoothingEnabled = false;
        pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
        if (!set) {
          caption.replaceChildren(element("strong", {}, "input"), label);
          return name(canvas, `input: ${label}`);
        }
        // One map alone needs no name beside its kind's.
        const place = this.step(set).name === set.measure ? "" : this.step(set).name;
        const of = set.captions[this.image] ?? "";
        const facts = [place, of].filter(Boolean).map((fact) => element("div", {}, fact));
        caption.replaceChildren(element("strong", {}, set.label), ...facts, ...this.paint(pen, set));
        name(canvas, `${set.measure} of ${set.label}${place && ` at ${place}`} ${set.scale.outlined === null ? "on" : "over"} ${label}${of && ` (${of})`}`);
      });
    }

    paint(pen, set) {
      const { height, width, maps } = this.step(set);
      const { low, high } = maps[this.image];
      const { scale } = set;
      const range = [scale.low ?? low, scale.high ?? high, scale.log];
      const values = unpack(maps[this.image], 1);
      const small = element("canvas", { width, height }), pixels = new ImageData(width, height);
      const isOverImage = scale.outlined !== null;
      values.forEach((value, i) => {
        if (Number.isNaN(value)) return;
        pixels.data.set(isOverImage ? [0, 0, 0, 255 * share(value, range)] : [...colour(value, range), 255], 4 * i);
      });
      small.getContext("2d").putImageData(pixels, 0, 0);
      // A coarse map in squares, a fine one smooth.
      const size = [0, 0, pen.canvas.width, pen.canvas.height];
      const grow = (ink) => {
        Object.assign(ink, { imageSmoothingEnabled: Math.max(width, height) > COARSE, imageSmoothingQuality: "high" });
        ink.drawImage(small, ...size);
      };
      if (isOverImage) this.veil(pen, grow, scale.outlined * (scale.high === null ? high : 1), range);
      else grow(pen);
      if (values.every(Number.isNaN)) return [NO_VALUE];
      if (scale.empty && low === 0 && high === 0) return [scale.empty];
      if (!isOverImage) return legend(range, set.unit);
      const ends = [`faded: ${written(range[0], range)}`, `in full: ${written(range[1], range, set.unit)}`];
      return [element("div", { className: "ends" }, ...ends.map((end) => element("span", {}, end)))];
    }

    // Lets the image fade where the map is low: colours over it would mix with its own.
    veil(pen, grow, from, range) {
      const { width, height } = pen.canvas;
      const large = element("canvas", { width, height });
      const ink = large.getContext("2d", { willReadFrequently: true });
      grow(ink);
      const pixels = ink.getImageData(0, 0, width, height);
      const strength = new Uint8Array(width * height);
      for (let i = 0; i < strength.length; i++) {
        strength[i] = pixels.data[4 * i + 3];
        pixels.data.fill(PAPER, 4 * i, 4 * i + 3);
        pixels.data[4 * i + 3] = this.fading * (255 - strength[i]);
      }
      if (range[1] > from) outline(pixels, strength, Math.round(255 * share(from, range)));
      ink.putImageData(pixels, 0, 0);
      pen.drawImage(large, 0, 0);
    }
  }

  // Draws a line inside the border of where a map is at least `least`, white towards its inside.
  function outline({ width, height, data }, strength, least) {
    const isInside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && strength[y * width + x] >= least;
    const isNearBorder = (x, y, by) => ![[by, 0], [-by, 0], [0, by], [0, -by]].every(([across, down]) => isInside(x + across, y + down));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!isInside(x, y) || !isNearBorder(x, y, HALO)) continue;
        data.set(isNearBorder(x, y, LINE) ? OUTLINE : WHITE, 4 * (y * width + x));
      }
    }
  }

  const viewers = [...document.querySelectorAll(".viewer")].map((mount) => {
    const data = JSON.parse(document.getElementById(mount.dataset.viewer).textContent);
    return new { heat: HeatViewer, images: ImageViewer }[data.kind](mount, data);
  });
  document.querySelectorAll("table.sortable").forEach(sortable);
  const folds = [...document.querySelectorAll("details.fold")];
  const unfold = document.querySelector(".unfold");
  unfold.hidden = false;
  listen(unfold, "click", () => {
    const open = !folds.every((fold) => fold.open);
    folds.forEach((fold) => { fold.open = open; });
    unfold.textContent = open ? "Fold everything" : "Unfold everything";
  });
  document.querySelector("nav details").open = window.matchMedia("(min-width: 75rem)").matches;
  listen(window.matchMedia("(prefers-color-scheme: dark)"), "change", () => viewers.forEach((viewer) => viewer.draw()));
  // A figure that a narrow screen makes small can be enlarged; it then scrolls by the keyboard too.
  document.querySelectorAll(".card").forEach((card) => {
    const button = element("button", { type: "button", className: "enlarge", "aria-pressed": false }, "Enlarge");
    listen(button, "click", () => {
      const large = card.classList.toggle("large");
      button.setAttribute("aria-pressed", large);
      card.tabIndex = large ? 0 : -1;
    });
    card.after(button);
  });
  // What a link leads to may lie in a fold.
  const reveal = (target) => {
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  const linked = document.getElementById(location.hash.slice(1));
  if (linked) reveal(linked);
  // In a frame without an address of its own, a link to a place in the page would leave it.
  listen(document, "click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (!target) return;
    event.preventDefault();
    reveal(target);
    Object.assign(target, { tabIndex: -1 }).focus({ preventScroll: true });
  });
})();
