// The stream of points, and how it comes back. EventSource would reconnect by itself after some breaks, not after an
// answer of 503 and not when a proxy holds a dead connection open: so every break is handled here, the same way.
const SILENCE = 10e3; // there is a point a second and a status every two
const FIRST_WAIT = 500, LONGEST_WAIT = 20e3;

export class Feed {
	#source = null;
	#wanted = false;
	#heard = 0;
	#attempt = 0;
	#retry;

	// url() is asked for each connection; null means that the owner will open again itself.
	constructor({url, point, status, state, broken}) {
		Object.assign(this, {url, point, status, state, broken});
		setInterval(() => this.#watch(), 1000);
	}

	open() {
		this.close();
		this.#wanted = true;
		const url = this.url();
		if (url === null) return;
		const source = this.#source = new EventSource(url);
		this.#heard = Date.now();
		const on = (name, take) => source.addEventListener(name, e => {
			if (source !== this.#source) return;
			let body;
			try { body = JSON.parse(e.data); } catch { return; }
			this.#heard = Date.now();
			this.#attempt = 0;
			this.state('live');
			take(body);
		});
		on('message', p => this.point(p));
		on('correction', p => this.point(p));
		on('status', s => this.status(s));
		source.onerror = () => source === this.#source && this.#break();
	}

	close() {
		this.#wanted = false;
		clearTimeout(this.#retry);
		this.#source?.close();
		this.#source = null;
	}

	// soon tries again at once, when something tells that it may work now.
	soon() {
		if (this.#wanted && !this.#source) this.open();
	}

	#watch() {
		if (this.#source && Date.now() - this.#heard > SILENCE) this.#break();
	}

	#break() {
		this.close();
		this.#wanted = true;
		const wait = Math.min(FIRST_WAIT * 2 ** this.#attempt++, LONGEST_WAIT) * (0.5 + Math.random() / 2);
		this.state('reconnecting');
		this.#retry = setTimeout(() => this.open(), wait);
		this.broken();
	}
}
