// Tables that are refreshed in place: a row is known by its key, a cell is written only when it changed. While the
// pointer or the keyboard is in a table its rows keep their places, so that nobody hits another row than he meant.
import {plain} from './format.js';

const canHover = matchMedia('(hover: hover)');

export class Table {
	#rows = new Map();
	#order = [];
	#reset = true;

	// columns: [{name, class, title, sort, cell(row, all) → {text, value, title, bar, mix, filter, wide}}]
	constructor(section, {caption, columns, key, filter, sort, none = 'Nothing in this window.'}) {
		Object.assign(this, {section, columns, key, filter, none});
		const wrap = el('div', 'scroll'), table = this.table = el('table');
		wrap.tabIndex = -1;
		const cap = el('caption', 'hidden');
		cap.textContent = caption;
		const head = el('tr');
		this.heads = columns.map(c => {
			const th = el('th', c.class);
			th.scope = 'col';
			if (c.title) th.title = c.title;
			if (c.sort) {
				const b = el('button');
				b.type = 'button';
				b.textContent = c.name;
				b.addEventListener('click', () => sort(c.sort));
				th.append(b);
			} else th.textContent = c.name;
			head.append(th);
			return th;
		});
		const thead = el('thead');
		thead.append(head);
		this.body = el('tbody');
		table.append(cap, thead, this.body);
		wrap.append(table);
		this.note = el('p', 'note');
		this.note.setAttribute('role', 'status');
		section.append(wrap, this.note);
		this.say('loading …');
	}

	// sorted marks the column that the rows are ordered by.
	sorted(by) {
		this.columns.forEach((c, i) => c.sort && this.heads[i].setAttribute('aria-sort', c.sort === by ? 'descending' : 'none'));
	}

	say(text) {
		set(this.note, text);
		this.note.hidden = !text;
	}

	// fail says in place what went wrong; the rows stay, as old as they are.
	fail(text) {
		this.section.dataset.failed = '';
		this.say(`not up to date: ${text}`);
	}

	// loading dims rows that belong to another question.
	loading() {
		this.#reset = true;
		this.section.setAttribute('aria-busy', 'true');
	}

	// show puts rows in place; without any it says none.
	show(rows, none = this.none) {
		delete this.section.dataset.failed;
		this.section.removeAttribute('aria-busy');
		this.say(rows.length ? '' : none);
		const keyed = new Map(rows.map(r => [this.key(r), r]));
		let order = [...keyed.keys()];
		if (!this.#reset && (canHover.matches && this.table.matches(':hover') || this.body.contains(document.activeElement))) {
			const before = new Set(this.#order);
			order = [...this.#order.filter(k => keyed.has(k)), ...order.filter(k => !before.has(k))];
		}
		this.#reset = false;
		for (const [k, row] of this.#rows) if (!keyed.has(k)) row.tr.remove(), this.#rows.delete(k);
		let next = this.body.firstChild;
		for (const k of order) {
			let row = this.#rows.get(k);
			if (!row) this.#rows.set(k, row = this.#make());
			row.data = keyed.get(k);
			this.columns.forEach((c, i) => fill(row.cells[i], c.cell(row.data, rows)));
			if (row.tr === next) next = next.nextSibling;
			else this.body.insertBefore(row.tr, next);
		}
		this.#order = order;
	}

	#make() {
		const row = {tr: el('tr'), data: null};
		row.cells = this.columns.map((c, i) => {
			const td = el(i === 0 ? 'th' : 'td', c.class), cell = {td, text: td, mix: null};
			if (i === 0) td.scope = 'row';
			if (c.filter) {
				cell.text = el('button');
				cell.text.type = 'button';
				cell.text.addEventListener('click', () => {
					const change = c.filter(row.data);
					if (change) this.filter(change);
				});
				td.append(cell.text);
			}
			row.tr.append(td);
			return cell;
		});
		return row;
	}
}

function fill(cell, {text = '', value, title = '', bar, mix, off}) {
	const {td} = cell;
	if (mix) fillMix(cell, mix);
	else set(cell.text, text);
	if (td.title !== (title = plain(title))) td.title = title;
	if (value !== undefined && td.dataset.value !== String(value)) td.dataset.value = value;
	if (bar !== undefined && cell.bar !== (bar = Math.round(bar * 1000) / 10)) td.style.setProperty('--bar', `${cell.bar = bar}%`);
	if (cell.text !== td && cell.text.disabled !== Boolean(off)) cell.text.disabled = Boolean(off);
}

// A bar of shares, in words for those who do not see it.
function fillMix(cell, parts) {
	if (!cell.mix) {
		cell.mix = el('div', 'mix');
		cell.mix.setAttribute('role', 'img');
		cell.mix.append(...parts.map(p => el('i', `c${p.name}`)));
		cell.td.append(cell.mix);
	}
	parts.forEach((p, i) => {
		const part = cell.mix.children[i];
		if (part.style.flexGrow !== String(p.n)) part.style.flexGrow = p.n;
	});
	const words = parts.filter(p => p.n).map(p => `${p.name} ${p.n}`).join(', ');
	if (cell.mix.title !== words) cell.mix.title = words, cell.mix.setAttribute('aria-label', words);
}

export function el(name, cls) {
	const e = document.createElement(name);
	if (cls) e.className = cls;
	return e;
}

export function set(e, text) {
	text = plain(text);
	if (e.textContent !== text) e.textContent = text;
}
