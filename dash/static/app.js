// The page: what the address says is asked of the API and shown; what is clicked or typed goes into the address.
import {Chart, SPECS, Spark, barOf} from './charts.js';
import {CODES, describe} from './codes.js';
import {Feed} from './feed.js';
import {Poll, get} from './fetch.js';
import * as f from './format.js';
import {CLASSES, Points, TIMES} from './points.js';
import * as S from './state.js';
import {Table, el, set} from './tables.js';

const $ = id => document.getElementById(id);
const HOUR = 3600e3;
const NOW = 300e3; // the small lines under the big figures reach this far back
const OVERLAP = 60; // seconds asked for again after a break: corrections may have been missed
const ASLEEP = 60e3; // a hidden page lets go of its stream then: browsers have six connections for all their tabs

let state = S.read(restored());
let paused = false, link = 'connecting', trouble = '';
let live = new Points(1000, HOUR / 1000); // a second each
let long = null; // of the longer windows
let longFull = 0, longAt = 0, lastPoint = 0, turn = 0;
let view = null; // what is drawn
let status = null, lags = [];
let recent = null, minute = null; // of the big figures
const tables = {}, rows = {routes: null, dynos: null, apps: null, methods: null};

// Who comes from the form gets back the address he had.
function restored() {
	try {
		const back = sessionStorage.getItem('drain.back');
		sessionStorage.removeItem('drain.back');
		if (back && !location.search) history.replaceState(null, '', location.pathname + back);
	} catch { /* a browser that keeps nothing */ }
	return location.search;
}

const idle = () => paused || document.hidden;
const isLong = () => S.windowOf(state).ms > HOUR;

// ---- points

const feed = new Feed({
	url() {
		if (lastPoint && Date.now() - lastPoint > HOUR - OVERLAP * 1000) {
			load(); // the stream reaches back an hour: the break was longer
			return null;
		}
		return S.query(state, 'stream', live.length ? {after: Math.round(live.newest / 1000) - OVERLAP} : {});
	},
	point(p) {
		live.put(p);
		lastPoint = Date.now();
		redraw();
	},
	status(s) {
		status = s;
		lags.push(s.lag);
		if (lags.length > 150) lags.shift();
		redraw();
	},
	state(s) {
		link = s;
		if (s === 'live') trouble = '';
		showState();
	},
	// An EventSource does not tell why it broke; another request does, or leads to the login.
	broken() {
		get('api/v1/lag').then(() => get(S.query(state, 'series', {step: '1s', last: '1m'}))).then(() => trouble = '', e => trouble = e.message).then(showState);
	},
});

// load fetches the seconds of the window anew, then follows the stream from there.
async function load() {
	const mine = ++turn;
	feed.close();
	link = 'connecting';
	showState();
	document.body.dataset.loading = '';
	for (let attempt = 0; mine === turn; attempt++) {
		try {
			const w = S.windowOf(state), last = w.ms > HOUR || w.ms < NOW ? '5m' : w.name;
			const body = await get(S.query(state, 'series', {step: '1s', last}));
			if (mine !== turn) return;
			const fresh = new Points(1000, HOUR / 1000);
			body.points.slice(0, -1).forEach(p => fresh.put(p)); // the last one is still being filled
			live = fresh;
			lastPoint = Date.now();
			notice('');
			loaded();
			feed.open();
			return;
		} catch (e) {
			if (mine !== turn) return;
			notice(`The points could not be fetched: ${e.message}. Trying again.`);
			await new Promise(done => setTimeout(done, Math.min(1000 * 2 ** attempt, 20e3) * (0.5 + Math.random() / 2)));
		}
	}
}

const longPoll = new Poll({
	url() {
		const w = S.windowOf(state), now = Date.now();
		// All of it now and then, for what came late; else only its end.
		const full = !long?.length || now - longFull > 600e3 || now - longAt > 2 * w.stepMs;
		if (full) longFull = now;
		return S.query(state, 'series', {step: w.step, last: full ? S.lastOf(w) : `${4 * w.stepMs / 1000}s`});
	},
	every: () => 10e3,
	idle: () => idle() || !isLong(),
	got(body) {
		const w = S.windowOf(state);
		if (body.step_ms !== w.stepMs) return;
		long ??= new Points(w.stepMs, w.ms / w.stepMs);
		longAt = Date.now();
		body.points.slice(0, -1).forEach(p => long.put(p));
		notice('');
		loaded();
	},
	failed(message) {
		longFull = 0;
		notice(`The points could not be fetched: ${message}. Trying again.`);
	},
});

