// The charts: uPlot draws, this sums what is stacked, names what is drawn, and reads out what the cursor is on.
import {CLASSES, TIMES} from './points.js';
import {describe} from './codes.js';
import * as f from './format.js';

const {uPlot} = globalThis;
const SLOTS = 6; // H-codes with a colour of their own; the rest is one sum

const CLASS_WORDS = {'1xx': '1xx', '2xx': '2xx', '3xx': '3xx', '4xx': '4xx', '5xx': '5xx', none: 'no status'};

// Each kind is told apart by more than its colour: by hatching, width, and its place, which is the legend's.
const CLASS_SERIES = CLASSES.map(c => ({key: c, label: CLASS_WORDS[c], color: `--s-${c}`, hatch: {'4xx': 'dots', '5xx': 'lines'}[c], filter: c === 'none' ? null : {status: c}, seldom: c === '1xx' || c === 'none'}));
const timeSeries = what => TIMES.map((t, i) => ({key: `${what} ${t}`, label: t, color: `--t-${t}`, width: [1, 2, 1][i]}));

export const SPECS = {
	requests: {stack: true, rate: true, series: CLASS_SERIES, total: 'requests', value: v => `${f.rate(v)}/s`, axis: f.rate},
	service: {series: timeSeries('service'), times: true, value: f.ms, axis: f.axisMs},
	codes: {stack: true, bars: true, value: f.short, axis: f.short, series: [
		...Array.from({length: SLOTS}, (_, i) => ({slot: i, color: `--e-${i}`, hatch: [null, 'lines', 'dots'][i % 3]})),
		{slot: SLOTS, label: 'others', color: '--s-none'},
		{key: '5xx', label: 'all 5xx', color: '--ink', dots: true},
	]},
	connect: {series: timeSeries('connect'), times: true, value: f.ms, axis: f.axisMs},
	bytes: {rate: true, series: [{key: 'bytes', label: 'sent', color: '--accent', area: true}], value: v => `${f.bytes(v)}/s`, axis: v => f.bytesParts(v).join('')},
};

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// mix lays a colour over another, so that areas hide what is drawn behind them. Both are #rrggbb.
function mix(over, under, share) {
	const part = (c, i) => parseInt(c.slice(i, i + 2), 16);
	return '#' + [1, 3, 5].map(i => Math.round(part(over, i) * share + part(under, i) * (1 - share)).toString(16).padStart(2, '0')).join('');
}

function hatched(ctx, kind, ground, color) {
	const size = Math.round(6 * devicePixelRatio), tile = new OffscreenCanvas(size, size), c = tile.getContext('2d');
	c.fillStyle = ground;
	c.fillRect(0, 0, size, size);
	c.fillStyle = c.strokeStyle = color;
	c.lineWidth = devicePixelRatio * 1.2;
	c.beginPath();
	if (kind === 'dots') {
		c.arc(size / 2, size / 2, size / 6, 0, 7);
		c.fill();
	} else {
		for (const x of [-size, 0, size]) c.moveTo(x, size), c.lineTo(x + size, 0);
		c.stroke();
	}
	return ctx.createPattern(tile, 'repeat');
}

// Errors come singly: they are counted in bars of so many seconds, 90 at most in a window.
const BARS = [1, 5, 10, 30, 60, 300, 1200, 3600, 14400].map(s => s * 1000);
export const barOf = ms => BARS.find(b => ms / b <= 90) ?? BARS.at(-1);

// A count has no halves.
const WHOLE = Array.from({length: 12}, (_, i) => [1, 2, 5].map(n => n * 10 ** i)).flat();

// The next round number, so that the axis stands still while its values move a little.
function ceiling(max) {
	if (!(max > 0)) return 1;
	const power = 10 ** Math.floor(Math.log10(max));
	for (const m of [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]) if (m * power >= max * 1.04) return m * power;
	return 10 * power;
}

// Points whose neighbours are missing make no line: they are drawn as dots.
function lonely(u, si) {
	const data = u.data[si], found = [];
	for (let i = 0; i < data.length; i++) if (data[i] != null && data[i - 1] == null && data[i + 1] == null) found.push(i);
	return found.length ? found : null;
}

// slotsOf gives the commonest codes of a view their places; who has one keeps it.
function slotsOf(before, codes) {
	const sums = new Map();
	for (const c of codes) for (const code in c) sums.set(code, (sums.get(code) ?? 0) + c[code]);
	const top = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a) || (a < b ? -1 : 1)).slice(0, SLOTS);
	const slots = before.map(code => top.includes(code) ? code : null);
	for (const code of top) if (!slots.includes(code)) slots[slots.indexOf(null)] = code;
	return [slots, sums.size > SLOTS];
}

