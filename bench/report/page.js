(() => {
'use strict';
const charts = JSON.parse(document.getElementById('charts').textContent) || [];
const root = document.documentElement;
const css = name => getComputedStyle(root).getPropertyValue(name).trim();
const color = i => css('--c' + i);
const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

// Figures as the tables write them.
const short = v => v >= 1e6 ? +(v / 1e6).toPrecision(3) + 'M' : v >= 1e3 ? +(v / 1e3).toPrecision(3) + 'k' : String(+v.toPrecision(3));
const number = v => v == null ? '' : v >= 1000 ? Math.round(v).toLocaleString('en') : String(+v.toPrecision(3));
const seconds = v => v >= 60 ? Math.floor(v / 60) + ':' + String(v % 60).padStart(2, '0') : v + 's';
const percentile = x => String(+(100 - 100 / 10 ** x).toFixed(Math.max(0, Math.ceil(x) - 1) + (x % 1 ? 1 : 0)));

// phases shades every other one, and names those whose name has room above it.
function phases(all) {
  const each = f => u => {
    const ratio = devicePixelRatio || 1, {ctx, bbox} = u;
    ctx.save();
    all.forEach((p, i) => {
      const from = Math.max(bbox.left, u.valToPos(p.from, 'x', true)), to = Math.min(bbox.left + bbox.width, u.valToPos(p.to, 'x', true));
      if (to > from) f(ctx, p, i, from, to, bbox, ratio);
    });
    ctx.restore();
  };
  return {
    drawClear: [each((ctx, p, i, from, to, bbox) => {
      if (i % 2 === 0) return;
      ctx.fillStyle = css('--shade');
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
    })],
    draw: [each((ctx, p, i, from, to, bbox, ratio) => {
      ctx.font = 11 * ratio + 'px system-ui, sans-serif';
      ctx.textBaseline = 'bottom';
      ctx.textAlign = 'center';
      ctx.fillStyle = css('--muted');
      const name = [p.name, p.name.split(',')[0]].find(n => ctx.measureText(n).width + 4 * ratio < to - from);
      if (name) ctx.fillText(name, (from + to) / 2, bbox.top - 3 * ratio);
    })],
  };
}

// nice is the next of 1, 2 and 5 times a power of ten: below v, or above it.
function nice(v, up) {
  const power = 10 ** Math.floor(Math.log10(v) + 1e-9), digit = v / power;
  if (up) return power * [1, 2, 5, 10].find(d => d >= digit - 1e-9);
  return power * [5, 2, 1].find(d => d <= digit + 1e-9);
}

// whole are the ticks of percentiles: 0, 50, 90, 99, and so on.
function whole(max) {
  const all = [0, Math.log10(2)];
  for (let x = 1; x <= max; x++) all.push(x);
  return all;
}

function draw(chart, width) {
  const place = document.getElementById('chart-' + chart.id);
  const over = chart.kind === 'time';
  const axis = {stroke: css('--muted'), font, grid: {stroke: css('--grid'), width: 1}, ticks: {show: false}, gap: 6};
  const values = (u, all) => all.map(v => v == null ? '' : short(v));
  const shaded = chart.phases && chart.phases.length > 0;
  const options = {
    width: Math.max(200, width ? width(place) : place.clientWidth),
    height: 210,
    padding: [shaded ? 20 : 8, 10, 0, 0],
    legend: {markers: {width: 0, fill: (u, i) => i ? color(chart.lines[i - 1].color) : 'transparent'}},
    cursor: {y: false, points: {size: 6}},
    scales: {
      x: {time: false, range: (u, min, max) => [shaded ? Math.min(min, chart.phases[0].from) : min, max > min ? max : min + 1]},
      y: chart.log ? {distr: 3, range: (u, min, max) => min > 0 ? [nice(min), nice(max * 1.05, true)] : [0.1, 10]} : {range: (u, min, max) => [0, max > 0 ? max * 1.12 : 1]},
    },
    axes: [
      {...axis, size: 30, ...(over
        ? {values: (u, all) => all.map(seconds), space: 60, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200]}
        : {splits: u => whole(u.scales.x.max), values: (u, all) => all.map(percentile)})},
      {...axis, size: 50, values},
    ],
    series: [
      {label: over ? 'at' : 'percentile', value: (u, v) => v == null ? '' : over ? seconds(Math.round(v)) : percentile(v)},
      ...chart.lines.map(l => ({
        label: l.label, stroke: color(l.color), width: 1.75, dash: l.dash ? [5, 4] : undefined,
        points: {show: over && l.x.length < 60, size: 4, fill: color(l.color)}, value: (u, v) => number(v),
      })),
    ],
    hooks: shaded ? phases(chart.phases) : {},
  };
  place.textContent = '';
  return new uPlot(options, uPlot.join(chart.lines.map(l => [l.x, l.y])), place);
}

let drawn = [];
function drawAll(width) {
  drawn.forEach(u => u.destroy());
  drawn = charts.map(c => draw(c, width));
}
drawAll();

let waiting = 0;
addEventListener('resize', () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => drawn.forEach((u, i) => {
    const width = document.getElementById('chart-' + charts[i].id).clientWidth;
    if (width !== u.width) u.setSize({width: Math.max(200, width), height: 210});
  }));
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => drawAll());
// On paper it is light, and narrow.
addEventListener('beforeprint', () => { root.classList.add('light'); drawAll(place => place.closest('.charts') ? 310 : 660); });
addEventListener('afterprint', () => { root.classList.remove('light'); drawAll(); });
})();