function loaded() {
	if (!isLong() || long?.length) delete document.body.dataset.loading;
	redraw();
}

// ---- drawing

// What is new is drawn a chart a frame: together they would take longer than a frame may.
let due = false, asked = false, queue = [];

function redraw() {
	due = true;
	schedule();
}

function schedule() {
	if (asked) return;
	asked = true;
	requestAnimationFrame(() => {
		asked = false;
		if (idle()) return;
		if (queue.length) queue.shift()();
		else if (due) begin();
		if (queue.length || due) schedule();
	});
}

// begin takes what there is now, shows its figures, and queues its charts.
function begin() {
	due = false;
	const w = S.windowOf(state), points = isLong() ? long : live;
	if (points?.length) {
		view = points.view(w.ms);
		view.x = view.start.map(t => t / 1000);
		queue = Object.values(charts).map(c => () => c.draw(view, w.ms));
		set($('codes-step'), `by H-code, each ${f.span(Math.max(view.step, barOf(w.ms)))}`);
	}
	figures();
	emptiness();
	showState();
}

function figure(id, [value, unit], exact, under, verdict) {
	const root = $(id), b = root.querySelector('b');
	set(b, value);
	b.dataset.value = exact ?? '';
	set(root.querySelector('i'), unit);
	set(root.querySelector('.under'), under);
	const mark = root.querySelector('.verdict');
	if (mark) set(mark, verdict ?? '');
	if (verdict !== undefined) root.dataset.verdict = verdict;
}

// The first row: is it well now? It is drawn from the last minutes, whatever the window.
function figures() {
	const full = live.length >= 10, perSecond = full ? live.sum('requests', 10) / 10 : null;
	figure('kpi-requests', [f.rate(perSecond), '/s'], perSecond, live.length ? `${f.short(live.sum('requests', 60))} in the last minute` : '');
	document.title = full ? `${f.rate(perSecond)}/s – drain` : 'drain';

	if (minute) {
		const n = total(minute, 'requests'), bad = total(minute, 'errors'), share = n ? bad / n : null;
		figure('kpi-errors', [f.percent(share), share == null ? '' : '%'], share, `${f.count(bad)} of ${f.short(n)} in the last minute`,
			share >= 0.05 ? 'high' : share >= 0.01 ? 'raised' : '');
	}
	const at = recent?.at(-2)?.service_ms ?? {}; // the last is still being filled
	if (recent) figure('kpi-p95', f.msParts(at.p95), at.p95, at.p95 == null ? 'nothing measured' : `p50 ${f.ms(at.p50)} · p99 ${f.ms(at.p99)}`);
	if (status) {
		const {lag, late_ms: late, redis = 'ok', ready = 'ok'} = status;
		figure('kpi-lag', [f.short(lag), lag === 1 ? 'record' : 'records'], lag, redis !== 'ok' ? f.plain(`Redis ${redis}`) : ready !== 'ok' ? f.plain(String(ready)) : late ? `shown ${f.ms(late)} late` : 'up to date',
			redis !== 'ok' ? 'Redis away' : ready !== 'ok' ? 'not ready' : late > 15e3 ? 'behind' : '');
	}
	const seconds = live.view(NOW);
	const fives = values => Array.from({length: Math.floor(values.length / 5)}, (_, i) => values.slice(i * 5, i * 5 + 5).reduce((sum, v) => sum + (v ?? 0), 0));
	sparks.requests.draw(fives(seconds.requests));
	sparks.errors.draw(fives(seconds['5xx']));
	sparks.p95.draw(recent?.slice(0, -1).map(p => p.service_ms?.p95 ?? null) ?? []);
	sparks.lag.draw([...lags]);
}

