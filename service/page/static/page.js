// Puts the sections that the service renders in their places, and draws the history.
'use strict';

const element = id => document.getElementById(id);

// Connection: one stream of events, closed while nobody sees the page.
let stream, lostAt, retry;

function connect() {
  clearTimeout(retry);
  if (stream || document.hidden) return;
  stream = new EventSource('events');
  stream.addEventListener('page', event => {
    connected();
    const page = JSON.parse(event.data);
    for (const [id, html] of Object.entries(page.sections ?? {})) show(id, html);
    if (page.charts) draw(page.charts);
  });
  stream.onerror = () => {
    disconnected();
    if (stream?.readyState !== EventSource.CLOSED) return; // else the browser connects again
    disconnect();
    retry = setTimeout(connect, 3000);
  };
}

function disconnect() {
  stream?.close();
  stream = undefined;
}

function connected() {
  lostAt = undefined;
  element('connection').hidden = true;
  document.body.classList.remove('lost');
}

function disconnected() {
  lostAt ??= new Date().toLocaleTimeString();
  const line = element('connection');
  line.textContent = `No connection since ${lostAt}: the service has stopped, or 16 browsers are connected already. Trying again.`;
  line.hidden = false;
  document.body.classList.add('lost');
}

document.addEventListener('visibilitychange', () => document.hidden ? disconnect() : connect());

// Sections. A list that moves is held while the viewer points at an item of it, and each section
// while something in it is pressed or selected.
const held = new Map();

const pointedAt = section => section.matches('[data-hold]') && (section.matches(':focus-within') ||
  matchMedia('(hover: hover)').matches && section.querySelector('li:hover, tbody tr:hover') !== null);

const pressedIn = section => section.querySelector('a:active, button:active, summary:active') !== null;

const selectedIn = section => !getSelection().isCollapsed && section.contains(getSelection().anchorNode);

function show(id, html) {
  const section = element(id);
  if (pointedAt(section) || pressedIn(section) || selectedIn(section)) {
    held.set(id, html);
    return;
  }
  held.delete(id);
  const template = document.createElement('template');
  template.innerHTML = html;
  const fresh = template.content, focused = document.activeElement?.id;
  for (const item of fresh.querySelectorAll('[id]')) {
    const old = element(item.id);
    if (!old) continue;
    if (item.matches('details')) item.open = old.open;
    if (old.isEqualNode(item)) item.replaceWith(old); // keeps its picture on the screen
  }
  section.replaceChildren(fresh);
  if (focused && document.activeElement?.id !== focused) element(focused)?.focus({preventScroll: true});
  const title = section.querySelector('[data-title]');
  if (title) document.title = `inceptor: ${title.innerText}`;
}

for (const event of ['mouseout', 'focusout', 'pointerup', 'pointercancel', 'selectionchange'])
  document.addEventListener(event, () => setTimeout(() => { for (const [id, html] of held) show(id, html); }));

// Buttons: what went wrong is shown on the page.
document.addEventListener('submit', async event => {
  const form = event.target;
  event.preventDefault();
  if (!confirm(form.dataset.question)) return;
  let answer;
  try {
    const text = await (await fetch(form.action, {method: 'POST'})).text();
    try {
      answer = JSON.parse(text);
    } catch {
      answer = {error: text.trim()}; // from a proxy or a guard, in plain words
    }
  } catch (error) {
    answer = {error: String(error)};
  }
  const notice = element('notice');
  notice.textContent = answer.error ?? answer.warning ?? '';
  notice.hidden = !notice.textContent;
  if (!notice.hidden) notice.scrollIntoView({block: 'nearest'});
});

// Charts.
const span = 15 * 60, shortest = 2 * 60; // seconds
const drawn = new Map(); // name to {plot, key}
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = v => v == null ? '–' : v >= 10000 ? `${Math.round(v / 1000)}k` : v >= 100 ? String(Math.round(v)) : String(+v.toPrecision(3));
let latest; // the last charts, to draw them again

function draw(charts) {
  latest = charts;
  const reasons = Object.keys(charts.dead_letters).sort();
  plot('records', charts, [['records', charts.records]]);
  plot('latency', charts, [['p50', charts.p50], ['p99', charts.p99]], v => v >= 1000 ? `${number(v / 1000)} s` : v == null ? '–' : `${number(v)} ms`);
  plot('lag', charts, [['lag', charts.lag]]);
  plot('batch', charts, [['images', charts.batch]]);
  plot('dead_letters', charts, reasons.length ? reasons.map(r => [r, charts.dead_letters[r]]) : [['none', charts.at.map(() => 0)]]);
}

function plot(name, charts, series, text = number) {
  const place = document.querySelector(`[data-chart="${name}"]`);
  const data = [charts.at, ...series.map(s => s[1])];
  const key = JSON.stringify([series.map(s => s[0]), place.clientWidth]);
  let chart = drawn.get(name);
  if (chart?.key !== key) {
    chart?.plot.destroy();
    chart = {key, plot: new uPlot(options(place, series, text), data, place)};
    drawn.set(name, chart);
  } else {
    chart.plot.setData(data);
  }
}

function options(place, series, text) {
  const axis = {stroke: colour('--quiet'), grid: {stroke: colour('--line'), width: 1}, ticks: {show: false}, font: '12px system-ui'};
  return {
    width: place.clientWidth, height: 130, padding: [8, 18, 0, 0],
    cursor: {y: false, sync: {key: 'page'}, drag: {x: false}},
    scales: {
      x: {range: ({data: [at]}) => at.length ? [Math.max(at.at(-1) - span, Math.min(at[0], at.at(-1) - shortest)), at.at(-1)] : [0, shortest]},
      y: {range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1]},
    },
    axes: [
      {...axis, size: 24, space: 70, values: (u, times) => times.map(t => !u.data[0].length ? '' : new Date(t * 1000).toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'}))},
      {...axis, size: 52, space: 30, values: (u, values) => values.map(text)},
    ],
    series: [
      {value: (u, t) => t == null ? '–' : new Date(t * 1000).toLocaleTimeString('en-GB')},
      ...series.map(([label], i) => ({
        label, stroke: colour(`--part-${i % 6}`), width: 2, dash: i % 2 ? [6, 3] : undefined, points: {show: u => u.data[0].length < 3},
        value: (u, v, at) => text(v ?? u.data?.[at]?.at(-1)), // the latest, while no pointer says which
      })),
    ],
    legend: {show: series.length > 1, markers: {fill: (u, i) => u.series[i].stroke()}},
    hooks: {draw: [marks]},
  };
}

// marks draws a line at each change of the version that answers.
function marks(u) {
  const {ctx, bbox} = u;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const {at, kind} of latest.marks) {
    const x = u.valToPos(at, 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(kind === 'failed' || kind === 'rolled-back' ? '--bad' : '--accent');
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function redraw() {
  for (const chart of drawn.values()) chart.plot.destroy();
  drawn.clear();
  if (latest) draw(latest);
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
new ResizeObserver(() => { if (latest) draw(latest); }).observe(element('charts'));

connect();
