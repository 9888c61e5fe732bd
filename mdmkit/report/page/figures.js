// Figures: from the data beside each to plotly's traces, in the colours of the theme.
"use strict";
(() => {
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x"];
  const DASHES = ["solid", "dot", "longdash", "dashdot", "longdashdot"];
  const KNOWN = [[8, 4], [2, 3], [10, 3, 2, 3], [16, 5], [10, 3, 2, 3, 2, 3]]; // dashes of references
  const FEW = 60; // points of a line that still get markers

  // plotly reads some HTML in its labels; ours are plain text.
  const plain = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const wrapped = (text, width) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines.at(-1);
      if (last && last.length + word.length >= width) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.map(plain).join("<br>");
  };
  const number = (value, error) =>
    error ? `${value.toPrecision(5)} ± ${error.toPrecision(2)}` : value.toPrecision(5);

  const theme = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    return {
      text: of("text"), quiet: of("quiet"), line: of("line"), surface: of("surface"),
      font: getComputedStyle(document.body).fontFamily,
      greys: [of("quiet"), of("text"), of("mask")],
      colours: SYMBOLS.map((_, place) => of(`colour-${place}`)),
    };
  };

  class Figure {
    constructor(element) {
      this.element = element;
      this.plot = element.querySelector(".plot");
      this.data = JSON.parse(element.querySelector(".figure-data").textContent);
      this.view = this.data.first;
      this.axis = Object.keys(this.data.axes)[0];
      this.logX = this.data.log_x;
      this.logY = this.data.log_y;
      this.hidden = new Set();
      this.zoomed = 0; // changes where a zoom no longer fits
      this.drawn = false;
      for (const control of element.querySelectorAll("[data-control]")) this.listen(control);
    }

    listen(control) {
      const act = {
        view: () => {
          this.view = Number(control.value);
          const output = control.parentElement.querySelector("output");
          if (output) {
            output.textContent = this.data.views[this.view].label;
            control.setAttribute("aria-valuetext", output.textContent);
          } else this.zoomed += 1;
        },
        axis: () => { this.axis = control.value; this.zoomed += 1; },
        "log-x": () => { this.logX = control.checked; this.zoomed += 1; },
        "log-y": () => { this.logY = control.checked; this.zoomed += 1; },
        reset: () => { this.zoomed += 1; },
      }[control.dataset.control];
      control.addEventListener(control.tagName === "BUTTON" ? "click" : "input", () => {
        act();
        this.draw();
      });
    }

    // Its place among the references of the view: each has another dash, and some another grey.
    reference(line) {
      return this.data.views[this.view].series.filter((one) => one.known).indexOf(line);
    }

    colour(line, look) {
      if (line.known) return look.greys[this.reference(line) % look.greys.length];
      return look.colours[line.colour % look.colours.length];
    }

    // The lengths of the dashes of a reference.
    dashes(line) {
      return KNOWN[this.reference(line) % KNOWN.length];
    }

    // The points of a line that can be drawn on the chosen axes.
    points(line) {
      const x = line.x[this.axis] ?? [];
      return x
        .map((at, place) => [at, line.y[place], line.stderr ? line.stderr[place] : null])
        .filter(([at, y]) => at !== null && y !== null)
        .filter(([at, y]) => (!this.logX || at > 0) && (!this.logY || y > 0));
    }

    lines(look) {
      const traces = [];
      const shown = this.data.views[this.view].series;
      shown.forEach((line, place) => {
        const points = this.points(line);
        if (!points.length || this.hidden.has(line.name)) return;
        const own = this.colour(line, look);
        const x = points.map((point) => point[0]);
        const y = points.map((point) => point[1]);
        const band = points.filter((point) => point[2] !== null);
        if (band.length > 1) {
          const low = ([, value, error]) =>
            this.logY ? Math.max(value - error, value / 100) : value - error;
          traces.push({
            x: [...band.map((p) => p[0]), ...band.map((p) => p[0]).reverse()],
            y: [...band.map((p) => p[1] + p[2]), ...band.map(low).reverse()],
            mode: "lines", fill: "toself", fillcolor: own, opacity: shown.length > 3 ? 0.08 : 0.16,
            line: { width: 0 }, hoverinfo: "skip", showlegend: false,
          });
        }
        const markers = points.length <= FEW && !line.known;
        traces.push({
          x, y, type: "scatter", mode: markers ? "lines+markers" : "lines", name: plain(line.name),
          line: { color: own, width: line.known ? 1.5 : 2,
                  dash: line.known ? this.dashes(line).map((length) => `${length}px`).join() : DASHES[line.dash % DASHES.length] },
          marker: { color: own, size: 6, symbol: SYMBOLS[line.colour % SYMBOLS.length] },
          text: points.map(([at, value, error]) => `${plain(line.name)}<br>${number(value, error)}`),
          hovertemplate: "%{text}<br>at %{x}<extra></extra>",
        });
      });
      return traces;
    }

    heat(view) {
      const { heat } = view;
      const text = heat.values.map((row, down) =>
        row.map((value, across) => {
          const error = heat.stderr ? heat.stderr[down][across] : null;
          const said = value === null ? "nothing measured" : number(value, error);
          return `${plain(heat.columns[across])}, ${plain(heat.rows[down])}<br>${said}`;
        }),
      );
      const narrow = this.plot.clientWidth < 520;
      const bar = narrow
        ? { orientation: "h", x: 0.5, y: 1.02, yanchor: "bottom", thickness: 10, len: 1 }
        : { thickness: 12, outlinewidth: 0 };
      const title = { text: wrapped(view.value_label, 40), side: narrow ? "top" : "right" };
      return [{
        type: "heatmap", z: heat.values, x: heat.columns.map((_, place) => place),
        y: heat.rows.map((_, place) => place), text, colorscale: "Viridis", hoverongaps: false,
        zmin: heat.lowest ?? undefined, zmax: heat.highest ?? undefined,
        hovertemplate: "%{text}<extra></extra>", colorbar: { ...bar, title, outlinewidth: 0 },
      }];
    }

    // A category axis of our own labels, as many as there is room for.
    labels(names, room) {
      const every = Math.max(1, Math.ceil(names.length / room));
      const places = names.map((_, place) => place).filter((place) => place % every === 0);
      return { tickvals: places, ticktext: places.map((place) => plain(names[place])), range: [-0.5, names.length - 0.5] };
    }

    layout(look) {
      const view = this.data.views[this.view];
      const narrow = this.plot.clientWidth < 520;
      const axis = {
        gridcolor: look.line, linecolor: look.line, zerolinecolor: look.line, automargin: true,
        tickfont: { color: look.quiet }, ticks: "outside", tickcolor: look.line, ticklen: 4,
      };
      const title = (text, width) => ({ text: wrapped(text, width), font: { size: 13, color: look.text }, standoff: 10 });
      const x = { ...axis, title: title(this.data.axes[this.axis], narrow ? 40 : 90) };
      const y = { ...axis, title: title(view.y_label, narrow ? 40 : 52) };
      if (view.heat) {
        const longest = Math.max(...view.heat.columns.map((name) => name.length), 1);
        Object.assign(x, this.labels(view.heat.columns, Math.max(2, this.plot.clientWidth / (9 * longest + 24))), { showgrid: false, tickangle: 0 });
        const rows = this.labels(view.heat.rows, 16);
        Object.assign(y, rows, { range: [...rows.range].reverse(), showgrid: false }); // from top to bottom
      } else {
        x.type = this.logX ? "log" : "linear";
        y.type = this.logY ? "log" : "linear";
        for (const one of [x, y]) if (one.type === "log") Object.assign(one, { dtick: "D2", minorloglabels: "complete" });
        if (view.high !== null && !this.logY) y.range = [view.low, view.high];
        if (view.high !== null && this.logY && view.low > 0) y.range = [Math.log10(view.low), Math.log10(view.high)];
        const large = view.series.some((line) => (line.x[this.axis] ?? []).some((at) => Math.abs(at) >= 10000));
        if (large && !this.logX) x.tickformat = "~s";
        const small = view.series.every((line) => line.y.every((at) => Math.abs(at ?? 0) < 0.01));
        if (small) y.exponentformat = "power"; // and not 200 µ nats
      }
      return {
        xaxis: x, yaxis: y, showlegend: false, autosize: true, uirevision: this.zoomed,
        margin: { l: 56, r: narrow ? 8 : 16, t: view.heat && narrow ? 64 : 12, b: 48 },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: look.font, size: 12, color: look.text },
        hovermode: "closest",
        hoverlabel: { bgcolor: look.surface, bordercolor: look.line, font: { color: look.text } },
        dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      };
    }

    draw() {
      if (!this.drawn || !this.plot.clientWidth) return;
      const look = theme();
      const view = this.data.views[this.view];
      const traces = view.heat ? this.heat(view) : this.lines(look);
      const config = { responsive: true, displayModeBar: false };
      window.Plotly.react(this.plot, traces, this.layout(look), config);
      this.legend(view, look);
    }

    // A legend outside of the picture: it wraps, it can be read aloud, and it has the keyboard.
    legend(view, look) {
      const list = this.element.querySelector(".legend");
      if (view.series.length < 2) {
        list.hidden = true;
        return;
      }
      const key = JSON.stringify([view.series.map((line) => [line.name, line.colour, line.dash]), look.colours]);
      list.hidden = false;
      if (list.dataset.key === key) return;
      list.dataset.key = key;
      list.replaceChildren(...view.series.map((line) => this.entry(line, look)));
    }

    entry(line, look) {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !this.hidden.has(line.name);
      box.addEventListener("change", () => {
        if (box.checked) this.hidden.delete(line.name);
        else this.hidden.add(line.name);
        this.draw();
      });
      const name = document.createElement("span");
      name.textContent = line.name;
      const label = document.createElement("label");
      label.append(box, this.sample(line, look), name);
      const entry = document.createElement("li");
      entry.append(label);
      return entry;
    }

    // A short piece of the line, with its marker.
    sample(line, look) {
      const name = "http://www.w3.org/2000/svg"; // a name, which nothing loads
      const dashes = { solid: "", dot: "2 3", longdash: "9 4", dashdot: "7 3 2 3", longdashdot: "10 3 2 3" };
      const shapes = ["M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", "M-3-3h6v6h-6z", "M0-4.5L4 0L0 4.5L-4 0z",
        "M0-4L4 3h-8z", "M0 4L4-3h-8z", "M-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
        "M-3.6-2.2L-2.2-3.6L0-1.4L2.2-3.6L3.6-2.2L1.4 0L3.6 2.2L2.2 3.6L0 1.4L-2.2 3.6L-3.6 2.2L-1.4 0z"];
      const own = this.colour(line, look);
      const made = (kind, attributes) => {
        const part = document.createElementNS(name, kind);
        for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
        return part;
      };
      const picture = made("svg", { width: 30, height: 12, viewBox: "0 0 30 12", "aria-hidden": "true" });
      const dash = line.known ? this.dashes(line).join(" ") : dashes[DASHES[line.dash % DASHES.length]];
      picture.append(made("line", { x1: 1, x2: 29, y1: 6, y2: 6, stroke: own, "stroke-width": 2, "stroke-dasharray": dash }));
      if (!line.known) {
        picture.append(made("path", { d: shapes[line.colour % shapes.length], fill: own, transform: "translate(15 6)" }));
      }
      return picture;
    }
  }

  const figures = [...document.querySelectorAll("figure")].map((element) => new Figure(element));
  document.addEventListener("mdmkit:theme", () => figures.forEach((figure) => figure.draw()));
  document.addEventListener("mdmkit:plotly", () => {
    // Each is drawn when it is about to be seen.
    const near = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          const figure = figures.find((one) => one.element === target);
          if (!isIntersecting || figure.drawn) continue;
          figure.drawn = true;
          figure.draw();
          near.unobserve(target);
        }
      },
      { rootMargin: "800px" },
    );
    for (const figure of figures) near.observe(figure.element);
  });
})();