function showState() {
	const behind = status && live.length ? (Date.parse(status.now) - live.newest) / 1000 - 1 : 0;
	let [name, text] = {live: ['live', 'live'], connecting: ['connecting', 'connecting'], reconnecting: ['reconnecting', 'reconnecting'], asleep: ['connecting', 'asleep']}[link];
	if (name === 'live' && behind > 6) [name, text] = ['behind', `${Math.round(behind)} s behind`];
	if (paused) [name, text] = ['paused', link === 'live' ? 'paused' : `paused, ${text}`];
	$('state').dataset.state = name;
	$('state').title = trouble;
	set($('state-text'), trouble && !paused ? `${text}: ${trouble}` : text);
	const t = view?.start.at(-1);
	set($('clock'), t == null ? '' : f.moment(t, view.step));
	$('clock').title = t == null ? '' : f.utc(t);
}

function notice(text) {
	$('notice').hidden = !text;
	set($('notice'), text);
}

// An empty picture says why it is empty and what to do about it.
function emptiness() {
	const all = summary(), known = all && view && !('loading' in document.body.dataset);
	const empty = Boolean(known && !total(all, 'requests') && !view.requests.some(n => n > 0));
	const never = empty && !S.hasFilter(state) && !(status?.records > 0);
	$('empty').hidden = !empty;
	document.body.classList.toggle('none', empty);
	if (!empty) return;
	const words = S.windowOf(state).words;
	set($('empty-title'), never ? 'Waiting for the first line' : S.hasFilter(state) ? 'No request fits these filters' : `Nothing in the last ${words}`);
	set($('empty-text'), never ? 'The topic holds no request yet. Three commands, each in a shell of its own, and this page fills:' : S.hasFilter(state)
		? `in the last ${words}.` : `${f.count(status.records)} records were read before.`);
	$('empty-how').hidden = !never;
	if (never) set($('how-line'), howLine());
	const actions = [];
	if (S.hasFilter(state)) actions.push(['All filters off', clearFilters]);
	if (!never && state.last !== '14d') actions.push(['Show 14 days', () => go({...state, last: '14d'})]);
	const box = $('empty-actions'), names = actions.map(a => a[0]).join();
	if (box.dataset.names !== names) {
		box.dataset.names = names;
		box.replaceChildren(...actions.map(([text, act]) => button(text, act)));
	}
}

// The line bears the time at which it is sent: this page goes by the time of the requests.
const howLine = () => 'curl -i http://127.0.0.1:8080/logs -d "$(date -u +%FT%T.000000+00:00) heroku[router]: at=info method=GET path=\\"/hello?page=2\\" host=example.herokuapp.com '
	+ 'request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd=\\"203.0.113.7\\" dyno=web.1 connect=0ms service=12ms status=200 bytes=1024 protocol=http1.1 tls=true tls_version=tls1.3"';

// ---- tables

const total = (list, key) => list.reduce((sum, r) => sum + r[key], 0);
const share = (n, of) => of ? n / of : 0;
const highest = (all, value) => all.reduce((m, r) => Math.max(m, value(r) ?? 0), 0);

// folded sums the counts of an object over all rows: {"200": 3} and {"200": 4} are {"200": 7}.
function folded(list, key) {
	const sums = new Map();
	for (const r of list) for (const [k, n] of Object.entries(r[key] ?? {})) sums.set(k, (sums.get(k) ?? 0) + n);
	return [...sums].map(([name, n]) => ({name, n})).sort((a, b) => b.n - a.n || (a.name < b.name ? -1 : 1));
}

const mixOf = r => ['2', '3', '1', '4', '5'].map(c => ({name: `${c}xx`, n: Object.entries(r.status ?? {}).reduce((sum, [s, n]) => s.length === 3 && s[0] === c ? sum + n : sum, 0)}));
const timeOf = r => (r.service_ms?.mean ?? 0) * r.requests;

