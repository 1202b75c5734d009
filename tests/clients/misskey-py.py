"""A working day on a fresh server, with Misskey.py, a library that bots are written with:
    python misskey-py.py ORIGIN
Says each thing it did, and ends with an error at the first that is not so.
"""

import io
import struct
import sys
import zlib

import requests
from misskey import Misskey
from misskey.exceptions import MisskeyAPIException

PASSWORD = "correct horse battery staple"
ORIGIN = sys.argv[1]


def did(what):
    print(f"ok  {what}")


def post(endpoint, **body):
    answer = requests.post(f"{ORIGIN}/api/{endpoint}", json=body, timeout=10)
    answer.raise_for_status()
    return None if answer.status_code == 204 else answer.json()


def picture(colour, size=32):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(colour) * size) * size)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


root = post("admin/accounts/create", username="alice", password=PASSWORD)
post("admin/update-meta", i=root["token"], disableRegistration=False)
bobs = post("signup", username="bob", password=PASSWORD)
alice, bob = Misskey(ORIGIN, i=root["token"]), Misskey(ORIGIN, i=bobs["token"])
assert bob.i()["username"] == "bob"
did("bob signs in")

bob.following_create(root["id"])
assert bob.users_relation(root["id"])[0]["isFollowing"]
did("bob follows alice")

file = alice.drive_files_create(io.BytesIO(picture((200, 40, 40))), name="red.png")
assert (file["type"], file["properties"]["width"]) == ("image/png", 32), file
note = alice.notes_create(text="look at this", file_ids=[file["id"]])["createdNote"]
assert note["fileIds"] == [file["id"]]
shown = requests.get(note["files"][0]["url"], timeout=10)
assert shown.content == picture((200, 40, 40)), "the bytes come back"
again = alice.drive_files_create(io.BytesIO(picture((200, 40, 40))), name="again.png")
assert again["id"] == file["id"], "the same bytes are the same file"
alice.i_update(avatar_id=file["id"])
assert "identicon" not in bob.users_show(user_id=root["id"])["avatarUrl"]
did("alice posts a picture and puts it on her profile")

bob.notes_reactions_create(note["id"], "🎉")
seen = bob.notes_show(note["id"])
assert (seen["reactions"], seen["myReaction"]) == ({"🎉": 1}, "🎉")
bob.notes_favorites_create(note["id"])
assert [item["noteId"] for item in bob.i_favorites()] == [note["id"]]
did("bob reacts and keeps it")

asked = alice.notes_create(text="tea?", poll_choices=["yes", "no"])["createdNote"]
bob.notes_polls_vote(asked["id"], 1)
assert [choice["votes"] for choice in bob.notes_show(asked["id"])["poll"]["choices"]] == [0, 1]
try:
    bob.notes_polls_vote(asked["id"], 0)
    raise AssertionError("one votes once")
except MisskeyAPIException:
    did("bob votes, once")

for n in range(25):
    alice.notes_create(text=f"note {n}")
texts, oldest = [], None
while page := bob.notes_timeline(limit=10, with_files=False, **({"until_id": oldest} if oldest else {})):
    texts += [note["text"] for note in page]
    oldest = page[-1]["id"]
assert texts == [f"note {n}" for n in reversed(range(25))] + ["tea?", "look at this"], texts
did("bob pages through his timeline to its end")

friends = bob.users_lists_create("friends")
bob.users_lists_push(friends["id"], root["id"])
assert bob.users_lists_show(friends["id"])["userIds"] == [root["id"]]
bob.blocking_create(root["id"])
assert not bob.users_relation(root["id"])[0]["isFollowing"]
try:
    alice.following_create(bobs["id"])
    raise AssertionError("who is blocked can't follow")
except MisskeyAPIException:
    bob.blocking_delete(root["id"])
    did("bob keeps a list, and keeps alice away for a while")

told = alice.i_notifications()
assert {"follow", "reaction", "pollVote"} & {item["type"] for item in told} >= {"follow", "reaction"}, told
did("alice is told of it all")
