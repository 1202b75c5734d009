// A first day on a fresh server, with the library that Misskey's own client uses:
//     node misskey-js.mjs ORIGIN
// Says each thing it did, and ends with an error at the first that is not so.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Stream, acct, api } from 'misskey-js';
import WebSocket from 'ws';
import { Browser } from './browser.mjs';

const HEARD_WITHIN_MS = 30_000;
const PASSWORD = 'correct horse battery staple';

const origin = process.argv[2];
const client = credential => new api.APIClient({ origin, credential });
const did = what => console.log(`ok  ${what}`);

const anyone = client();
const streams = [];
try {
	await firstDay();
} finally {
	for (const stream of streams) stream.close();
}

async function firstDay() {
	const root = await anyone.request('admin/accounts/create', { username: 'alice', password: PASSWORD });
	const alice = client(root.token);
	await alice.request('admin/update-meta', { name: 'First day', disableRegistration: false });
	assert.equal((await anyone.request('meta', { detail: true })).name, 'First day');
	did('the first account is made, and opens the door');

	const bobs = await anyone.request('signup', { username: 'bob', password: PASSWORD });
	assert.equal((await client(bobs.token).request('i')).username, 'bob');
	did('bob signs up');

	const bob = client(await authorize('bob', ['read:account', 'write:notes', 'write:following', 'write:reactions',
		'read:notifications', 'write:notifications', 'write:votes', 'read:following', 'read:reactions']));
	assert.equal((await bob.request('i')).username, 'bob');
	await assert.rejects(bob.request('i/update', { name: 'Robert' }), { code: 'PERMISSION_DENIED' });
	did('an app acts for bob by MiAuth, and only as far as he allowed');

	const alicesEar = await listen(root.token);
	const bobsEar = await listen(bobs.token);
	did('alice and bob listen');

	const followed = alicesEar.next('main', 'followed', user => user.username === 'bob');
	await bob.request('following/create', { userId: root.id });
	await followed;
	assert.equal((await bob.request('users/relation', { userId: root.id }))[0].isFollowing, true);
	did('bob follows alice, and she hears it');

	const atHome = bobsEar.next('homeTimeline', 'note', note => note.text === 'hello bob');
	const inTown = bobsEar.next('localTimeline', 'note', note => note.text === 'hello bob');
	const { createdNote: note } = await alice.request('notes/create', { text: 'hello bob', visibility: 'public' });
	assert.equal((await atHome).id, note.id);
	assert.equal((await inTown).id, note.id);
	for (const timeline of ['timeline', 'local-timeline', 'hybrid-timeline', 'global-timeline']) {
		const [newest] = await bob.request(`notes/${timeline}`, { limit: 1 });
		assert.equal(newest.id, note.id, timeline);
	}
	did('alice writes, and bob hears and reads it everywhere');

	alicesEar.capture(note.id);
	const reacted = alicesEar.heard(update => update.type === 'reacted' && update.id === note.id);
	const told = alicesEar.next('main', 'notification', found => found.type === 'reaction' && found.note.id === note.id);
	await bob.request('notes/reactions/create', { noteId: note.id, reaction: '🎉' });
	assert.equal((await reacted).body.reaction, '🎉');
	assert.equal((await told).user.username, 'bob');
	const seen = await bob.request('notes/show', { noteId: note.id });
	assert.deepEqual([seen.reactions, seen.myReaction], [{ '🎉': 1 }, '🎉']);
	did('bob reacts, and alice sees and hears it');

	const mentioned = bobsEar.next('main', 'mention', mention => mention.replyId === undefined || mention.replyId === null);
	await alice.request('notes/create', { text: '@bob welcome', visibility: 'specified', visibleUserIds: [bobs.id] });
	assert.equal((await mentioned).visibility, 'specified');
	const replied = alicesEar.next('main', 'reply', reply => reply.replyId === note.id);
	await bob.request('notes/create', { text: 'thank you', replyId: note.id });
	assert.equal((await replied).user.username, 'bob');
	const [reply] = await anyone.request('notes/replies', { noteId: note.id });
	assert.equal(reply.text, 'thank you');
	did('they talk in private and in public');

	const { createdNote: asked } = await alice.request('notes/create', { text: 'tea?', poll: { choices: ['yes', 'no'] } });
	alicesEar.capture(asked.id);
	const voted = alicesEar.heard(update => update.type === 'pollVoted');
	await bob.request('notes/polls/vote', { noteId: asked.id, choice: 0 });
	assert.equal((await voted).body.choice, 0);
	const { poll } = await bob.request('notes/show', { noteId: asked.id });
	assert.deepEqual(poll.choices.map(choice => [choice.text, choice.votes, choice.isVoted]), [['yes', 1, true], ['no', 0, false]]);
	did('bob votes');

	const read = bobsEar.next('main', 'readAllNotifications', () => true);
	const unread = await bob.request('i/notifications', { limit: 10, markAsRead: false });
	assert.ok(unread.some(notification => notification.type === 'mention'));
	await bob.request('notifications/mark-all-as-read');
	await read;
	did('bob reads what he was told');

	const gone = alicesEar.heard(update => update.type === 'deleted' && update.id === note.id);
	await alice.request('notes/delete', { noteId: note.id });
	await gone;
	await assert.rejects(bob.request('notes/show', { noteId: note.id }), { code: 'NO_SUCH_NOTE' });
	did('alice takes back what she said');

	const signedIn = await patiently(() => anyone.request('signin-flow', { username: 'bob', password: PASSWORD }));
	assert.deepEqual([signedIn.finished, signedIn.i], [true, bobs.token]);
	did('bob signs in with his password');

	assert.equal(acct.toString(await anyone.request('users/show', { username: 'alice' })), 'alice');
	did('a stranger finds alice');
}