const column = {
	requests: {name: 'Requests', class: 'n bar', cell: (r, all) => ({text: f.count(r.requests), value: r.requests, bar: share(r.requests, highest(all, x => x.requests))})},
	errors: {name: 'Errors', class: 'n', title: 'answers of 500 and above, and requests with an H-code', cell: r => ({text: r.errors ? f.count(r.errors) : '0', value: r.errors})},
	errorShare: {name: '%', class: 'n minor', title: 'errors in a hundred requests', cell: r => ({text: r.errors ? f.percent(share(r.errors, r.requests)) : '', value: share(r.errors, r.requests)})},
	mix: {name: 'Status', class: 'mixed minor', cell: r => ({mix: mixOf(r)})},
	time: t => ({name: t, class: t === 'p95' ? 'n' : 'n minor', title: `service time, ${t}`, cell: r => ({text: f.ms(r.service_ms?.[t]), value: r.service_ms?.[t] ?? ''})}),
	p95Bar: {name: 'p95', class: 'n bar', title: 'service time, p95', cell: (r, all) => ({text: f.ms(r.service_ms?.p95), value: r.service_ms?.p95 ?? '', bar: share(r.service_ms?.p95, highest(all, x => x.service_ms?.p95))})},
	bytes: {name: 'Bytes', class: 'n minor', cell: r => ({text: f.bytes(r.bytes), value: r.bytes})},
	n: (name, what) => ({name, class: 'n bar', title: what, cell: (r, all) => ({text: f.count(r.n), value: r.n, bar: share(r.n, highest(all, x => x.n))})}),
	share: {name: '%', class: 'n', cell: (r, all) => ({text: f.percent(share(r.n, total(all, 'n'))), value: share(r.n, total(all, 'n'))})},
};

function makeTables() {
	const add = (id, options) => tables[id] = new Table($(id), {filter: change => go(S.filtered(state, change)), sort: by => go({...state, sort: by}), ...options});
	add('routes', {
		caption: 'routes', key: r => JSON.stringify([r.method, r.route]),
		columns: [
			{name: 'Route', class: 'name mono', filter: r => ({route: r.route, method: r.method}), cell: r => ({text: `${r.method} ${r.route}`.trim() || '(none)', title: `${r.method} ${r.route}`.trim()})},
			{...column.requests, sort: 'requests'}, {...column.errors, sort: 'errors'}, column.errorShare, column.mix, column.time('p50'), {...column.p95Bar, sort: 'p95'}, column.time('p99'),
			{name: 'Time', sort: 'time', class: 'n bar minor', title: 'service time of all its requests together', cell: (r, all) => ({text: f.ms(timeOf(r)), value: timeOf(r), bar: share(timeOf(r), highest(all, timeOf))})},
			column.bytes,
		],
	});
	add('dynos', {
		caption: 'dynos', key: r => JSON.stringify([r.app, r.dyno]),
		columns: [
			{name: 'Dyno', class: 'name', filter: r => ({app: r.app, dyno: r.dyno}), cell: r => ({text: `${r.app} ${r.dyno || '(no dyno)'}`.trim(), title: `${r.app} ${r.dyno}`.trim()})},
			column.requests, column.errors, column.mix, column.time('p50'), column.p95Bar, column.time('p99'),
			{name: 'Connect', class: 'n minor', title: 'connect time, p95', cell: r => ({text: f.ms(r.connect_ms?.p95), value: r.connect_ms?.p95 ?? ''})},
		],
	});
	add('apps', {
		caption: 'apps', key: r => r.app,
		columns: [
			{name: 'App', class: 'name', filter: r => ({app: r.app}), cell: r => ({text: r.app || '(no name)', title: r.app})},
			column.requests, column.errors, column.mix, column.time('p50'), column.p95Bar, column.time('p99'), column.bytes,
		],
	});
	add('codes', {
		caption: 'error codes of the router', key: r => r.name, none: 'None in this window.',
		columns: [
			{name: 'Code', class: 'code', cell: r => ({text: r.name, title: r.name})}, column.n('Requests'),
			{name: 'What it means, what helps', class: 'words', cell: r => { const [name, meaning, help] = describe(r.name); return {text: [name && `${name}.`, meaning, help].filter(Boolean).join(' ')}; }},
		],
	});
	add('statuses', {
		caption: 'status codes', key: r => r.name,
		columns: [{name: 'Status', class: 'name', filter: r => ({status: r.name}), cell: r => ({text: r.name, title: r.name, off: !/^[1-5]\d\d$/.test(r.name)})}, column.n('Requests'), column.share],
	});
	add('methods', {caption: 'methods', key: r => r.name, columns: [{name: 'Method', class: 'name', cell: r => ({text: r.name || '(none)', title: r.name})}, column.n('Requests'), column.share]});
}

