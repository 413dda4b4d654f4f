// The page on which one plays. Data (weights, input, directions) come from the site's build, see site/playing.py.
// T steps, B rows, N units. What is measured is g(k) of docs/architecture.md: each state in its own size.
const play = (() => {
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const functions = {
    tanh: [Math.tanh, (y) => 1 - y * y],
    sigmoid: [sigmoid, (y) => y * (1 - y)],
    relu: [(x) => Math.max(x, 0), (y) => (y > 0 ? 1 : 0)],
    identity: [(x) => x, () => 1],
  };
  const zeros = (n) => new Float64Array(n);
  const product = (M, v, to) => M.forEach((row, i) => { for (let j = 0; j < row.length; j++) to[i] += row[j] * v[j]; });
  const back = (M, v, to) => M.forEach((row, i) => { for (let j = 0; j < row.length; j++) to[j] += row[j] * v[i]; });
  const scaled = (M, factor) => M.map((row) => row.map((one) => one * factor));

  // One row through all steps: the states, and for each step what sends a direction back through it.
  function rnn(data, { activation, radius }, x, steps) {
    const [f, slope] = functions[activation], U = scaled(data.U, radius), states = [[zeros(data.units)]], pulls = [];
    for (let t = 0; t < steps; t++) {
      const sum = zeros(data.units);
      product(data.W, x[t], sum);
      product(U, states[t][0], sum);
      const h = sum.map(f);
      states.push([h]);
      pulls.push(([v]) => { const to = zeros(h.length); back(U, v.map((one, i) => one * slope(h[i])), to); return [to]; });
    }
    return [states, pulls];
  }

  function lstm(data, { radius, bias }, x, steps) {
    const gates = ["i", "f", "g", "o"], U = gates.map((g) => scaled(data.gates[g].U, radius));
    const states = [[zeros(data.units), zeros(data.units)]], pulls = [];
    for (let t = 0; t < steps; t++) {
      const [h0, c0] = states[t];
      const [i, f, g, o] = gates.map((gate, k) => {
        const sum = zeros(data.units).fill(gate === "f" ? bias : 0);
        product(data.gates[gate].W, x[t], sum);
        product(U[k], h0, sum);
        return sum.map(gate === "g" ? Math.tanh : sigmoid);
      });
      const c = c0.map((one, n) => f[n] * one + i[n] * g[n]), out = c.map(Math.tanh), h = out.map((one, n) => o[n] * one);
      states.push([h, c]);
      pulls.push(([dh, dc]) => {
        const d = dc.map((one, n) => one + dh[n] * o[n] * (1 - out[n] ** 2)), to = zeros(data.units);
        back(U[0], d.map((one, n) => one * g[n] * i[n] * (1 - i[n])), to);
        back(U[1], d.map((one, n) => one * c0[n] * f[n] * (1 - f[n])), to);
        back(U[2], d.map((one, n) => one * i[n] * (1 - g[n] ** 2)), to);
        back(U[3], dh.map((one, n) => one * out[n] * o[n] * (1 - o[n])), to);
        return [to, d.map((one, n) => one * f[n])];
      });
    }
    return [states, pulls];
  }

  // How large a state is: the root of the mean square of that by which the rows differ.
  function size(rows, which) {
    let squares = 0, count = 0;
    for (let t = 0; t < rows[0].length; t++)
      for (let n = 0; n < rows[0][t][which].length; n++) {
        const values = rows.map((states) => states[t][which][n]), mean = values.reduce((a, b) => a + b) / values.length;
        for (const one of values) { squares += (one - mean) ** 2; count++; }
      }
    return Math.sqrt(squares / count) || 1;
  }

  function profile(data, settings) {
    const run = settings.cell === "lstm" ? lstm : rnn, steps = settings.length;
    const ran = data.x.map((x) => run(data, settings, x, steps));
    const count = ran[0][0][0].length;
    const sizes = Array.from({ length: count }, (_, which) => size(ran.map(([states]) => states), which));
    const squares = zeros(steps + 1);
    ran.forEach(([, pulls], row) => {
      let v = Array.from({ length: count }, (_, which) => Float64Array.from(data.v[row][which], (one) => one / sizes[which]));
      for (let k = 0; k <= steps; k++) {
        v.forEach((part, which) => part.forEach((one) => { squares[k] += (one * sizes[which]) ** 2; }));
        if (k < steps) v = pulls[steps - 1 - k](v);
      }
    });
    return Array.from(squares, (one) => Math.sqrt(one / squares[0]));
  }

  const reach = (norms) => norms.reduce((last, one, k) => (one >= 0.01 ? k : last), 0);

  function cliff(by, threshold, rate, steps = 120) {
    const path = [[4.8, -2.3]], norms = [];
    for (let n = 0; n < steps; n++) {
      const [w, b] = path[n];
      let x = 0.5, dw = 0, db = 0;
      for (let t = 0; t < 50; t++) {
        const s = sigmoid(x), slope = w * s * (1 - s);
        [x, dw, db] = [w * s + b, s + slope * dw, 1 + slope * db];
      }
      const s = sigmoid(x), outer = 2 * (s - 0.7) * s * (1 - s);
      let gradient = [outer * dw, outer * db];
      const norm = Math.hypot(...gradient);
      norms.push(norm);
      if (by === "norm" && norm > threshold) gradient = gradient.map((one) => (one / norm) * threshold);
      if (by === "value") gradient = gradient.map((one) => Math.max(-threshold, Math.min(threshold, one)));
      path.push([w - rate * gradient[0], b - rate * gradient[1]]);
    }
    return { path, norms };
  }

  function error(w, b) {
    let x = 0.5;
    for (let t = 0; t < 50; t++) x = w * sigmoid(x) + b;
    return (sigmoid(x) - 0.7) ** 2;
  }
  return { profile, reach, cliff, error };
})();

