"use strict";
(() => {
  const result = JSON.parse(document.getElementById("data").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const count = (n) => n.toLocaleString("en-US");
  const ms = (n) => (n >= 100 ? n.toFixed(0) : n.toFixed(1));
  // With as many places as a share needs to be told from 0 and 100 %.
  const share = (n) => {
    const rest = Math.min(n, 1 - n) * 100;
    return (rest <= 0 ? n * 100 : (n * 100).toFixed(rest < 1 ? 1 - Math.floor(Math.log10(rest)) : 1)) + " %";
  };
  const length = (s) => s < 60 ? s.toFixed(1) + " s" : [Math.floor(s / 3600), Math.floor(s / 60) % 60, Math.floor(s) % 60].map((n) => String(n).padStart(2, "0")).join(":");
  const status = (n, none) => (n === 0 ? none : String(n));

  // Whatever comes of a record is set as text.
  const make = (tag, text, className) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  };

  const recorded = result.recorded;
  const moment = (t) => t.slice(0, 19).replace("T", " ");
  document.getElementById("when").textContent =
    (recorded ? `Recorded ${moment(recorded.first)} to ${moment(recorded.last)} UTC (${length(recorded.seconds)}); sent ` : "Sent ") +
    `${result.speed === 0 ? "as fast as can be" : "at speed " + result.speed}, in ${length(result.seconds)} from ${moment(result.began)} UTC` +
    (result.ended === "end" ? "" : `, ended: ${result.ended}`);
  if (result.note) document.getElementById("when").append(make("br"), result.note);
  const verdict = document.getElementById("verdict");
  verdict.textContent = result.verdict.failed ? "Failed: " + result.verdict.why.join("; ") : share(result.compared.differ) + " of the answers differ";
  verdict.className = result.verdict.failed ? "failed" : "";

  const tile = (name, value, bad) => {
    const t = make("div", undefined, bad ? "tile bad" : "tile");
    t.append(make("b", value), make("span", name));
    document.getElementById("tiles").append(t);
  };
  const compared = result.compared;
  tile(`sent of ${count(result.requests.read)} records`, count(result.requests.sent));
  tile("answered as recorded", count(compared.same));
  tile("with another status", count(compared.other_status), compared.other_status > 0);
  tile("without an answer", count(compared.no_answer), compared.no_answer > 0);
  if (result.speed > 0) tile("late by more than 5 ms", share(result.late.share), result.late.share > 0.01);
  if (result.times) tile("p95, recorded → measured, ms", `${ms(result.times.recorded_ms.p95)} → ${ms(result.times.measured_ms.p95)}`, result.times.verdict === "slower");
  if (result.network.connections > 0) tile("network's round trip, ms", ms(result.network.round_trip_ms));
  if (result.pauses.times > 0) tile("paused, the target failed", length(result.pauses.seconds), true);

  // Charts.
  const points = result.series.points, step = result.series.step_s;
  const x = points.map((_, i) => i * step);
  const draw = (at, series, data, options) => {
    const place = typeof at === "string" ? document.getElementById(at) : at;
    const axis = { stroke: css("--faint"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
    const size = () => ({ width: Math.max(place.clientWidth, 200), height: 200 });
    const chart = new uPlot({
      ...size(), series, cursor: { points: { size: 6 } }, legend: { live: true },
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.05] } },
      axes: [{ ...axis, values: (_, all) => all.map(options.x) }, { ...axis, size: 56 }],
    }, data, place);
    new ResizeObserver(() => chart.setSize(size())).observe(place);
  };
  const line = (label, color, value) => ({ label, stroke: css(color), width: 1.5, value: (_, v) => (v == null ? "–" : value(v)), spanGaps: false });
  const time = { label: "at", value: (_, v) => (v == null ? "–" : length(v)) };
  const perSecond = (v) => count(Math.round(v * 10) / 10);
  if (points.length > 0) {
    const rate = (name) => points.map((p) => p[name] / step);
    draw("sent", [time, line("sent/s", "--now", perSecond), line("differ/s", "--bad", perSecond), line("no answer/s", "--none", perSecond)],
      [x, rate("sent"), rate("differ"), rate("failed")], { x: length });
    draw("times", [time, line("recorded", "--then", ms), line("measured", "--now", ms)],
      [x, points.map((p) => p.recorded_p95_ms), points.map((p) => p.measured_p95_ms)], { x: length });
    draw("late", [time, line("late", "--bad", ms)], [x, points.map((p) => p.late_ms)], { x: length });
  }

  // The matrix.
  const matrix = document.getElementById("matrix");
  const rows = [...new Set(result.status.map((p) => p.recorded))], columns = [...new Set(result.status.map((p) => p.answered))].sort((a, b) => a - b);
  const most = Math.max(1, ...result.status.filter((p) => p.differs).map((p) => p.requests));
  const head = make("tr");
  head.append(make("th", ""), ...columns.map((c) => make("th", status(c, "no answer"))));
  matrix.append(head);
  for (const row of rows) {
    const tr = make("tr");
    tr.append(make("th", status(row, "none")));
    for (const column of columns) {
      const p = result.status.find((p) => p.recorded === row && p.answered === column);
      const td = make("td", p ? count(p.requests) : "·", p && p.differs ? "differs" : "");
      if (p && p.differs) td.style.background = `rgb(${css("--heat")} / ${0.08 + 0.3 * p.requests / most})`;
      tr.append(td);
    }
    matrix.append(tr);
  }

  // Routes.
  const body = document.querySelector("#routes tbody");
  const routes = result.routes.map((route, i) => {
    const tr = make("tr"), name = make("td"), open = make("button", `${route.method} ${route.route}`);
    open.setAttribute("aria-expanded", "false");
    name.append(open);
    const differing = route.status.filter((p) => p.differs);
    tr.append(name, make("td", count(route.sent)), make("td", route.differ ? `${count(route.differ)} (${share(route.share)})` : "–", route.differ ? "differs" : ""),
      make("td", differing.map((p) => `${status(p.recorded, "none")}→${status(p.answered, "no answer")} ${count(p.requests)}`).join(", "), "answers"));
    for (const q of ["p50", "p95", "p99"]) {
      tr.append(make("td", route.times ? ms(route.times.recorded_ms[q]) : "", route.times ? "then" : ""), make("td", route.times ? ms(route.times.measured_ms[q]) : "–", "now"));
    }
    const word = route.times ? route.times.verdict : "";
    tr.append(make("td", word, "verdict " + word));
    body.append(tr);
    let more = null;
    open.addEventListener("click", () => {
      if (more) {
        more.remove();
        more = null;
      } else {
        more = details(route, result.curves[i]);
        tr.after(more);
        if (result.curves[i]) curve(more.querySelector(".curve"), result.curves[i]);
      }
      open.setAttribute("aria-expanded", String(more !== null));
    });
    return { tr, text: `${route.method} ${route.route}`.toLowerCase(), close: () => { if (more) open.click(); } };
  });
  const details = (route, curves) => {
    const tr = make("tr", undefined, "more"), td = make("td");
    td.colSpan = 11;
    td.append(make("p", "Answers: " + route.status.map((p) => `${status(p.recorded, "none")}→${status(p.answered, "no answer")} ${count(p.requests)}`).join(", ")));
    if (route.times) td.append(make("p", `Bytes of an answer, the mean: ${count(Math.round(route.recorded_bytes))} → ${count(Math.round(route.measured_bytes))}`));
    for (const e of route.examples || []) {
      const p = make("p");
      p.append(make("code", `${e.method} ${e.path}`), ` ${status(e.recorded, "none")} → ${e.failure || status(e.answered, "no answer")}, request ${e.request_id}`);
      td.append(p);
    }
    if (curves) td.append(make("p", "Service time, ms, that so many percent of the answers did not exceed"), make("div", undefined, "curve"));
    tr.append(td);
    return tr;
  };
  const curve = (place, curves) => draw(place, [{ label: "%", value: (_, v) => (v == null ? "–" : v + " %") }, line("recorded", "--then", ms), line("measured", "--now", ms)],
    [curves.Recorded.map((_, i) => i), curves.Recorded, curves.Measured], { x: (v) => v + " %" });
  document.getElementById("find").addEventListener("input", (e) => {
    const wanted = e.target.value.toLowerCase();
    for (const r of routes) {
      r.tr.hidden = !r.text.includes(wanted);
      if (r.tr.hidden) r.close();
    }
  });

  const skipped = document.getElementById("skipped");
  for (const [reason, n] of Object.entries(result.requests.skipped).sort((a, b) => b[1] - a[1])) {
    const tr = make("tr");
    tr.append(make("td", reason.replaceAll("_", " ")), make("td", count(n)));
    skipped.append(tr);
  }
  if (!skipped.children.length) skipped.append(make("caption", "None"));
})();
