"use strict";
(() => {
  // Viridis at 17 even steps; colours between them are interpolated.
  const VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 " +
    "5ec962 84d44b addc30 d8e219 fde725"
  ).split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const redraws = [];

  function element(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function colour(share) {
    const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const i = Math.min(Math.floor(place), VIRIDIS.length - 2);
    return VIRIDIS[i].map((from, k) => Math.round(from + (VIRIDIS[i + 1][k] - from) * (place - i)));
  }

  // Numbers come quantised over their own range; the largest code is a missing one.
  function unpack(packed, bytes) {
    const raw = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const missing = bytes === 2 ? 65535 : 255;
    const values = new Float64Array(raw.length / bytes);
    for (let i = 0; i < values.length; i++) {
      const code = bytes === 2 ? raw[2 * i] + 256 * raw[2 * i + 1] : raw[i];
      const share = code / (missing - 1);
      values[i] = code === missing ? NaN : packed.low + (packed.high - packed.low) * share;
    }
    return values;
  }

  // As many digits as it takes to tell numbers of a range apart.
  function written(value, [low, high], unit = "") {
    if (Number.isNaN(value)) return "could not be measured";
    const digits = high > low ? Math.ceil(2 - Math.log10(high - low)) : 3;
    const text = digits > 8 ? value.toPrecision(3) : value.toFixed(Math.min(Math.max(digits, 1), 8));
    return text.replace("-", "−") + (unit ? ` ${unit}` : "");
  }

  // A choice of one: buttons where they are few, a list where they are many.
  let groups = 0;
  function choice(legend, options, chosen, onChange) {
    if (options.length > 5) {
      const list = element("select", {});
      options.forEach((text, i) => list.append(element("option", { value: i, selected: i === chosen }, text)));
      list.addEventListener("change", () => onChange(Number(list.value)));
      return element("label", {}, legend, list);
    }
    const name = `choice-${groups++}`;
    const buttons = options.map((text, i) => {
      const input = element("input", { type: "radio", name, checked: i === chosen });
      input.addEventListener("change", () => onChange(i));
      return element("label", {}, input, text);
    });
    return element("fieldset", {}, element("legend", {}, legend), element("div", { className: "segments" }, ...buttons));
  }

  const unique = (values) => [...new Set(values)];

  // ---------------------------------------------------------------- tables
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = element("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sortRows(table.tBodies[0], column, down ? -1 : 1);
      });
    });
  }

  function sortRows(body, column, sign) {
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const rows = [...body.rows].map((row) => ({ row, key: key(row) }));
    rows.sort((a, b) => {
      // What is missing stays at the end either way.
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "");
      const difference = Number(a.key) - Number(b.key);
      return sign * (Number.isNaN(difference) ? a.key.localeCompare(b.key, "en", { numeric: true }) : difference);
    });
    body.append(...rows.map((entry) => entry.row));
  }

  // ---------------------------------------------------------------- heat maps
  function prepare(map) {
    if (map.values) return map;
    map.values = unpack(map.value, 2);
    map.ends = map.interval.map((end) => unpack(end, 2));
    map.order = null;
    return map;
  }

  // Where not all names fit, a block's first layer stands for it.
  function chooseLabels(names, room) {
    const most = Math.max(2, Math.floor(room / 13));
    if (names.length <= most) return names.map((text, i) => ({ i, text }));
    const blocks = names.map((name) => name.split(".").slice(0, 2).join("."));
    const chosen = [];
    blocks.forEach((text, i) => {
      const last = chosen[chosen.length - 1];
      if (!last || (text !== blocks[i - 1] && i - last.i >= names.length / most)) chosen.push({ i, text });
    });
    return chosen;
  }

  function shorten(text, length) {
    return text.length <= length ? text : `${text.slice(0, length - 7)}…${text.slice(-6)}`;
  }

  function heatViewer(mount, island) {
    const measures = unique(island.maps.map((map) => map.measure));
    const across = island.maps.findIndex((map) => map.rows.model !== map.columns.model && map.rows.what === map.columns.what);
    let map = prepare(island.maps[Math.max(across, 0)]);
    let [row, column, sorted, box] = [0, 0, false, null];
    const canvas = element("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "heat map" });
    const output = element("output", { "aria-live": "polite" });
    const bar = element("div", { className: "bar", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${VIRIDIS.map((c) => `rgb(${c})`).join()})`;
    const ends = element("div", { className: "ends" });
    const controls = element("div", { className: "controls" });
    const base = document.createElement("canvas");

    const at = (i, j) => i * map.columns.names.length + (sorted ? order()[i][j] : j);
    function order() {
      const width = map.columns.names.length;
      map.order ??= map.rows.names.map((_, i) => {
        const value = (j) => map.values[i * width + j];
        return [...Array(width).keys()].sort((a, b) => (value(a) - value(b)) || (Number.isNaN(value(a)) ? 1 : -1));
      });
      return map.order;
    }

    function show(next) {
      map = prepare(next);
      [row, column, sorted] = [0, 0, false];
      const own = island.maps.filter((other) => other.measure === map.measure);
      const parts = [];
      if (measures.length > 1) {
        parts.push(choice("Measure", measures, measures.indexOf(map.measure), (i) =>
          show(island.maps.find((other) => other.measure === measures[i] && other.label === map.label) ??
            island.maps.find((other) => other.measure === measures[i]))));
      }
      if (own.length > 1) parts.push(choice("Show", own.map((m) => m.label), own.indexOf(map), (i) => show(own[i])));
      if (map.columns.what !== "layer") {
        const box = element("input", { type: "checkbox" });
        box.addEventListener("change", () => { sorted = box.checked; draw(); });
        parts.push(element("label", { className: "check" }, box, `Sort each row’s ${map.columns.what}s by value`));
      }
      const focused = controls.contains(document.activeElement) && [...controls.querySelectorAll("input, select")].indexOf(document.activeElement);
      controls.replaceChildren(...parts);
      // The controls were made anew: the keyboard goes on where it was.
      if (focused !== false) controls.querySelector(":checked, select")?.focus();
      ends.replaceChildren(...map.range.map((end) => element("span", {}, written(end, map.range, map.unit))));
      draw();
    }

    function draw() {
      const style = getComputedStyle(document.documentElement);
      const ink = style.getPropertyValue("--ink"), edge = style.getPropertyValue("--edge");
      const paper = style.getPropertyValue("--paper");
      const [rows, columns] = [map.rows.names.length, map.columns.names.length];
      const width = canvas.parentElement.clientWidth;
      const font = `11px ${style.getPropertyValue("--sans")}`;
      const pen = base.getContext("2d");
      pen.font = font;
      const longest = width < 420 ? 13 : 22;
      const widest = (labels) => Math.max(...labels.map((l) => pen.measureText(shorten(l.text, longest)).width));
      const left = Math.ceil(widest(chooseLabels(map.rows.names, 400))) + 32;
      const side = Math.min(width - left - 2, 560, 90 * columns);
      const height = Math.round(Math.min(Math.max(rows * Math.min(side / columns, 56), 120), 640));
      const [down, along] = [chooseLabels(map.rows.names, height), chooseLabels(map.columns.names, side)];
      const below = Math.ceil(widest(along)) + 32;
      box = { left, top: 8, width: side, height };
      const scale = window.devicePixelRatio || 1;
      for (const layer of [base, canvas]) {
        layer.width = Math.round(width * scale);
        layer.height = Math.round((height + below + 10) * scale);
      }
      canvas.style.height = `${height + below + 10}px`;
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      const hatch = hatching(pen, paper, edge);
      const [low, high] = map.range;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const value = map.values[at(i, j)];
          const cell = cellBox(i, j);
          pen.fillStyle = Number.isNaN(value) ? hatch : `rgb(${colour((value - low) / (high - low || 1))})`;
          pen.fillRect(cell.x, cell.y, cell.width, cell.height);
        }
      }
      pen.strokeStyle = edge;
      pen.strokeRect(left - 0.5, 7.5, side + 1, height + 1);
      pen.fillStyle = ink;
      pen.font = font;
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      for (const { i, text } of down) {
        pen.fillText(shorten(text, longest), left - 6, box.top + height - (i + 0.5) * height / rows);
      }
      along.forEach(({ i, text }) => upright(pen, sorted ? String(i + 1) : shorten(text, longest), left + (i + 0.5) * side / columns, box.top + height + 6));
      pen.font = `600 ${font}`;
      pen.textAlign = "center";
      pen.fillText(sorted ? `${map.columns.what}, lowest to highest` : title(map.columns), left + side / 2, height + below);
      upright(pen, title(map.rows), 10, box.top + height / 2, "center");
      mark();
    }

    const title = (axis) => `${axis.model} ${axis.what}s`.trim();
    const single = (axis) => title(axis).slice(0, -1);
    function upright(pen, text, x, y, align = "right") {
      pen.save();
      pen.translate(x, y);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = align;
      pen.fillText(text, 0, 0);
      pen.restore();
    }

    function hatching(pen, paper, edge) {
      const tile = document.createElement("canvas");
      tile.width = tile.height = 8;
      const ink = tile.getContext("2d");
      ink.fillStyle = paper;
      ink.fillRect(0, 0, 8, 8);
      ink.strokeStyle = edge;
      ink.beginPath();
      for (const [x, y] of [[0, 0], [-4, 4], [4, -4]]) { ink.moveTo(x, y + 8); ink.lineTo(x + 8, y); }
      ink.stroke();
      return pen.createPattern(tile, "repeat");
    }

    // Input at the bottom left, as in the figures; edges on whole pixels leave no seams.
    function cellBox(i, j) {
      const [rows, columns] = [map.rows.names.length, map.columns.names.length];
      const edgeX = (k) => box.left + Math.round(k * box.width / columns);
      const edgeY = (k) => box.top + box.height - Math.round(k * box.height / rows);
      return { x: edgeX(j), y: edgeY(i + 1), width: edgeX(j + 1) - edgeX(j), height: edgeY(i) - edgeY(i + 1) };
    }

    function mark() {
      const pen = canvas.getContext("2d");
      const scale = window.devicePixelRatio || 1;
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(base, 0, 0);
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      const cell = cellBox(row, column);
      [["#fff", 4], ["#000", 1.5]].forEach(([stroke, wide]) => {
        pen.strokeStyle = stroke;
        pen.lineWidth = wide;
        pen.strokeRect(cell.x - 1, cell.y - 1, cell.width + 2, cell.height + 2);
      });
      read();
    }

    function read() {
      const width = map.columns.names.length;
      const own = at(row, column) % width;
      const value = map.values[row * width + own];
      const facts = [[single(map.rows), map.rows.names[row]], [single(map.columns), map.columns.names[own]]];
      const ends = map.ends.map((end) => end[row * width + own]);
      if (ends.length === 2 && !ends.some(Number.isNaN)) facts.push(["95 % interval", `${written(ends[0], map.range)} to ${written(ends[1], map.range)}`]);
      const best = bestMatch();
      if (best >= 0) facts.push([`Closest to ${map.rows.names[row]}`, `${map.columns.names[best]} (${written(map.values[row * width + best], map.range)})`]);
      output.replaceChildren(
        element("span", { className: Number.isNaN(value) ? "value missing" : "value" }, written(value, map.range, map.unit)),
        element("span", {}, map.measure === "cka" ? "CKA" : map.measure),
        element("dl", {}, ...facts.map(([name, fact]) => element("div", {}, element("dt", {}, name), element("dd", {}, fact)))),
      );
      canvas.setAttribute("aria-label", `${island.title}, ${map.label}: ${title(map.rows)} by ${title(map.columns)}. Arrow keys move from cell to cell.`);
    }

    // Only across models: within one, a layer is closest to itself.
    function bestMatch() {
      if (map.columns.what !== "layer" || map.columns.model === map.rows.model) return -1;
      let best = -1;
      const start = row * map.columns.names.length;
      map.columns.names.forEach((_, j) => {
        const value = map.values[start + j];
        if (!Number.isNaN(value) && (best < 0 || value > map.values[start + best])) best = j;
      });
      return best;
    }

    function move(i, j) {
      row = Math.min(Math.max(i, 0), map.rows.names.length - 1);
      column = Math.min(Math.max(j, 0), map.columns.names.length - 1);
      mark();
    }
    function point(event) {
      const place = canvas.getBoundingClientRect();
      const x = event.clientX - place.left - box.left, y = event.clientY - place.top - box.top;
      if (x < 0 || y < 0 || x >= box.width || y >= box.height) return;
      move(Math.floor((1 - y / box.height) * map.rows.names.length), Math.floor(x / box.width * map.columns.names.length));
    }
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
      const jumps = { Home: [row, 0], End: [row, Infinity], PageUp: [Infinity, column], PageDown: [0, column] };
      const target = jumps[event.key] ?? steps[event.key]?.map((by, k) => by + (k ? column : row));
      if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move(...target);
    });
    mount.append(controls, element("div", { className: "heat" },
      element("div", {}, canvas),
      element("div", { className: "readout" }, output, element("div", { className: "scale" }, bar, ends),
        element("p", { className: "hint" }, "Point at a cell, or move with the arrow keys. Hatched: could not be measured."))));
    show(map);
    redraws.push(draw);
    new ResizeObserver(() => { if (canvas.parentElement.clientWidth * (window.devicePixelRatio || 1) !== canvas.width) draw(); }).observe(canvas.parentElement);
  }

  // ---------------------------------------------------------------- images and maps over them
  function imageViewer(mount, island) {
    const measures = unique(island.sets.map((set) => set.measure));
    let [measure, image, depth, opacity] = [measures[0], 0, 0, 0.65];
    const panels = element("div", { className: "panels" });
    const pictures = Object.fromEntries(Object.entries(island.images).map(([name, sources]) => [name, sources.map((src) => element("img", { src }))]));
    const slider = element("input", { type: "range", min: 0, step: 1, value: 0 });
    const strength = element("input", { type: "range", min: 0, max: 100, step: 5, value: 100 * opacity });
    const sets = () => island.sets.filter((set) => set.measure === measure);
    // Models differ in depth: the longest takes each step, the others go along in proportion.
    const stepOf = (set) => set.steps[Math.round(depth * (set.steps.length - 1))];

    const thumbs = Object.values(island.images)[0].map((src, i) => {
      const button = element("button", { type: "button", "aria-pressed": i === image }, element("img", { src, alt: `image ${i + 1}: ${island.labels[i]}` }));
      button.addEventListener("click", () => {
        image = i;
        thumbs.forEach((other, k) => other.setAttribute("aria-pressed", k === i));
        draw();
      });
      return button;
    });

    function chooseMeasure(next) {
      measure = next;
      const longest = Math.max(...sets().map((set) => set.steps.length));
      slider.max = longest - 1;
      slider.disabled = longest < 2;
      slider.value = Math.round(depth * (longest - 1));
      panels.replaceChildren(panel("input"), ...sets().map((set) => panel(set)));
      draw();
    }

    function panel(set) {
      const canvas = element("canvas", { role: "img" });
      const figure = element("figure", {}, canvas, element("figcaption", {}));
      figure.set = set;
      return figure;
    }

    function draw() {
      slider.setAttribute("aria-valuetext", sets().map((set) => `${set.label}: ${stepOf(set).name}`).join("; "));
      for (const figure of panels.children) {
        const [canvas, caption] = figure.children;
        const set = figure.set === "input" ? null : figure.set;
        const picture = (pictures[set ? set.images : sets()[0].images])[image];
        // The picture may still be decoding.
        if (!picture.complete) { picture.addEventListener("load", draw, { once: true }); return; }
        canvas.width = 416;
        canvas.height = Math.round(416 * picture.naturalHeight / picture.naturalWidth);
        const pen = canvas.getContext("2d");
        pen.imageSmoothingEnabled = false;
        pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
        const name = island.labels[image];
        const lines = [element("strong", {}, set ? set.label : "input"), set ? stepOf(set).name : name];
        if (set) lines.push(element("br"), overlay(pen, set));
        caption.replaceChildren(...lines);
        canvas.setAttribute("aria-label", set ? `${set.measure} of ${set.label} at ${stepOf(set).name} over ${name}` : `input: ${name}`);
      }
    }

    function overlay(pen, set) {
      const { height, width, maps } = stepOf(set);
      const { low, high } = maps[image];
      const values = unpack(maps[image], 1);
      const small = element("canvas", { width, height });
      const pixels = new ImageData(width, height);
      values.forEach((value, i) => {
        if (Number.isNaN(value)) return;
        pixels.data.set([...colour((value - low) / (high - low || 1)), 255], 4 * i);
      });
      small.getContext("2d").putImageData(pixels, 0, 0);
      pen.globalAlpha = opacity;
      pen.drawImage(small, 0, 0, pen.canvas.width, pen.canvas.height);
      return `${written(low, [low, high])} to ${written(high, [low, high], set.unit)}`;
    }

    slider.addEventListener("input", () => { depth = slider.max > 0 ? slider.value / slider.max : 0; draw(); });
    strength.addEventListener("input", () => { opacity = strength.value / 100; draw(); });
    const controls = element("div", { className: "controls" },
      element("fieldset", {}, element("legend", {}, "Image"), element("div", { className: "thumbs" }, ...thumbs)));
    if (measures.length > 1) controls.append(choice("Show", measures, 0, (i) => chooseMeasure(measures[i])));
    controls.append(element("label", { className: "slider" }, "Depth, from input to output", slider),
      element("label", { className: "slider opacity" }, "Map over image", strength));
    mount.append(controls, panels, element("p", { className: "hint" }, "Each map has its own colour range, written below it, from dark (lowest) to bright (highest)."));
    chooseMeasure(measure);
  }

  // ---------------------------------------------------------------- the page
  const viewers = { heat: heatViewer, images: imageViewer };
  for (const mount of document.querySelectorAll(".viewer")) {
    const island = JSON.parse(document.getElementById(mount.dataset.island).textContent);
    viewers[island.kind](mount, island);
  }
  document.querySelectorAll("table.sortable").forEach(sortable);
  const folded = [...document.querySelectorAll("details.saved")];
  folded.forEach((details) => { details.open = false; });
  if (!window.matchMedia("(min-width: 75rem)").matches) document.querySelector("nav details").open = false;
  window.addEventListener("beforeprint", () => folded.forEach((details) => { details.open = true; }));
  window.addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((draw) => draw()));
  // In a frame without an address of its own, a link to a place in the page would leave it.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (!target) return;
    event.preventDefault();
    target.scrollIntoView();
    target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
  });
})();
