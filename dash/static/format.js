// Numbers, times and names as people read them. Everything takes null for "nothing was measured".
const NONE = '–';
const grouped = new Intl.NumberFormat('en');
const upTo = [0, 1, 2, 3].map(d => new Intl.NumberFormat('en', {maximumFractionDigits: d}));

// Three figures that matter: 1.23, 12.3, 123.
function three(v) {
	const a = Math.abs(v);
	return upTo[a >= 99.95 ? 0 : a >= 9.995 ? 1 : 2].format(v);
}

function scaled(v, base, units) {
	let i = 0;
	while (i < units.length - 1 && Math.abs(v) >= base * 0.9995) v /= base, i++;
	return [three(v), units[i]];
}

// plain shows the characters that would turn the text around them: a name is not to look like another.
export const plain = text => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, '\ufffd');

export const count = v => v == null ? NONE : grouped.format(v);
export const short = v => v == null ? NONE : Math.abs(v) < 10000 ? grouped.format(Math.round(v)) : scaled(v, 1000, ['', 'k', 'M', 'G', 'T']).join('');
export const rate = v => v == null ? NONE : scaled(v, 1000, ['', 'k', 'M', 'G']).join('');
export const percent = v => v == null ? NONE : v > 0 && v < 0.0001 ? '<0.01' : upTo[v < 0.0995 ? 2 : 1].format(v * 100);
export const bytesParts = v => v == null ? [NONE, ''] : scaled(v, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
export const bytes = v => bytesParts(v).join(' ').trim();

export function msParts(v) {
	if (v == null) return [NONE, ''];
	if (v < 1000) return [v < 10 ? upTo[1].format(v) : upTo[0].format(v), 'ms'];
	if (v < 60000) return [three(v / 1000), 's'];
	return v < 3600000 ? [three(v / 60000), 'min'] : [three(v / 3600000), 'h'];
}
export const ms = v => msParts(v).join(' ').trim();

// Axis labels stand alone: "0.5s" is shorter than "500 ms" only by accident, so they keep the unit close.
export const axisMs = v => msParts(v).join('');

const of = options => new Intl.DateTimeFormat(undefined, {hourCycle: 'h23', ...options});
const HMS = {hour: '2-digit', minute: '2-digit', second: '2-digit'}, HM = {hour: '2-digit', minute: '2-digit'}, DAY = {day: 'numeric', month: 'short'};
const hms = of(HMS), hm = of(HM), day = of(DAY), dayHms = of({...DAY, ...HMS}), dayHm = of({...DAY, ...HM});

export const clock = t => hms.format(t);
// The moment of a point that is step ms long, with its day where a window may hold more than one.
export const moment = (t, step) => (step < 10000 ? hms : step < 60000 ? dayHms : dayHm).format(t);
export const utc = t => new Date(t).toISOString().slice(0, 19).replace('T', ' ') + ' UTC';

// Labels of a time axis whose ticks are incr seconds apart.
export function ticks(splits, incr) {
	let today = '';
	return splits.map(s => {
		const t = s * 1000, d = new Date(t);
		if (incr >= 86400) return day.format(t);
		const midnight = !d.getHours() && !d.getMinutes() && !d.getSeconds();
		if (midnight && today !== (today = day.format(t))) return today;
		return (incr < 60 ? hms : hm).format(t);
	});
}

// "10 s", "5 min": a step as words.
export function span(stepMs) {
	const s = stepMs / 1000;
	return s === 1 ? 'second' : s < 60 ? `${s} s` : s === 60 ? 'minute' : s < 3600 ? `${s / 60} min` : s === 3600 ? 'hour' : `${s / 3600} h`;
}