if (typeof document !== "undefined" && document.getElementById("play")) {
  const $ = (name) => document.getElementById(name), data = window.playData;
  const ink = "currentColor", blue = "#3b8ed8";
  const told = (name, text) => { $(name).nextElementSibling.textContent = text; };

  function drawProfile(norms) {
    const left = 58, right = 450, top = 12, bottom = 218, low = -6, high = 3;
    const at = (k, norm) => [
      left + ((right - left) * k) / (norms.length - 1),
      bottom - ((bottom - top) * (Math.min(Math.max(Math.log10(norm), low), high) - low)) / (high - low),
    ];
    let parts = "";
    for (const [power, label] of [[2, "10,000 %"], [0, "100 %"], [-2, "1 %"], [-4, "0.01 %"], [-6, "0.0001 %"]]) {
      const y = at(0, 10 ** power)[1];
      const dash = power === -2 ? 'stroke-dasharray="3 3" opacity="0.9"' : 'opacity="0.2"';
      parts += `<line x1="${left}" x2="${right}" y1="${y}" y2="${y}" stroke="${ink}" ${dash}/>`;
      parts += `<text x="${left - 6}" y="${y + 4}" text-anchor="end" font-size="11" fill="${ink}">${label}</text>`;
    }
    const places = [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * (norms.length - 1)));
    for (const k of places)
      parts += `<text x="${at(k, 1)[0]}" y="236" text-anchor="middle" font-size="11" fill="${ink}">${k}</text>`;
    parts += `<text x="${(left + right) / 2}" y="254" text-anchor="middle" font-size="12" fill="${ink}">steps back</text>`;
    const end = norms.findIndex((norm) => norm < 10 ** low);
    const seen = end < 0 ? norms : norms.slice(0, end + 1);
    const line = seen.map((norm, k) => at(k, norm).map((one) => one.toFixed(1)).join(",")).join(" ");
    parts += `<polyline points="${line}" fill="none" stroke="${blue}" stroke-width="2.5"/>`;
    $("play-profile").innerHTML = parts;
  }

  function drawEigenvalues(radius) {
    const at = (one) => 130 + (one * 110) / 2;
    let parts = `<circle cx="130" cy="130" r="55" fill="none" stroke="${ink}" opacity="0.5"/>`;
    parts += `<line x1="20" x2="240" y1="130" y2="130" stroke="${ink}" opacity="0.2"/>`;
    parts += `<line y1="20" y2="240" x1="130" x2="130" stroke="${ink}" opacity="0.2"/>`;
    for (const [re, im] of data.eigenvalues)
      parts += `<circle cx="${at(re * radius)}" cy="${at(im * radius)}" r="3.5" fill="${blue}"/>`;
    parts += `<text x="130" y="254" text-anchor="middle" font-size="12" fill="${ink}">eigenvalues; the circle is 1</text>`;
    $("play-eigenvalues").innerHTML = parts;
  }

  function update() {
    const cell = $("play-cell").value;
    const settings = {
      cell, activation: $("play-activation").value, radius: +$("play-radius").value,
      bias: +$("play-bias").value, length: +$("play-length").value,
    };
    $("play-activation").disabled = cell === "lstm";
    $("play-bias").disabled = cell === "rnn";
    told("play-radius", settings.radius.toFixed(2));
    told("play-bias", settings.bias.toFixed(1));
    told("play-length", String(settings.length));
    const norms = play.profile(data, settings), reach = play.reach(norms), last = norms[norms.length - 1];
    const raised = (power) => power.replace(/./g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)] ?? "");
    const share = last >= 1e-4 && last < 100 ? `${(100 * last).toPrecision(2)} %` : `10${raised(last.toExponential(0).split("e")[1])}`;
    $("play-told").textContent =
      `The gradient reaches ${reach === settings.length ? `at least ${reach}` : reach} steps; at the first step ${share} of it is left` +
      (cell === "lstm" ? `; the forget gate keeps about ${(1 / (1 + Math.exp(-settings.bias))).toFixed(2)}` : "");
    drawProfile(norms);
    drawEigenvalues(settings.radius);
  }

  let surface = null;
  function drawCliff() {
    const by = $("cliff-by").value, threshold = 10 ** +$("cliff-threshold").value, rate = 10 ** +$("cliff-rate").value;
    $("cliff-threshold").disabled = by === "none";
    told("cliff-threshold", threshold.toPrecision(2));
    told("cliff-rate", rate.toPrecision(2));
    const canvas = $("cliff-surface"), pen = canvas.getContext("2d"), { width, height } = canvas;
    const W = [3.8, 5.8], B = [-3.2, -1.5];  // the ticks of play.md
    const colour = (e) => {
      const s = Math.sqrt(Math.min(e / 0.49, 1));
      return [68 + 185 * s, 20 + 200 * s, 100 + 60 * Math.sin(3 * s)].map(Math.round);
    };
    if (!surface) {
      surface = pen.createImageData(width, height);
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const e = play.error(W[0] + ((W[1] - W[0]) * x) / width, B[1] - ((B[1] - B[0]) * y) / height);
          surface.data.set([...colour(e), 255], 4 * (y * width + x));
        }
      const stops = [0, 0.05, 0.12, 0.22, 0.34, 0.49].map((e) => `rgb(${colour(e)}) ${(e / 0.0049).toFixed(0)}%`);
      document.querySelector(".cliff-scale span").style.background = `linear-gradient(90deg, ${stops})`;
    }
    pen.putImageData(surface, 0, 0);
    const { path, norms } = play.cliff(by, threshold, rate);
    pen.strokeStyle = pen.fillStyle = "#ffffff";
    pen.beginPath();
    for (const [w, b] of path) {
      const x = ((w - W[0]) / (W[1] - W[0])) * width, y = ((B[1] - b) / (B[1] - B[0])) * height;
      pen.lineTo(x, y);
      pen.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
    pen.stroke();
    const short = (value) => (value >= 100 ? String(Math.round(value)) : value.toPrecision(2));
    const jump = Math.max(...path.slice(1).map(([w, b], n) => Math.hypot(w - path[n][0], b - path[n][1])));
    $("cliff-told").textContent =
      `longest step ${short(jump)}, steepest slope met ${short(Math.max(...norms))}, ` +
      `error at the end ${play.error(...path[path.length - 1]).toPrecision(2)}`;
  }

  for (const control of document.querySelectorAll("#play select, #play input")) control.addEventListener("input", update);
  for (const control of document.querySelectorAll("#cliff select, #cliff input")) control.addEventListener("input", drawCliff);
  update();
  drawCliff();
}