// MiAuth as an app does it: a page for the person, then the token.
async function authorize(username, permissions) {
	const session = randomUUID();
	const browser = new Browser(origin);
	const asked = new URLSearchParams({ name: 'First day', permission: permissions.join(',') });
	let page = await browser.open(`/miauth/${session}?${asked}`);
	assert.equal(page.status, 200, page.html);
	page = await browser.submit(page, { username, password: PASSWORD });
	assert.equal(page.status, 200, page.html);
	page = await browser.submit(page, {}, 'Allow');
	assert.ok(page.status < 400, page.html);
	const answer = await fetch(`${origin}/api/miauth/${session}/check`, { method: 'POST' });
	const { ok, token, user } = await answer.json();
	assert.deepEqual([ok, user.username], [true, username]);
	return token;
}

// A stream with the channels of a usual screen, and ways to wait for what is heard on it.
async function listen(token) {
	const stream = new Stream(origin, { token }, { WebSocket });
	streams.push(stream);
	const channels = Object.fromEntries(
		['main', 'homeTimeline', 'localTimeline'].map(name => [name, stream.useChannel(name)]));
	await once(done => stream.once('_connected_', done), 'the stream opens');
	// Frames are taken in order: once the last channel answers, the others are open too.
	await once(done => {
		stream.on('connected', ({ id }) => id === 'last' && done());
		stream.send('connect', { channel: 'globalTimeline', id: 'last', pong: true });
	}, 'the channels open');
	return {
		next: (channel, event, matches) => once(done => {
			channels[channel].on(event, body => matches(body) && done(body));
		}, `${event} on ${channel}`),
		heard: matches => once(done => {
			stream.on('noteUpdated', body => matches(body) && done(body));
		}, 'an update of a note'),
		capture: id => stream.send('subNote', { id }),
	};
}

// Signing in takes one attempt a second, and each counts.
async function patiently(call) {
	for (const deadline = Date.now() + HEARD_WITHIN_MS; ;) {
		try {
			return await call();
		} catch (error) {
			if (Date.now() > deadline || error.code !== 'RATE_LIMIT_EXCEEDED') throw error;
			await new Promise(resolve => setTimeout(resolve, 1_100));
		}
	}
}

function once(start, what) {
	return new Promise((resolve, reject) => {
		const late = setTimeout(() => reject(new Error(`not heard in time: ${what}`)), HEARD_WITHIN_MS);
		start(value => {
			clearTimeout(late);
			resolve(value);
		});
	});
}
