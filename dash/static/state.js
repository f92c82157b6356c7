// What is shown is what the address says: window, filters, order, scale. Nothing else is kept.

// At most 3,600 points are drawn (an hour, a second each); longer windows take longer steps.
export const WINDOWS = [
	{name: '1m', ms: 60e3, step: '1s', words: '1 minute'},
	{name: '5m', ms: 300e3, step: '1s', words: '5 minutes'},
	{name: '15m', ms: 900e3, step: '1s', words: '15 minutes'},
	{name: '1h', ms: 3600e3, step: '1s', words: '1 hour'},
	{name: '6h', ms: 6 * 3600e3, step: '30s', stepMs: 30e3, words: '6 hours'},
	{name: '24h', ms: 24 * 3600e3, step: '1m', stepMs: 60e3, words: '24 hours'},
	{name: '3d', ms: 72 * 3600e3, step: '5m', stepMs: 300e3, words: '3 days'},
	{name: '14d', ms: 14 * 24 * 3600e3, step: '15m', stepMs: 900e3, words: '14 days'},
];
export const SORTS = ['requests', 'errors', 'p95', 'time'];
export const FILTERS = ['app', 'dyno', 'method', 'route', 'status'];
const STATUS = /^[1-5](xx|\d\d)$/;

export const windowOf = state => WINDOWS.find(w => w.name === state.last);
// The API knows units up to the hour.
export const lastOf = w => w.ms >= 86400e3 ? `${w.ms / 3600e3}h` : w.name;

export function read(search) {
	const q = new URLSearchParams(search);
	const one = (name, among, otherwise) => among.includes(q.get(name)) ? q.get(name) : otherwise;
	const state = {
		last: one('last', WINDOWS.map(w => w.name), '15m'),
		sort: one('sort', SORTS, 'requests'),
		scale: one('scale', ['log'], ''),
		theme: one('theme', ['dark', 'light', 'auto'], ''),
	};
	for (const f of FILTERS) state[f] = q.get(f); // null: none; '': the requests that have no name there
	return tidy(state);
}

// tidy mends what an address typed by hand may combine and the API refuses.
function tidy(state) {
	state.status = state.status?.toLowerCase() ?? null;
	if (!STATUS.test(state.status ?? '')) state.status = null;
	if (state.route !== null) state.dyno = null;
	else state.method = null;
	return state;
}

// write gives the address of a state, without what goes without saying.
export function write(state) {
	const q = new URLSearchParams();
	if (state.last !== '15m') q.set('last', state.last);
	for (const f of FILTERS) if (state[f] !== null) q.set(f, state[f]);
	if (state.sort !== 'requests') q.set('sort', state.sort);
	if (state.scale) q.set('scale', state.scale);
	if (state.theme) q.set('theme', state.theme);
	return q.size ? `?${q}` : '';
}

// Routes and dynos are counted apart: what is told by the one knows nothing of the other.
const APART = {routes: 'dyno', methods: 'dyno', dynos: 'route', apps: 'route'};
export const unknownBy = (state, path) => APART[path] && state[APART[path]] !== null ? APART[path] : null;

// query makes an API's URL, relative to the page, with the state's filters.
export function query(state, path, more = {}) {
	const q = new URLSearchParams(more);
	for (const f of FILTERS) if (state[f] !== null) q.set(f, state[f]);
	return `api/v1/${path}${q.size ? `?${q}` : ''}`;
}

// filtered is the state with one more filter. Dyno and route take each other's place.
export function filtered(state, change) {
	const next = {...state, ...change};
	if (change.dyno != null) next.route = next.method = null;
	if (change.route != null) next.method = change.method ?? null, next.dyno = null;
	return tidy(next);
}

export const hasFilter = state => FILTERS.some(f => state[f] !== null);

// parse reads what was typed into the filter: "app:shop", "GET /users/:id", "web.1", "5xx". Null where it means nothing.
export function parse(text, known) {
	text = text.trim();
	const named = /^(app|dyno|route|status)(?:\s*[:=]\s*|\s+)(\S.*)$/i.exec(text);
	const kind = named?.[1].toLowerCase(), value = named ? named[2] : text;
	if (!value) return null;
	if (kind === 'status' || !kind && STATUS.test(value.toLowerCase())) return STATUS.test(value.toLowerCase()) ? {status: value.toLowerCase()} : null;
	const route = /^(?:([A-Z]{3,10})\s+)?(\S.*)$/.exec(value);
	if (kind === 'route' || !kind && route[2].startsWith('/')) return {route: route[2], method: route[1] ?? null};
	if (kind === 'app') return {app: value};
	if (kind === 'dyno' || known.has(value) || /^[a-z][\w-]*\.\d+$/.test(value)) return {dyno: value};
	return {app: value};
}
