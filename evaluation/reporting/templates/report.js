"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  // Charts are drawn in units of about a pixel, so that their text is as large as the page's.
  const small = innerWidth < 700;
  const BOX = { left: 56, right: 12, top: 12, bottom: 46, width: small ? 400 : 760, height: small ? 320 : 400 };
  const DASH = { raw: "1.5 4", rounded: "7 4", lagrangian: "" };

  const make = (name, attributes = {}, parent = null, text = "") => {
    const svg = ["svg", "path", "line", "text", "g", "circle"].includes(name);
    const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const short = (value) => {
    if (value === null || !Number.isFinite(value)) return "∞";
    if (value === 0) return "0";
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6
      ? value.toExponential(1) : value.toFixed(Math.min(digits, 6));
  };
  const plain = (value) => Number(value.toPrecision(6)).toString();

  // Values between which a person would put the lines of a chart: 1, 2 or 5 times a power of ten.
  const ticks = (low, high, log) => {
    if (log) {
      const found = [];
      for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high); k++)
        for (const m of high / low > (small ? 50 : 1000) ? [1] : [1, 2, 5])
          if (m * 10 ** k >= low * 0.999 && m * 10 ** k <= high * 1.001) found.push(m * 10 ** k);
      return found;
    }
    const raw = (high - low) / (small ? 4 : 6), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high * 1.0001; k++) found.push(k * step);
    return found;
  };
  const scale = (low, high, from, to, log) => {
    const f = log ? Math.log : (v) => v;
    return (v) => from + (to - from) * (f(v) - f(low)) / (f(high) - f(low) || 1);
  };
  // The value of a step function that starts with `before` and jumps to y[k] at x[k].
  const at = (x, y, where, before) => {
    let low = 0, high = x.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x[middle] <= where) low = middle + 1; else high = middle;
    }
    return low ? y[low - 1] : before;
  };

  class Chart {
    constructor(figure, config) {
      this.config = config;
      this.svg = figure.querySelector("svg");
      this.svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
      this.legend = figure.querySelector(".legend");
      this.slider = figure.querySelector("input");
      this.readout = figure.querySelector(".cursor span");
      this.hidden = new Set();
      this.task = config.tasks[0];
      this.choices = {};
      this.focus = null;
      this.share = 1;
      this.buildControls(figure.querySelector(".controls"));
      this.slider.addEventListener("input", () => this.move(this.slider.value / 1000));
      this.svg.addEventListener("pointermove", (event) => {
        const box = this.svg.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width * BOX.width;
        this.move((x - BOX.left) / (BOX.width - BOX.left - BOX.right));
      });
      figure.hidden = false;
      this.draw();
    }

    buildControls(place) {
      if (this.config.tasks.length > 1) {
        const label = make("label", {}, place, "Setting ");
        const select = make("select", {}, label);
        this.config.tasks.forEach((task, k) => make("option", { value: k }, select, task.name));
        select.addEventListener("change", () => {
          this.task = this.config.tasks[select.value];
          this.draw();
        });
      }
      const variants = [...new Set(this.config.tasks.flatMap((t) => t.series.map((s) => s.variant)))];
      if (variants.length > 1)
        for (const variant of variants)
          this.checkbox(place, data.variants[variant] || variant, variant !== "raw", (on) => {
            this.hidden[on ? "delete" : "add"](`variant ${variant}`);
          });
      if (variants.length > 1) this.hidden.add("variant raw");
      this.dashes = variants.length > 1 ? DASH : {};
      for (const [name, text, on] of this.config.options) {
        this.choices[name] = on;
        this.checkbox(place, text, on, (value) => { this.choices[name] = value; });
      }
    }

    checkbox(place, text, checked, change) {
      const label = make("label", {}, place);
      const box = make("input", { type: "checkbox" }, label);
      box.checked = checked;
      label.append(` ${text}`);
      box.addEventListener("change", () => { change(box.checked); this.draw(); });
    }

    shown(series) {
      return !this.hidden.has(series.label) && !this.hidden.has(`variant ${series.variant}`);
    }

    move(share) {
      this.share = Math.min(1, Math.max(0, share));
      this.slider.value = Math.round(1000 * this.share);
      const { low, high, log } = this.domain;
      const where = log ? low * (high / low) ** this.share : low + (high - low) * this.share;
      const x = this.x(where);
      this.cross.setAttribute("d", `M${x} ${BOX.top}V${BOX.height - BOX.bottom}`);
      this.readout.textContent = `${this.config.symbol} = ${this.config.round(where)}`;
      for (const [series, output] of this.outputs)
        output.textContent = this.config.value(series, where, this.choices);
    }

    draw() {
      const series = this.task.series.filter((s) => this.shown(s) && s.x.length);
      const view = this.config.view(series, this.choices, this.task);
      const log = view.log;
      this.domain = { low: view.x[0], high: view.x[1], log };
      this.x = scale(view.x[0], view.x[1], BOX.left, BOX.width - BOX.right, log);
      const y = scale(view.y[0], view.y[1], BOX.height - BOX.bottom, BOX.top, view.logY);
      this.svg.replaceChildren();
      const floor = BOX.height - BOX.bottom;
      for (const value of ticks(view.x[0], view.x[1], log)) {
        make("path", { class: "grid", d: `M${this.x(value)} ${BOX.top}V${floor}` }, this.svg);
        make("text", { x: this.x(value), y: floor + 18, "text-anchor": "middle" }, this.svg, plain(value));
      }
      for (const value of ticks(view.y[0], view.y[1], view.logY)) {
        make("path", { class: "grid", d: `M${BOX.left} ${y(value)}H${BOX.width - BOX.right}` }, this.svg);
        make("text", { x: BOX.left - 8, y: y(value) + 4, "text-anchor": "end" }, this.svg, view.yText(value));
      }
      make("path", { class: "axis", d: `M${BOX.left} ${BOX.top}V${floor}H${BOX.width - BOX.right}` }, this.svg);
      make("text", { x: (BOX.left + BOX.width) / 2, y: BOX.height - 8, "text-anchor": "middle" }, this.svg, view.xLabel);
      make("text", { transform: `translate(13 ${(BOX.top + floor) / 2}) rotate(-90)`, "text-anchor": "middle" }, this.svg, view.yLabel);
      for (const budget of view.budgets || [])
        if (budget > view.x[0] && budget < view.x[1])
          make("path", { class: "budget", d: `M${this.x(budget)} ${BOX.top}V${floor}` }, this.svg);
      this.curves = new Map();
      for (const s of series) {
        const group = make("g", { class: `c${data.colours[s.attack]}` }, this.svg);
        const points = this.config.points(s, this.choices, view);
        if (points.band) make("path", { class: "band", d: this.band(points, y) }, group);
        make("path", { class: "curve", "stroke-dasharray": this.dashes[s.variant] ?? "", d: this.steps(points.x, points.y, y) }, group);
        this.curves.set(s.label, group);
      }
      this.cross = make("path", { class: "cross" }, this.svg);
      this.drawLegend();
      this.move(this.share);
    }

    steps(xs, ys, y) {
      let path = "";
      xs.forEach((value, k) => {
        if (ys[k] === null) return;
        path += path ? `H${this.x(value).toFixed(1)}V${y(ys[k]).toFixed(1)}`
          : `M${this.x(value).toFixed(1)} ${y(ys[k]).toFixed(1)}`;
      });
      return path;
    }

    band(points, y) {
      const clip = (v) => Math.min(1, Math.max(0, v));
      const up = this.steps(points.x, points.y.map((v) => clip(v + points.band)), y);
      const down = [];
      for (let k = points.x.length - 1; k >= 0; k--) {
        const bottom = y(clip(points.y[k] - points.band)).toFixed(1);
        down.push(`V${bottom}H${this.x(points.x[k]).toFixed(1)}`);
      }
      return `${up}${down.join("")}Z`;
    }

    drawLegend() {
      this.legend.replaceChildren();
      this.outputs = [];
      for (const s of this.task.series) {
        if (this.hidden.has(`variant ${s.variant}`)) continue;
        const item = make("li", {}, this.legend);
        const button = make("button", { type: "button", "aria-pressed": String(this.shown(s)) }, item);
        const sample = make("svg", { viewBox: "0 0 36 12", class: `c${data.colours[s.attack]}`, "aria-hidden": "true" }, button);
        make("path", { class: "curve", d: "M1 6H35", "stroke-dasharray": this.dashes[s.variant] ?? "" }, sample);
        make("span", {}, button, s.label);
        this.outputs.push([s, make("output", {}, button)]);
        button.addEventListener("click", () => {
          this.hidden[this.hidden.has(s.label) ? "delete" : "add"](s.label);
          this.draw();
        });
        const highlight = (on) => {
          for (const [label, group] of this.curves) group.classList.toggle("dim", on && label !== s.label);
        };
        button.addEventListener("pointerenter", () => highlight(this.shown(s)));
        button.addEventListener("pointerleave", () => highlight(false));
      }
    }
  }

  const edge = (series, f, start) => series.reduce((best, s) => f(best, ...s.x), start);

  // Whether a linear axis would squeeze the curves of most attacks into a corner.
  const wide = (tasks) => tasks.some(({ series }) => {
    const middles = series.filter((s) => s.x.length).map((s) => s.x[s.x.length >> 1]);
    return Math.max(...middles) > 6 * Math.min(...middles);
  });
  const figure = (id) => document.querySelector(`[data-chart="${id}"]`);
  if (figure("operating"))
    new Chart(figure("operating"), {
      tasks: data.operating,
      symbol: "D",
      round: short,
      options: [["band", "confidence bands", false], ["log", "logarithmic D", wide(data.operating)]],
      view: (series, choices) => {
        const high = edge(series, Math.max, 0) * 1.05 || 1;
        const low = choices.log ? Math.min(high / 10, edge(series.map((s) => ({ x: s.x.filter((v) => v > 0) })), Math.min, high) / 1.2) : 0;
        return {
          x: [low, high], y: [0, 1], log: choices.log, budgets: data.budgets,
          xLabel: `${data.norm} distortion D`, yLabel: "P(D)", yText: (v) => `${Math.round(100 * v)} %`,
        };
      },
      points: (s, choices, view) => ({
        x: [view.x[0], ...s.x.filter((v) => v > view.x[0]), view.x[1]],
        y: [at(s.x, s.y, view.x[0], 0), ...s.y.filter((_, k) => s.x[k] > view.x[0]), s.y[s.y.length - 1] ?? 0],
        band: choices.band ? s.half : 0,
      }),
      value: (s, where) => `${(100 * at(s.x, s.y, where, 0)).toFixed(1)} %`,
    });

  if (figure("anytime-chart"))
    new Chart(figure("anytime-chart"), {
      tasks: data.anytime,
      symbol: "passes",
      round: (v) => Math.floor(v),
      options: [["log", "logarithmic passes", true], ["share", "share fooled instead of distance", false]],
      view: (series, choices) => {
        const high = Math.max(2, edge(series, Math.max, 1)), low = choices.log ? 1 : 0;
        const found = series.flatMap((s) => s.y.filter((v) => v !== null && v > 0));
        const top = Math.max(...found), bottom = Math.min(...found);
        const logY = !choices.share && found.length > 0 && top / bottom > 20;
        return {
          x: [low, high * 1.05], log: choices.log, logY,
          y: choices.share ? [0, 1] : [logY ? bottom / 1.1 : 0, found.length ? top * 1.1 : 1],
          xLabel: "forward + backward passes per image",
          yLabel: choices.share ? "images fooled" : `median best ${data.anytimeNorm} distance`,
          yText: (v) => choices.share ? `${Math.round(100 * v)} %` : plain(v),
        };
      },
      points: (s, choices, view) => {
        const y = choices.share ? s.share : s.y;
        return { x: [...s.x, view.x[1]], y: [...y, y[y.length - 1]], band: 0 };
      },
      value: (s, where, choices) => choices.share
        ? `${(100 * at(s.x, s.share, where, 0)).toFixed(1)} %` : short(at(s.x, s.y, where, null)),
    });

  for (const table of document.querySelectorAll(".board"))
    table.querySelectorAll("thead th:not(.strip)").forEach((head) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const column = [...head.parentNode.children].indexOf(head);
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const key = (row) => row.children[column].textContent.trim();
        const compare = (a, b) => {
          const [u, v] = [key(a), key(b)], [m, n] = [parseFloat(u), parseFloat(v)];
          if (Number.isNaN(m) || Number.isNaN(n))
            return Number.isNaN(m) && Number.isNaN(n) ? u.localeCompare(v) * (descending ? -1 : 1) : Number.isNaN(m) - Number.isNaN(n);
          return (m - n) * (descending ? -1 : 1);
        };
        for (const body of table.tBodies) {
          const rows = [...body.rows].filter((row) => !row.classList.contains("part"));
          body.append(...rows.sort(compare));
        }
      });
    });

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
