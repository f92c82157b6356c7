// Before the first paint, so that a dark page never flashes light. Not a module: those wait for the document.
(() => {
	let theme = new URLSearchParams(location.search).get('theme');
	try {
		theme ??= localStorage.getItem('drain.theme');
		// Only who came through the form is offered a way out.
		if (document.currentScript.dataset.login !== undefined) localStorage.setItem('drain.login', '1');
	} catch { /* a browser that keeps nothing */ }
	if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
})();
