// A working day on a fresh server, with megalodon, the library of Whalebird and Fedistar. It knows Misskey's API by
// the name of a server that was made from it:
//     node megalodon.mjs ORIGIN
// Says each thing it did, and ends with an error at the first that is not so.

import assert from 'node:assert/strict';
import { createReadStream, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import generator from 'megalodon';
import { Browser } from './browser.mjs';

const HEARD_WITHIN_MS = 30_000;
// A PNG of 32 by 32 pixels.
const PICTURE = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mPQqDhBU8QwasGoBaMWjFowasGoBaMWjFowasGoBaMWDBULAIuXoExJIezsAAAAAElFTkSuQmCC', 'base64');
const PASSWORD = 'correct horse battery staple';

const origin = process.argv[2];
const client = token => (generator.default ?? generator)('firefish', origin, token);
const did = what => console.log(`ok  ${what}`);

const root = await post('admin/accounts/create', { username: 'alice', password: PASSWORD });
await post('admin/update-meta', { i: root.token, disableRegistration: false });
await post('signup', { username: 'bob', password: PASSWORD });
const alice = client(root.token);
const bob = client(await authorize('bob'));
const { data: me } = await bob.verifyAccountCredentials();
assert.equal(me.username, 'bob');
did('bob signs in by way of an app');

await bob.followAccount(root.id);
const { data: [follower] } = await bob.getAccountFollowers(root.id);
assert.equal(follower.username, 'bob');
did('bob follows alice');

// `userStreaming` finds the address by Mastodon's /api/v1/instance; apps would take whoever answers there for Mastodon.
const ear = bob.client.socket(`${origin.replace(/^http/, 'ws')}/streaming`, 'user');
await heard(ear, 'connect', () => true);
// The library answers when the socket is open, and asks for its channel then: what comes first may be missed.
const { data: { media, status } } = await listening(async () => {
	const media = (await alice.uploadMedia(picture())).data;
	const status = (await alice.postStatus('look at this', { media_ids: [media.id] })).data;
	return { data: { media, status } };
});
assert.equal(status.media_attachments[0].id, media.id);
const shown = await fetch(media.url);
assert.deepEqual([shown.status, shown.headers.get('content-type')], [200, 'image/png']);
did('alice posts a picture, and bob hears it at once');

const { data: [first] } = await bob.getHomeTimeline({ limit: 1 });
assert.equal(first.id, status.id);
const { data: reacted } = await bob.createEmojiReaction(status.id, '🎉');
assert.deepEqual(reacted.emoji_reactions.map(({ name, count, me }) => [name, count, me]), [['🎉', 1, true]]);
await bob.favouriteStatus(status.id);
did('bob reads it and reacts');

const { data: asked } = await alice.postStatus('tea?', { poll: { options: ['yes', 'no'], expires_in: 3_600_000 } });
const { data: poll } = await bob.votePoll(asked.poll.id, [0], asked.id);
assert.deepEqual(poll.options.map(({ votes_count }) => votes_count), [1, 0]);
did('bob votes');

for (let n = 0; n < 25; n++) await alice.postStatus(`note ${n}`);
const texts = [];
for (let oldest; ;) {
	const { data: page } = await bob.getHomeTimeline({ limit: 10, ...(oldest && { max_id: oldest }) });
	if (page.length === 0) break;
	texts.push(...page.map(status => status.plain_content));
	oldest = page.at(-1).id;
}
assert.deepEqual(texts.slice(0, 25), Array.from({ length: 25 }, (_, n) => `note ${24 - n}`));
assert.deepEqual(texts.slice(25), ['tea?', 'look at this']);
did('bob pages through his timeline to its end');

const { data: told } = await alice.getNotifications({ limit: 20 });
assert.ok(told.some(notification => notification.type === 'follow'));
assert.ok(told.some(notification => notification.type.includes('reaction')), told.map(found => found.type).join());
did('alice is told of it all');

await bob.muteAccount(root.id, false);
assert.deepEqual((await bob.getHomeTimeline({ limit: 10 })).data, []);
await bob.unmuteAccount(root.id);
assert.equal((await bob.getHomeTimeline({ limit: 10 })).data.length, 10);
did('bob has had enough for a while');
ear.stop();
process.exit(0);

// Uploads have a name when they come from a file.
function picture() {
	const path = join(mkdtempSync(join(tmpdir(), 'megalodon-')), 'blue.png');
	writeFileSync(path, PICTURE);
	return createReadStream(path);
}

async function post(endpoint, body) {
	const headers = { 'content-type': 'application/json' };
	const answer = await fetch(`${origin}/api/${endpoint}`, { method: 'POST', headers, body: JSON.stringify(body) });
	assert.ok(answer.ok, `${endpoint}: ${answer.status}`);
	return answer.status === 204 ? undefined : answer.json();
}

// The way of apps before MiAuth: registered, sent to a page, let in.
async function authorize(username) {
	const app = await client(null).registerApp('Working day', {});
	const browser = new Browser(origin);
	let page = await browser.open(new URL(app.url).pathname);
	page = await browser.submit(page, { username, password: PASSWORD });
	page = await browser.submit(page, {}, 'Allow');
	assert.ok(page.status < 400, page.html);
	return (await client(null).fetchAccessToken(null, app.client_secret, app.session_token)).access_token;
}

// What `act` posts is heard by bob; notes before it may be needed until his channel is open.
async function listening(act) {
	const open = heard(ear, 'update', status => status.plain_content === 'are you there?');
	const knocks = [];
	const knocking = setInterval(() => knocks.push(alice.postStatus('are you there?').catch(() => {})), 500);
	await open.finally(() => clearInterval(knocking));
	// Those that are on their way would come between what is posted later.
	await Promise.all(knocks);
	const next = heard(ear, 'update', status => status.plain_content === 'look at this');
	const done = await act();
	assert.equal((await next).id, done.data.status.id);
	for (const { id } of (await bob.getHomeTimeline({ limit: 40 })).data.filter(s => s.plain_content === 'are you there?')) {
		await alice.deleteStatus(id);
		// One may be deleted a second.
		await new Promise(resolve => setTimeout(resolve, 1_100));
	}
	return done;
}

function heard(source, event, matches) {
	return new Promise((resolve, reject) => {
		const late = setTimeout(() => reject(new Error(`not heard in time: ${event}`)), HEARD_WITHIN_MS);
		source.on(event, body => {
			if (!matches(body)) return;
			clearTimeout(late);
			resolve(body);
		});
	});
}