// What the whole of the requests is: of a route's, only the routes tell.
const summary = () => state.route !== null ? rows.routes : rows.apps;

function showSummary() {
	const list = summary();
	if (!list) return;
	tables.codes.show(folded(list, 'codes'));
	tables.statuses.show(folded(list, 'status'));
}

const show = {
	routes: (list, none) => tables.routes.show(list, none),
	// In the order of their names: side by side, each in its place.
	dynos: (list, none) => tables.dynos.show(list.toSorted((a, b) => a.app.localeCompare(b.app, 'en') || a.dyno.localeCompare(b.dyno, 'en', {numeric: true})), none),
	apps: (list, none) => tables.apps.show(list, none),
	methods: (list, none) => tables.methods.show(list.map(r => ({name: r.method, n: r.requests})).sort((a, b) => b.n - a.n), none),
};
const tellsAll = name => name === (state.route !== null ? 'routes' : 'apps');

const tablePolls = Object.keys(rows).map(name => new Poll({
	url: () => S.unknownBy(state, name) ? null : S.query(state, name, {last: S.lastOf(S.windowOf(state)), ...(name === 'routes' ? {limit: 50, sort: state.sort} : {})}),
	every: () => { const {ms} = S.windowOf(state); return ms <= HOUR ? 5e3 : ms <= 6 * HOUR ? 10e3 : 30e3; },
	idle,
	got(list) {
		if (paused && rows[name]) return;
		rows[name] = list ?? [];
		show[name](rows[name], list ? undefined : `Not counted by ${S.unknownBy(state, name)}: take that filter off to see them.`);
		if (tellsAll(name)) showSummary();
		redraw();
	},
	failed: message => [name, ...(tellsAll(name) ? ['codes', 'statuses'] : [])].forEach(t => tables[t].fail(message)),
}));

const nowPolls = [
	new Poll({url: () => S.query(state, 'series', {step: '10s', last: '5m'}), every: () => 3e3, idle, failed: () => {}, got: body => { recent = body.points; redraw(); }}),
	new Poll({url: () => S.query(state, state.route !== null ? 'routes' : 'apps', {last: '1m', ...(state.route !== null ? {limit: 50} : {})}), every: () => 3e3, idle, failed: () => {}, got: list => { minute = list; redraw(); }}),
];

// ---- the address, and all that follows from it

function go(next, {replace = false} = {}) {
	const address = location.pathname + S.write(next);
	if (S.write(next) !== S.write(state)) history[replace ? 'replaceState' : 'pushState'](null, '', address);
	follow(next);
}

// follow asks for what the new state needs and the old one did not.
function follow(next, first = false) {
	const before = state;
	state = next;
	const changed = name => first || before[name] !== state[name];
	const filters = S.FILTERS.some(changed), span = changed('last');
	if (filters || span || changed('sort')) setPaused(false);
	if (filters || changed('last') && !isLong() && live.length * 1000 < S.windowOf(state).ms - 2000) load();
	if (filters || span) {
		long = null;
		longPoll.stop();
		if (isLong()) {
			document.body.dataset.loading = '';
			longPoll.now();
		}
		for (const t in tables) tables[t].loading();
		tablePolls.forEach(p => p.now());
	} else if (changed('sort')) {
		tables.routes.loading();
		tablePolls[0].now();
	}
	if (filters) {
		recent = minute = null;
		nowPolls.forEach(p => p.now());
	}
	if (!first && changed('scale')) charts.service.rebuild(), charts.connect.rebuild();
	if (changed('theme')) showTheme();
	showControls();
	redraw();
}

