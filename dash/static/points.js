// Points of one step, oldest first, one column each, keyed by their start: the same second put twice replaces itself.
export const CLASSES = ['2xx', '3xx', '1xx', 'none', '4xx', '5xx']; // as they are stacked, from the ground up
export const TIMES = ['p50', 'p95', 'p99'];
const SLACK = 60; // old points go by the minute, not one by one
const NO_CODES = Object.freeze({});

export class Points {
	// At most keep points, step ms each.
	constructor(step, keep) {
		this.step = step;
		this.keep = keep;
		this.clear();
	}

	clear() {
		this.start = []; // ms
		this.codes = []; // {H12: 3}
		this.columns = {requests: [], bytes: []};
		for (const c of CLASSES) this.columns[c] = [];
		for (const t of TIMES) this.columns[`service ${t}`] = [], this.columns[`connect ${t}`] = [];
	}

	get length() { return this.start.length; }
	get newest() { return this.start.at(-1); }

	// put takes a point of the API. What is older than all that is kept is left out; seconds that are
	// missing in between stay empty until they come.
	put(p) {
		const start = Date.parse(p.start);
		if (!Number.isFinite(start)) return;
		if (this.length && start - this.newest > this.keep * this.step) this.clear();
		if (!this.length) this.#append(start);
		const at = Math.round((start - this.start[0]) / this.step);
		if (at < 0) return;
		while (this.length <= at) this.#append(this.newest + this.step);
		this.#set(at, p);
		if (this.length > this.keep + SLACK) this.#each(a => a.splice(0, a.length - this.keep));
	}

	#each(f) {
		f(this.start);
		f(this.codes);
		for (const name in this.columns) f(this.columns[name]);
	}

	#append(start) {
		this.start.push(start);
		this.codes.push(NO_CODES);
		for (const name in this.columns) this.columns[name].push(null);
	}

	#set(at, p) {
		const c = this.columns, sum = {'1xx': 0, '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0};
		let known = 0;
		for (const [status, n] of Object.entries(p.status ?? {})) {
			const name = `${status[0]}xx`;
			if (status.length === 3 && Object.hasOwn(sum, name)) sum[name] += n, known += n;
		}
		for (const name in sum) c[name][at] = sum[name];
		c.requests[at] = p.requests;
		c.none[at] = Math.max(0, p.requests - known); // the router had no answer to log
		c.bytes[at] = p.bytes;
		for (const t of TIMES) {
			c[`service ${t}`][at] = p.service_ms?.[t] ?? null;
			c[`connect ${t}`][at] = p.connect_ms?.[t] ?? null;
		}
		this.codes[at] = p.codes && Object.keys(p.codes).length ? p.codes : NO_CODES;
	}

	// view copies the newest points of a window of ms: what is drawn stands still while more comes in.
	view(ms) {
		const from = Math.max(0, this.length - Math.round(ms / this.step));
		const view = {step: this.step, start: this.start.slice(from), codes: this.codes.slice(from)};
		for (const name in this.columns) view[name] = this.columns[name].slice(from);
		return view;
	}

	// sum of the newest n points of a column.
	sum(name, n) {
		let sum = 0;
		const c = this.columns[name];
		for (let i = Math.max(0, c.length - n); i < c.length; i++) sum += c[i] ?? 0;
		return sum;
	}
}
