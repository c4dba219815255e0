"use strict";
// The portrait: what `theory` computes at the knobs' values, drawn anew whenever one of them moves.
(() => {
  const place = document.querySelector(".explorer");
  if (!place) return;
  const { knobs, runs } = JSON.parse(place.querySelector("script[type='application/json']").textContent);
  const form = place.querySelector("form"), svg = place.querySelector("svg"), chosen = form.elements.run;
  const values = Object.fromEntries(knobs.map((knob) => [knob.name, knob.start]));
  const WIDTH = 640, HEIGHT = 460, LEFT = 54, RIGHT = 14, TOP = 12, BOTTOM = 44;

  const number = (value) =>
    Number.isNaN(value) ? "–" : value === Infinity ? "∞" : String(Number(value.toPrecision(4))).replace("-", "−");
  const onKnob = (knob, value) => (knob.log ? Math.log10(value) : value);
  const ofKnob = (knob, position) => (knob.log ? 10 ** position : position);

  function show() {
    for (const knob of knobs) {
      const field = form.elements[knob.name], text = `${number(values[knob.name])}`;
      field.value = onKnob(knob, values[knob.name]);
      field.setAttribute("aria-valuetext", text);
      field.parentElement.querySelector("output").textContent = text;
    }
    draw();
  }

  // ---------------------------------------------------------------- the portrait

  const nice = (value) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 3, 4, 5, 6, 8, 10].find((digit) => digit * power >= value * 0.999999) * power;
  };
  const ticks = (low, high) => {
    const step = nice((high - low) / 6), first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
  };

  function draw() {
    const h = values, a = 1 + h.sigma2, rest = theory.restPoints(h), run = runs[chosen.value];
    const measured = run ? run.modes.flat() : [];
    const right = nice(Math.max(1.4 * h.tau / a, 1.15 * h.p0, ...measured.map(([p]) => 1.1 * p)));
    const left = -nice(Math.max(right / 5, -1.15 * h.p0, ...measured.map(([p]) => -1.1 * p)));
    const top = nice(Math.max(1.5 * (h.tau / a) ** 2 / h.alpha_p, 1.1 * h.s0, ...measured.map(([, s]) => 1.1 * s)));
    const x = (p) => LEFT + (p - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    const y = (s) => HEIGHT - BOTTOM - Math.min(Math.max(s / top, -0.02), 1.5) * (HEIGHT - TOP - BOTTOM);
    const at = ([p, s]) => `${x(p).toFixed(1)},${y(s).toFixed(1)}`;
    const line = (points) => points.map((one, k) => `${k ? "L" : "M"}${at(one)}`).join("");
    const grid = (low, high, count) => Array.from({ length: count + 1 }, (_, k) => low + (high - low) * k / count);
    const parts = [];
    const put = (name, of, words = "") =>
      parts.push(`<${name} ${Object.entries(of).map(([k, v]) => `${k}="${v}"`).join(" ")}>${words}</${name}>`);

    const ps = grid(left, right, 120), edge = theory.border(ps, h);
    const outline = ps.map((p, k) => [p, Math.min(Number.isNaN(edge[k]) ? 0 : edge[k], 1.4 * top)]);
    put("path", { class: "lost", d: `${line([[left, 0], ...outline, [right, 0]])}Z` });
    for (const p of grid(left, right, 16).slice(1, -1)) {
      for (const s of grid(0, top, 11).slice(1, -1)) {
        const [dp, ds] = theory.flow([p, s], h);
        const [u, v] = [dp / (right - left) * (WIDTH - LEFT - RIGHT), -ds / top * (HEIGHT - TOP - BOTTOM)];
        const size = Math.hypot(u, v) || 1, [i, j] = [11 * u / size, 11 * v / size];
        put("path", { class: "arrow", d: `M${x(p) - i / 2},${y(s) - j / 2}l${i},${j}m${-0.35 * i - 0.2 * j},${-0.35 * j + 0.2 * i}L${x(p) + i / 2},${y(s) + j / 2}` });
      }
    }
    put("path", { class: "parabola", d: line(ps.map((p) => [p, p * p / h.alpha_p])) });
    const ss = grid(0, Math.sqrt(1.2 * top), 80).map((r) => r * r);
    put("path", { class: "directpred", d: line(ss.map((s) => [theory.setP(s, h), s])) });
    if (h.eta > 0) put("path", { class: "separatrix", d: line(outline.filter(([, s]) => s < 1.39 * top)) });

    const points = [[h.p0, h.s0]];
    const [end] = theory.path([h.p0, h.s0], [Math.min(4000, 40 / Math.max(h.eta, 0.02))], h, (_, now) => points.push(now));
    put("path", { class: "path", d: line(points.filter((_, k) => k % Math.ceil(points.length / 400) === 0 || k === points.length - 1)) });
    for (const mode of run ? run.modes : []) {
      put("path", { class: "measured", d: line(mode) });
      put("circle", { class: "measured", cx: x(mode.at(-1)[0]), cy: y(mode.at(-1)[1]), r: 3 });
    }
    const mark = (kind, p, s, name) => {
      if (Number.isNaN(p)) return;
      put("circle", { class: kind, cx: x(p), cy: y(s), r: 5.5 });
      put("text", { class: "name", x: x(p) + 9, y: y(s) + 14 }, name);
    };
    mark("stable", 0, 0, "0");
    mark("saddle", rest.p_minus, rest.s_minus, "−");
    mark("stable", rest.p_plus, rest.s_plus, "+");
    const set = theory.directpred(h);
    for (const [kind, s] of [["saddle", set.s_minus], ["stable", set.s_plus]]) {
      if (!Number.isNaN(s)) put("rect", { class: kind, x: x(theory.setP(s, h)) - 4.5, y: y(s) - 4.5, width: 9, height: 9 });
    }
    put("circle", { class: "start", cx: x(h.p0), cy: y(h.s0), r: 7 });

    put("rect", { class: "frame", x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM });
    const inside = parts.splice(0).join("");
    for (const p of ticks(left, right)) put("text", { class: "tick", x: x(p), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, number(p));
    for (const s of ticks(0, top)) put("text", { class: "tick", x: LEFT - 7, y: y(s) + 4, "text-anchor": "end" }, number(s));
    put("text", { class: "axis-name", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "p, eigenvalue of the predictor");
    put("text", { class: "axis-name", transform: `translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "s, eigenvalue of F");
    const window = `${LEFT} ${TOP} ${WIDTH - LEFT - RIGHT} ${HEIGHT - TOP - BOTTOM}`, [i, j, w, k] = window.split(" ");
    svg.innerHTML = `<svg x="${i}" y="${j}" width="${w}" height="${k}" viewBox="${window}">${inside}</svg>${parts.join("")}`;
    svg.place = { p: (px) => left + (px - LEFT) / (WIDTH - LEFT - RIGHT) * (right - left), s: (py) => (HEIGHT - BOTTOM - py) / (HEIGHT - TOP - BOTTOM) * top };
    tell(h, rest, set, theory.border([h.p0], h)[0], end);
  }

  // ---------------------------------------------------------------- in words

  function tell(h, rest, set, edge, end) {
    const critical = theory.criticalEta(h), rates = theory.eigenvalues(h).plus, lives = h.s0 > edge;
    const said = {
      critical: number(critical),
      plus: Number.isNaN(rest.p_plus) ? "none: beyond the critical weight decay" : `p ${number(rest.p_plus)}, s ${number(rest.s_plus)}`,
      minus: Number.isNaN(rest.p_minus) ? "none" : `p ${number(rest.p_minus)}, s ${number(rest.s_minus)}`,
      rates: rates.map(number).join(", "),
      fate: Number.isNaN(edge) ? "undecided" : lives ? `lives (ends at p ${number(end[0])}, s ${number(end[1])})` : "collapses",
      border: edge === Infinity ? "none: every start collapses" : number(edge),
      directpred: Number.isNaN(set.s_plus) ? "none" : `s ${number(set.s_plus)}, from s ${number(set.s_minus)} on`,
      lifts: number(set.lifts),
    };
    for (const [name, words] of Object.entries(said)) place.querySelector(`[data-reading="${name}"]`).textContent = words;
    place.dataset.fate = Number.isNaN(edge) ? "undecided" : lives ? "lives" : "collapses";
  }

  // ---------------------------------------------------------------- hands

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const knob of knobs) values[knob.name] = knob.start;
    chosen.value = "";
    show();
  });
  form.addEventListener("input", (event) => {
    const knob = knobs.find((one) => one.name === event.target.name);
    if (knob) values[knob.name] = ofKnob(knob, Number(event.target.value));
    else if (runs[chosen.value]) Object.assign(values, runs[chosen.value].values);
    show();
  });

  // The start follows a finger or the mouse; with the keyboard it moves by its knobs.
  const within = (knob, value) => Math.min(Math.max(value, knob.low), knob.high);
  function start(event) {
    const box = svg.getBoundingClientRect(), scale = WIDTH / box.width;
    const point = { p0: svg.place.p((event.clientX - box.left) * scale), s0: svg.place.s((event.clientY - box.top) * scale) };
    for (const knob of knobs) if (knob.name in point) values[knob.name] = within(knob, point[knob.name]);
    show();
  }
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); start(event); });
  svg.addEventListener("pointermove", (event) => { if (svg.hasPointerCapture(event.pointerId)) start(event); });
  show();
})();