function showControls() {
	for (const b of $('windows').children) b.setAttribute('aria-pressed', b.dataset.last === state.last);
	$('scale').setAttribute('aria-pressed', state.scale === 'log');
	tables.routes.sorted(state.sort);
	const chips = ['app', 'dyno', 'route', 'status'].filter(name => state[name] !== null).map(name => {
		const text = (name === 'route' ? `${state.method ?? ''} ${state.route}`.trim() : state[name]) || '(none)';
		const chip = button(f.plain(`${name} ${text}`), () => go({...state, [name]: null, ...(name === 'route' ? {method: null} : {})}), 'chip');
		chip.title = f.plain(text);
		chip.setAttribute('aria-label', `remove the filter ${name} ${text}`);
		return chip;
	});
	if (chips.length > 1) chips.push(button('all off', clearFilters, 'plain'));
	$('chips').replaceChildren(...chips);
}

const clearFilters = () => go({...state, app: null, dyno: null, method: null, route: null, status: null});

function button(text, act, cls) {
	const b = el('button', cls);
	b.type = 'button';
	b.textContent = text;
	b.addEventListener('click', act);
	return b;
}

// ---- view

function setPaused(on) {
	if (paused === on) return;
	while (queue.length) queue.shift()(); // a picture of one moment
	paused = on;
	$('pause').setAttribute('aria-pressed', on);
	set($('pause').querySelector('span'), on ? 'Resume' : 'Pause');
	showState();
	if (!on) refresh();
}

// refresh catches up after a time in which nothing was shown.
function refresh() {
	[...tablePolls, ...nowPolls].forEach(p => p.now());
	if (isLong()) longPoll.now();
	redraw();
}

const themeNow = () => {
	let kept = null;
	try { kept = localStorage.getItem('drain.theme'); } catch { /* a browser that keeps nothing */ }
	return state.theme || (['dark', 'light'].includes(kept) ? kept : 'auto');
};

function nextTheme() {
	const next = {auto: 'dark', dark: 'light', light: 'auto'}[themeNow()];
	try { localStorage.setItem('drain.theme', next); } catch { /* then for this time only */ }
	if (state.theme) go({...state, theme: next}, {replace: true});
	else showTheme();
}

function showTheme() {
	const theme = themeNow();
	if (theme === 'auto') delete document.documentElement.dataset.theme;
	else document.documentElement.dataset.theme = theme;
	set($('theme-text'), {auto: 'Auto', dark: 'Dark', light: 'Light'}[theme]);
	repaint();
}

function repaint() {
	for (const drawn of [charts, sparks]) for (const name in drawn) drawn[name].rebuild();
}

// shown is all that the page shows, as it shows it: for a file, and for whoever looks from the console.
function shown() {
	const points = !view ? [] : view.start.map((t, i) => {
		const p = {start: new Date(t).toISOString(), requests: view.requests[i], bytes: view.bytes[i], status: {}, codes: view.codes[i], service_ms: {}, connect_ms: {}};
		for (const c of CLASSES) p.status[c] = view[c][i];
		for (const q of TIMES) p.service_ms[q] = view[`service ${q}`][i], p.connect_ms[q] = view[`connect ${q}`][i];
		return p;
	});
	const filters = Object.fromEntries(S.FILTERS.filter(name => state[name] !== null).map(name => [name, state[name]]));
	return {saved: new Date().toISOString(), window: state.last, filters, step_ms: view?.step ?? null, points, ...rows};
}

function save() {
	const a = el('a'), url = URL.createObjectURL(new Blob([JSON.stringify(shown(), null, 1)], {type: 'application/json'}));
	a.href = url;
	a.download = `drain-${state.last}-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.json`;
	a.click();
	setTimeout(() => URL.revokeObjectURL(url), 10e3);
}

function help() {
	const box = $('all-codes');
	if (!box.firstChild) {
		const table = el('table'), body = el('tbody');
		table.append(body);
		for (const code in CODES) {
			const tr = el('tr'), th = el('th'), td = el('td');
			th.textContent = code;
			th.scope = 'row';
			td.textContent = `${CODES[code][0]}. ${CODES[code].slice(1).join(' ')}`;
			tr.append(th, td);
			body.append(tr);
		}
		box.append(table);
	}
	$('help').showModal();
}

// ---- what people do

