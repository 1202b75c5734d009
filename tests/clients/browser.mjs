// A browser without script: follows redirects, keeps cookies, fills in forms.

const MAX_REDIRECTS = 10;

export class Browser {
	#origin;
	#cookies = new Map();

	constructor(origin) {
		this.#origin = origin;
	}

	open(address) {
		return this.#request(new URL(address, this.#origin), { method: 'GET' });
	}

	// Sends the first form of a page that has all the named fields, as its (named) button would.
	submit(page, fields, button) {
		const form = forms(page.html).find(form => Object.keys(fields).every(name => form.fields.has(name))
			&& (button === undefined || form.buttons.some(found => found.label === button)));
		if (form === undefined) throw new Error(`no form with ${Object.keys(fields)} on ${page.url}:\n${page.html}`);
		const values = new URLSearchParams([...form.fields, ...Object.entries(fields)].reduce(
			(all, [name, value]) => ({ ...all, [name]: value }), {}));
		const pressed = form.buttons.find(found => button === undefined || found.label === button);
		if (pressed?.name) values.set(pressed.name, pressed.value);
		const target = new URL(form.action || page.url, page.url);
		if (form.method !== 'post') {
			target.search = values;
			return this.#request(target, { method: 'GET' });
		}
		return this.#request(target, { method: 'POST', body: values });
	}

	async #request(url, options) {
		for (let hop = 0; hop < MAX_REDIRECTS; hop++) {
			const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
			const headers = { accept: 'text/html', origin: this.#origin, ...(cookie ? { cookie } : {}) };
			const response = await fetch(url, { ...options, headers, redirect: 'manual' });
			for (const line of cookieLines(response.headers)) this.#keep(line);
			const location = response.headers.get('location');
			if (response.status < 300 || response.status > 399 || location === null) {
				return { url: url.href, status: response.status, html: await response.text() };
			}
			url = new URL(location, url);
			options = { method: 'GET' };
			if (url.origin !== this.#origin) return { url: url.href, status: response.status, html: '' };
		}
		throw new Error(`too many redirects, the last to ${url}`);
	}

	#keep(line) {
		const [pair] = line.split(';');
		const at = pair.indexOf('=');
		const [name, value] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
		if (value === '' || /max-age=0/i.test(line)) this.#cookies.delete(name);
		else this.#cookies.set(name, value);
	}
}

/** Debian's Node 18 has no `getSetCookie`: there, the lines come as one, with commas between them. */
function cookieLines(headers) {
	return headers.getSetCookie?.() ?? (headers.get('set-cookie') ?? '').split(/, (?=[\w-]+=)/).filter(line => line !== '');
}

function forms(html) {
	return [...html.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gs)].map(([, attributes, inner]) => {
		const inputs = [...inner.matchAll(/<input\b([^>]*)>/g)].map(([, input]) => input);
		const buttons = [...inner.matchAll(/<button\b([^>]*)>(.*?)<\/button>/gs)];
		return {
			action: attribute(attributes, 'action'),
			method: (attribute(attributes, 'method') ?? 'get').toLowerCase(),
			fields: new Map(inputs.filter(input => attribute(input, 'name'))
				.map(input => [attribute(input, 'name'), attribute(input, 'value') ?? ''])),
			buttons: buttons.map(([, button, label]) => ({
				name: attribute(button, 'name'),
				value: attribute(button, 'value') ?? '',
				label: unescape(label.replace(/<[^>]*>/g, '').trim()),
			})),
		};
	});
}

function attribute(text, name) {
	const found = new RegExp(`\\b${name}="([^"]*)"`).exec(text) ?? new RegExp(`\\b${name}=([^\\s>]+)`).exec(text);
	return found === null ? undefined : unescape(found[1]);
}

function unescape(text) {
	return text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
}