export class Chart {
	// One cursor for all charts: the leader has the pointer or the keyboard, the others follow to its very moment. (uPlot's
	// own way syncs pixels, and a pixel of an hour holds several points.)
	static #all = [];
	static #leader = null;
	#u;
	#moment = null;
	#view = null;
	#data = [];
	#ms = 60e3;
	#dense = false;
	#slots = Array(SLOTS).fill(null);

	// filter is called with a change of the state when somebody chooses a status class; log() tells the scale.
	constructor(figure, spec, {filter, log}) {
		Object.assign(this, {spec, log});
		this.legend = document.createElement('ul');
		this.legend.className = 'legend';
		this.at = document.createElement('time');
		this.plot = document.createElement('div');
		this.plot.className = 'plot';
		this.plot.tabIndex = 0;
		const title = figure.querySelector('h2');
		for (const [name, value] of [['role', 'slider'], ['aria-label', `${title.textContent}: a chart; arrow keys step through its points`],
			['aria-valuetext', 'nothing chosen'], ['aria-valuemin', 0], ['aria-valuemax', 0], ['aria-valuenow', 0]]) this.plot.setAttribute(name, value);
		this.plot.addEventListener('keydown', e => this.#key(e));
		this.plot.addEventListener('blur', () => this.#leave());
		this.plot.addEventListener('pointerenter', () => Chart.#leader = this, true);
		this.plot.addEventListener('pointerleave', e => e.pointerType === 'touch' || this.#leave()); // a finger that goes leaves the values to read
		figure.querySelector('figcaption').append(this.at, this.legend);
		figure.append(this.plot);
		if (spec.total) this.total = this.#item({label: 'all'}, filter);
		this.items = spec.series.map(s => this.#item(s, filter));
		this.rebuild();
		Chart.#all.push(this);
		new ResizeObserver(() => this.#u.setSize(this.#size())).observe(this.plot);
	}

	#item(s, filter) {
		const li = document.createElement('li'), name = document.createElement(s.filter ? 'button' : 'span');
		const value = document.createElement('b'), mark = document.createElement('i');
		if (s.color) {
			mark.className = `mark ${s.dots ? 'dot' : s.hatch ?? ''} ${this.spec.stack && !s.dots || s.area ? 'area' : ''}`;
			mark.style.setProperty('--mark', `var(${s.color})`);
			name.append(mark);
		}
		const text = document.createElement('span');
		text.textContent = s.label ?? '';
		name.append(text);
		if (s.filter) {
			name.type = 'button';
			name.title = `show ${s.label} only`;
			name.addEventListener('click', () => filter(s.filter));
		}
		li.append(name, value);
		li.dataset.series = s.key ?? s.label ?? '';
		this.legend.append(li);
		return {li, text, value};
	}

	#size() { return {width: Math.max(60, this.plot.clientWidth), height: Math.max(60, this.plot.clientHeight)}; }

	// rebuild makes the chart anew: colours and the kind of a scale cannot be changed later.
	rebuild() {
		this.#u?.destroy();
		const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
		const ink = css('--muted'), grid = css('--grid'), card = css('--card'), log = this.spec.times && this.log();
		const axis = {stroke: ink, font: `${Math.round(rem * 0.72)}px system-ui, sans-serif`, grid: {stroke: grid, width: 1}, ticks: {show: false}};
		const series = this.spec.series.map(s => {
			const color = css(s.color), area = this.spec.stack && !s.dots || s.area;
			const ground = mix(color, card, s.area ? 0.2 : s.filter ? 0.42 : 0.7);
			let pattern;
			return {
				stroke: color, width: this.#dense ? Math.min(1, s.width ?? 0) : s.width ?? 1, spanGaps: false,
				paths: s.dots ? () => null : this.spec.bars && area ? uPlot.paths.bars({size: [0.82, 60]}) : undefined,
				fill: !area ? undefined : s.hatch ? u => pattern ??= hatched(u.ctx, s.hatch, mix(color, card, 0.4), color) : ground,
				points: s.dots ? {show: true, size: 4, fill: color} : this.spec.stack ? {show: false} : {show: false, size: 4, fill: color, filter: lonely},
			};
		});
		// What is stacked is drawn from the top down: each area covers the foot of the one before.
		const stacked = this.spec.stack ? series.filter((_, i) => !this.spec.series[i].dots).reverse() : [];
		this.#u = new uPlot({
			...this.#size(),
			padding: [rem * 0.5, rem * 1.1, 0, 0],
			legend: {show: false},
			cursor: {drag: {x: false, y: false, setScale: false}, y: false, points: {show: !this.spec.stack, size: 7}},
			scales: {x: {time: true, range: (u, min, max) => [min, max]}, y: {range: (u, min, max) => [0, ceiling(max)], ...(log ? {distr: 4, asinh: 1} : {})}},
			bands: this.spec.times ? [{series: [2, 1], fill: mix(css('--t-p95'), card, 0.13)}] : [],
			series: [{}, ...stacked, ...series.filter((_, i) => !this.spec.stack || this.spec.series[i].dots)],
			axes: [
				{...axis, size: rem * 1.6, space: rem * 5, values: (u, splits, i, space, incr) => f.ticks(splits, incr)},
				{...axis, size: rem * 3.4, space: rem * (log ? 1.3 : 2), ...(this.spec.bars ? {incrs: WHOLE} : {}), values: (u, splits) => splits.map(v => v == null ? '' : this.spec.axis(v)), ...(log ? {filter: decades} : {})},
			],
			hooks: {setCursor: [() => this.#lead()]},
		}, this.#data, this.plot);
		if (this.#view) this.draw(this.#view, this.#ms);
	}

	// draw shows a view of a window of ms.
	draw(view, ms) {
		this.#view = view;
		this.#ms = ms;
		const {series} = this.spec;
		Object.assign(this, {start: view.start, step: view.step, x: view.x});
		this.values = this.spec.bars ? this.#bars(view) : series.map(s => view[s.key]);
		this.items.forEach(({li}, i) => series[i].seldom && (li.hidden = !this.values[i].some(v => v > 0)));
		const n = this.x.length, dense = n > 1200;
		if (dense !== this.#dense) { // many points to a pixel: thick lines would be one blot
			this.#dense = dense;
			return this.rebuild();
		}
		const by = this.spec.rate ? 1000 / view.step : 1;
		const drawn = by === 1 ? this.values : this.values.map(a => a.map(v => v == null ? null : v * by));
		if (this.spec.stack) {
			const sums = [];
			let below = null;
			for (let i = 0; i < drawn.length; i++) {
				if (series[i].dots) continue;
				const sum = new Array(n), on = drawn[i];
				for (let j = 0; j < n; j++) sum[j] = on[j] == null ? null : below ? below[j] + on[j] : on[j];
				sums.unshift(this.spec.bars ? sum.map(v => v || null) : sum); // no bar for nothing
				below = sum;
			}
			this.#data = [this.x, ...sums, ...drawn.filter((_, i) => series[i].dots)];
		} else this.#data = [this.x, ...drawn];
		this.by = by;
		if (this.spec.times) this.plot.toggleAttribute('data-nothing', !this.values.some(a => a.some(v => v !== null)));
		const end = view.x.at(-1) ?? 0;
		this.#u.batch(() => {
			this.#u.setData(this.#data, false);
			this.#u.setScale('x', {min: end - (ms - view.step) / 1000, max: end});
		});
		this.#read();
	}

	// #bars sums the codes of a view into bars at round times; what stands before the first of those is left out.
	#bars(view) {
		const [slots, others] = slotsOf(this.#slots, view.codes), step = Math.max(view.step, barOf(this.#ms));
		const first = Math.ceil((view.start[0] ?? 0) / step) * step, n = Math.max(0, Math.floor(((view.start.at(-1) ?? 0) - first) / step) + 1);
		this.#slots = slots;
		this.step = step;
		this.start = Array.from({length: n}, (_, i) => first + i * step);
		this.x = this.start.map(t => (t + step / 2) / 1000); // the middle: a bar is where its seconds are
		const sums = Array.from({length: SLOTS + 2}, () => new Array(n).fill(0)), totals = new Array(SLOTS + 2).fill(0);
		view.codes.forEach((codes, i) => {
			const bar = Math.floor((view.start[i] - first) / step), add = (at, k) => {
				totals[at] += k;
				if (bar >= 0) sums[at][bar] += k;
			};
			for (const code in codes) add(slots.includes(code) ? slots.indexOf(code) : SLOTS, codes[code]);
			add(SLOTS + 1, view['5xx'][i] ?? 0);
		});
		sums[SLOTS + 1] = sums[SLOTS + 1].map(v => v || null); // no dot for nothing
		slots.forEach((code, i) => {
			const {li, text} = this.items[i];
			li.hidden = !code;
			if (text.textContent !== f.plain(code ?? '')) {
				text.textContent = f.plain(code ?? '');
				li.title = code ? describe(code).slice(0, 2).join(': ') : '';
				li.dataset.series = code ?? '';
			}
		});
		this.items[SLOTS].li.hidden = !others;
		this.totals = totals;
		return sums;
	}

	#leave() {
		if (Chart.#leader !== this) return;
		this.#u.setCursor({left: -10, top: -10}, true, false);
		Chart.#leader = null;
	}

	// #lead takes the others to the moment under the cursor, if it is this chart's turn.
	#lead() {
		if (Chart.#leader !== this) return;
		const t = this.start?.[this.#u.cursor.idx] ?? null;
		for (const chart of Chart.#all) chart.#follow(t);
	}

	#follow(t) {
		this.#moment = t;
		if (Chart.#leader !== this) {
			const i = this.#index();
			this.#u.setCursor(i == null ? {left: -10, top: -10} : {left: this.#u.valToPos(this.x[i], 'x'), top: 1}, false, false);
		}
		this.#read();
	}

	// #index is the point that holds the moment, or null.
	#index() {
		if (this.#moment == null || !this.start?.length) return null;
		const i = Math.floor((this.#moment - this.start[0]) / this.step);
		return i >= 0 && i < this.start.length ? i : null;
	}

	// #read writes the values under the cursor into the legend, else the newest; of bars, the sums of the window.
	#read() {
		const view = this.#view;
		if (!view) return;
		const idx = this.#index(), i = idx ?? this.start.length - 1, t = this.start[i];
		write(this.at, t == null || idx == null ? '' : f.moment(t, this.step));
		this.at.title = t == null ? '' : f.utc(t);
		this.legend.dataset.start = t ?? '';
		if (this.total) this.#value(this.total, view[this.spec.total][i]);
		this.items.forEach((item, k) => this.#value(item, !this.spec.bars ? this.values[k][i] : idx == null ? this.totals[k] : this.values[k][i] ?? 0));
	}

	#value({value}, v) {
		write(value, v == null ? '–' : this.spec.value(v * this.by));
		if (value.dataset.value !== String(v ?? '')) value.dataset.value = v ?? '';
	}

	#key(e) {
		const n = this.start?.length ?? 0, step = e.shiftKey ? 10 : 1, now = this.#index() ?? n;
		const to = {ArrowLeft: now - step, ArrowRight: now + step, Home: 0, End: n - 1}[e.key];
		if (to === undefined || !n || e.ctrlKey || e.metaKey || e.altKey) return;
		e.preventDefault();
		const i = Math.min(n - 1, Math.max(0, to)), {plot} = this;
		Chart.#leader = this;
		this.#u.setCursor({left: this.#u.valToPos(this.x[i], 'x'), top: 1}, false, false);
		for (const chart of Chart.#all) chart.#follow(this.start[i]); // not where the pixel leads: the next point may share it
		plot.setAttribute('aria-valuemax', n - 1);
		plot.setAttribute('aria-valuenow', i);
		plot.setAttribute('aria-valuetext', [f.moment(this.start[i], this.step),
			...[...this.legend.children].filter(li => !li.hidden).map(li => `${li.firstChild.textContent} ${li.lastChild.textContent}`)].join(', '));
	}
}

// On a logarithmic scale the lines at 1, 2, 5 and their tens are named.
const decades = (u, splits) => splits.map(v => v === 0 || /^[125]e/.test(v.toExponential()) ? v : null);

function write(el, text) {
	if (el.textContent !== text) el.textContent = text;
}

// A Spark is the small line under a big figure. What asking for its size and colour costs is paid when they change.
export class Spark {
	#values = [];

	constructor(canvas, color) {
		Object.assign(this, {canvas, color});
		this.rebuild();
		new ResizeObserver(([{contentRect: {width, height}}]) => {
			canvas.width = Math.round(width * devicePixelRatio);
			canvas.height = Math.round(height * devicePixelRatio);
			this.draw(this.#values);
		}).observe(canvas);
	}

	rebuild() {
		this.ink = css(this.color);
		this.draw(this.#values);
	}

	// draw takes values that may be null.
	draw(values) {
		this.#values = values;
		const {width: w, height: h} = this.canvas, c = this.canvas.getContext('2d'), pen = 1.5 * devicePixelRatio;
		c.clearRect(0, 0, w, h);
		if (values.length < 2) return;
		const max = values.reduce((m, v) => Math.max(m, v ?? 0), 0) * 1.1 || 1;
		const x = i => i * w / (values.length - 1), y = v => h - pen - v / max * (h - 2 * pen);
		c.strokeStyle = c.fillStyle = this.ink;
		c.lineWidth = pen;
		c.lineJoin = 'round';
		for (let i = 0; i < values.length;) {
			if (values[i] == null) { i++; continue; }
			const from = i;
			c.beginPath();
			for (; i < values.length && values[i] != null; i++) c.lineTo(x(i), y(values[i]));
			if (i - from === 1) c.lineTo(x(from) + pen, y(values[from]));
			c.globalAlpha = 1;
			c.stroke();
			c.lineTo(x(i - 1), h);
			c.lineTo(x(from), h);
			c.globalAlpha = 0.12;
			c.fill();
		}
	}
}