function typed(e) {
	e.preventDefault();
	const input = $('filter-text'), dynos = new Set((rows.dynos ?? []).map(r => r.dyno));
	const change = S.parse(input.value, dynos);
	input.setCustomValidity(change || !input.value.trim() ? '' : 'a status is 404 or 5xx');
	if (!change) return input.reportValidity();
	input.value = '';
	input.blur();
	go(S.filtered(state, change));
}

function suggest() {
	const known = [
		...['2xx', '3xx', '4xx', '5xx'].map(s => `status ${s}`), ...folded(summary() ?? [], 'status').map(s => `status ${s.name}`),
		...(rows.apps ?? []).filter(r => r.app).map(r => `app ${r.app}`), ...(rows.dynos ?? []).filter(r => r.dyno).map(r => `dyno ${r.dyno}`),
		...(rows.routes ?? []).map(r => `route ${r.method} ${r.route}`),
	];
	$('filter-known').replaceChildren(...[...new Set(known)].slice(0, 200).map(value => Object.assign(el('option'), {value})));
}

function copy(b) {
	const source = $(b.dataset.copy);
	getSelection().selectAllChildren(source); // where the clipboard is not allowed, Ctrl+C does it
	navigator.clipboard?.writeText(source.textContent).then(() => {
		set(b, 'Copied');
		setTimeout(() => set(b, 'Copy'), 2000);
	}, () => {});
}

const KEYS = {
	p: () => setPaused(!paused), l: () => $('scale').click(), d: nextTheme, e: save, '?': help,
	'/': () => $('filter-text').focus(), Escape: () => S.hasFilter(state) && clearFilters(),
};

function key(e) {
	if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || $('help').open) return;
	if (e.target.matches('input')) {
		if (e.key === 'Escape') e.target.value = '', e.target.setCustomValidity(''), e.target.blur();
		return;
	}
	const w = /^[1-9]$/.test(e.key) ? S.WINDOWS[e.key - 1] : null, act = w ? () => go({...state, last: w.name}) : KEYS[e.key];
	if (!act) return;
	e.preventDefault();
	act();
}

let sleep;
function visibility() {
	clearTimeout(sleep);
	if (document.hidden) {
		sleep = setTimeout(() => {
			feed.close();
			link = 'asleep';
			showState();
		}, ASLEEP);
		return;
	}
	if (link === 'asleep') {
		link = 'connecting';
		feed.open();
	} else feed.soon();
	if (!paused) refresh();
}

// ---- start

makeTables();
$('windows').append(...S.WINDOWS.map((w, i) => {
	const b = button(w.name, () => go({...state, last: w.name}));
	b.dataset.last = w.name;
	b.title = `${w.words} (${i + 1})`;
	b.setAttribute('aria-label', w.words);
	return b;
}));
const small = $('chart-codes').querySelector('small');
small.id = 'codes-step';
const charts = {}, sparks = {};
for (const [name, color] of [['requests', '--accent'], ['errors', '--s-5xx'], ['p95', '--t-p95'], ['lag', '--muted']]) sparks[name] = new Spark($(`kpi-${name}`).querySelector('canvas'), color);
for (const name in SPECS) charts[name] = new Chart($(`chart-${name}`), SPECS[name], {filter: change => go(S.filtered(state, change)), log: () => state.scale === 'log'});

$('pause').addEventListener('click', () => setPaused(!paused));
$('scale').addEventListener('click', () => go({...state, scale: state.scale ? '' : 'log'}, {replace: true}));
$('theme').addEventListener('click', nextTheme);
$('export').addEventListener('click', save);
$('help-open').addEventListener('click', help);
$('filter').addEventListener('submit', typed);
$('filter-text').addEventListener('focus', suggest);
$('filter-text').addEventListener('input', e => e.target.setCustomValidity(''));
for (const b of document.querySelectorAll('.copy')) b.addEventListener('click', () => copy(b));
addEventListener('keydown', key);
addEventListener('popstate', () => follow(S.read(location.search)));
addEventListener('online', () => feed.soon());
document.addEventListener('visibilitychange', visibility);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
try { $('logout').hidden = !localStorage.getItem('drain.login'); } catch { /* then without the button */ }

// Nothing here can be changed from outside: it shows what the page shows.
Object.defineProperty(window, 'drain', {value: Object.freeze({shown})});
follow(state, true);
