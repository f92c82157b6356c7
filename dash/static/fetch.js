// Requests to the API: one at a time for each purpose, again after a while, slower after errors.
const PATIENCE = 20e3, SLOWEST = 60e3;

// get answers with the parsed JSON. An error's message is the server's own line.
export async function get(url, signal) {
	const limit = AbortSignal.timeout(PATIENCE);
	let answer;
	try {
		answer = await fetch(url, {cache: 'no-store', signal: signal ? AbortSignal.any([signal, limit]) : limit});
		if (answer.ok) return await answer.json();
	} catch (e) {
		if (signal?.aborted) throw e;
		throw new Error(limit.aborted ? `no answer within ${PATIENCE / 1000} s` : answer ? 'the answer broke off' : 'the server cannot be reached');
	}
	if (answer.status === 401) toLogin();
	const line = (await answer.text()).split('\n')[0].slice(0, 300);
	throw new Error(line || `answer ${answer.status}`);
}

// toLogin leaves for the form, and remembers the address for afterwards.
function toLogin() {
	try { sessionStorage.setItem('drain.back', location.search); } catch { /* then to the plain page */ }
	location.replace('login');
}

// Poll asks url() every so often and hands over what came. It rests while idle() is true, and until the next now()
// where url() is null: then there is nothing to ask.
export class Poll {
	#abort;
	#timer;
	#failures = 0;

	constructor({url, every, idle, got, failed}) {
		Object.assign(this, {url, every, idle, got, failed});
	}

	// now asks at once; an answer to an older question is not wanted any more.
	now() {
		this.stop();
		const url = this.url();
		if (url === null) return this.got(null);
		const abort = this.#abort = new AbortController();
		get(url, abort.signal).then(body => {
			if (abort.signal.aborted) return;
			this.#failures = 0;
			this.got(body);
		}).catch(e => {
			if (abort.signal.aborted) return;
			this.#failures++;
			this.failed(e.message);
		}).finally(() => {
			if (!abort.signal.aborted) this.#later();
		});
	}

	#later() {
		const wait = Math.min(this.every() * 2 ** this.#failures, Math.max(SLOWEST, this.every()));
		this.#timer = setTimeout(() => this.idle() ? this.#later() : this.now(), this.#failures ? wait * (0.5 + Math.random() / 2) : wait);
	}

	stop() {
		clearTimeout(this.#timer);
		this.#abort?.abort();
	}
}
